//! Benches of whole stores. A bench measures, and asserts that what it reads is right; it never asserts a time.
//!
//! Invariant: what is compared runs in one process and one run, by turns, and what the disk can do is measured in it too.
//!
//! ```text
//!   checkpoint-latency   writes with and without continuous checkpoints, and the disk's own syncs at that time
//!   recovery             opening after a kill, beside raw reads of the same log and the same pages
//!   durable-puts         1 to 64 clients that wait until each put is durable, beside the disk, a bare log and other stores
//!   log-bytes            what the log holds for each byte of a user's, by kind of record
//!   write-out            a checkpoint beside raw writes of as many pages, those of the double-write counted
//!   space                the data file beside live bytes: loaded, churned, half deleted, compacted
//!   resident             point lookups with everything in memory, beside a map and LMDB
//!   resident-writes      puts, half gets and half puts, gets and scans with everything in memory, beside a map and other stores
//!   size-sweep           what a get, a put and a row of a scan cost by the size of the tree
//!   beyond-memory        point lookups in a store that is many times its pool, beside raw reads
//!   puts-beyond-memory   random puts and short scans in such a store, beside other stores with as much memory
//!   pool-tax             the same by swips, by the pool's table, and over the same nodes in plain memory
//!   scans                all rows by a cursor, in memory and from the disk, and sorted rows loaded, beside `memcpy` and the disk
//! ```
#![deny(unsafe_code)] // peers/lmdb.rs opts out: its crate opens a map of a file, and leaves to the caller that nobody cuts it

mod beyond_memory;
mod checkpoint_latency;
mod durable_puts;
mod log_bytes;
mod peers;
mod probe;
mod puts_beyond_memory;
mod recovery;
mod resident;
mod resident_writes;
mod scans;
mod size_sweep;
mod space;
mod threads;
mod write_out;
mod writers;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Benches of whole stores.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Latency of writes with continuous checkpoints and without any, by turns in one run.
    CheckpointLatency(checkpoint_latency::Args),
    /// Time to open after a kill, by the size of the log and of the store, beside raw reads of the same log and pages.
    Recovery(recovery::Args),
    /// What `recovery` kills: puts keys until the log has a length, then waits.
    #[command(hide = true)]
    RecoveryWriter(recovery::WriterArgs),
    /// What `recovery` measures: opens a store and tells what that took.
    #[command(hide = true)]
    RecoveryOpener(recovery::OpenerArgs),
    /// Puts that return once they are durable, by 1 to 64 clients, beside raw writes, a bare log and other stores.
    DurablePuts(durable_puts::Args),
    /// Bytes of the log for updates, inserts and deletes, by kind of record.
    LogBytes(log_bytes::Args),
    /// A checkpoint that writes many pages, beside raw writes of as many.
    WriteOut(write_out::Args),
    /// How large the data file is beside what is in it, and what a compaction makes of it.
    Space(space::Args),
    /// Point lookups with everything in memory, beside a map behind a lock and LMDB.
    Resident(resident::Args),
    /// Puts, half gets and half puts, gets and scans with everything in memory, beside a map and other stores.
    ResidentWrites(resident_writes::Args),
    /// What a get, a put and a row of a scan cost, by the size of the tree.
    SizeSweep(size_sweep::Args),
    /// What the pool costs: a tree walked by swips, by the pool's table, and in plain memory.
    PoolTax(resident::tax::Args),
    /// Point lookups in a store that is many times its pool, beside raw reads.
    BeyondMemory(beyond_memory::Args),
    /// Random puts and short scans in a store that is many times its pool, beside other stores with as much memory.
    PutsBeyondMemory(puts_beyond_memory::Args),
    /// Full scans in memory and from the disk, and bulk loads, beside `memcpy`, raw reads and writes, and other stores.
    Scans(scans::Args),
}

/// What a bench fails with: the store, the disk, or a wrong answer.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The middle one; of an even number the higher of the two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The lower quartile, the median, the upper quartile.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[((sorted.len() - 1) * quarter + 2) / 4])
}

/// Time that all threads of this process had a processor, as Linux counts it, in hundredths of a second.
fn cpu_of_process() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Makes a directory, works in it, and removes it whatever came of that; the work's error is told before that of the removal.
fn in_new_dir(dir: &Path, work: impl FnOnce() -> BenchResult<()>) -> BenchResult<()> {
    std::fs::create_dir(dir)?;
    let result = work();
    let removed = std::fs::remove_dir_all(dir);
    result?;
    Ok(removed?)
}

fn main() -> ExitCode {
    let result = match Args::parse().bench {
        Bench::CheckpointLatency(args) => checkpoint_latency::run(&args),
        Bench::Recovery(args) => recovery::run(&args),
        Bench::RecoveryWriter(args) => recovery::write(&args),
        Bench::RecoveryOpener(args) => recovery::open(&args),
        Bench::DurablePuts(args) => durable_puts::run(&args),
        Bench::LogBytes(args) => log_bytes::run(&args),
        Bench::WriteOut(args) => write_out::run(&args),
        Bench::Space(args) => space::run(&args),
        Bench::Resident(args) => resident::run(&args),
        Bench::ResidentWrites(args) => resident_writes::run(&args),
        Bench::SizeSweep(args) => size_sweep::run(&args),
        Bench::BeyondMemory(args) => beyond_memory::run(&args),
        Bench::Scans(args) => scans::run(&args),
        Bench::PutsBeyondMemory(args) => puts_beyond_memory::run(&args),
        Bench::PoolTax(args) => resident::tax::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvbench: {error}");
            ExitCode::FAILURE
        }
    }
}
