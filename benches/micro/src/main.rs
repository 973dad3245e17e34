//! Benches of the layers one by one, each beside what the machine itself can do. A bench measures, and asserts that what it reads
//! is right; it never asserts a time.
//!
//! Invariant: what is compared runs in one process, by turns, in every round in another order; a ratio is the median of the ratios
//! of the rounds, so that a noisy minute spoils some rounds of both sides and not one side.
//!
//! ```text
//!   rounds.rs     contenders by turns, medians and quartiles, a table
//!   checksum.rs   a page verified, over a page copied
//!   file.rs       pages read and written, over raw reads and writes
//!   pool.rs       a resident page fetched, over a map behind a lock
//!   ids/          page ids allocated, freed and made durable; how they are packed, over best fit
//!   swips.rs      a resident page read by a swip, over a pointer; hits beside evictions; what an eviction costs
//!   faults.rs     pages that are not resident, over raw reads
//!   mapped.rs     mapped pages allocated, committed, read, opened, grown
//!   raw/          the raw loops: what the device gives               unsafe
//!   peers/        page-db and mappedpages in the same contests       feature `peers`
//! ```
#![deny(unsafe_code)] // raw/linux.rs opts out: it feeds a ring by hand

mod checksum;
mod faults;
mod file;
mod ids;
mod mapped;
mod peers;
mod pool;
mod raw;
mod rounds;
mod swips;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Ratios of the layers, as tables in Markdown.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to make the files that are read and written: a directory on the disk in question.
    #[arg(long)]
    dir: PathBuf,
    /// How often everything gets its turn.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 100)]
    turn_ms: u64,
    /// MiB of data that count as past the cache.
    #[arg(long, default_value_t = 1024)]
    memory_mib: usize,
    /// MiB of the file whose pages are read and written.
    #[arg(long, default_value_t = 512)]
    file_mib: u64,
    /// Only these layers.
    #[arg(long, value_enum)]
    only: Vec<Layer>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Layer {
    Checksum,
    File,
    Pool,
    Ids,
    Swips,
    Faults,
    Mapped,
}

impl Args {
    fn wants(&self, layer: Layer) -> bool {
        self.only.is_empty() || self.only.contains(&layer)
    }

    fn turn(&self) -> Duration {
        Duration::from_millis(self.turn_ms)
    }
}

/// What a bench fails with: a layer, the disk, or a wrong answer.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn run(args: &Args) -> BenchResult<()> {
    println!(
        "{} rounds by turns of {} ms; rates are medians, in brackets the quartiles; a ratio is the median of the rounds'.",
        args.rounds, args.turn_ms
    );
    if args.wants(Layer::Checksum) {
        checksum::run(args)?;
    }
    if args.wants(Layer::File) {
        file::run(args)?;
    }
    if args.wants(Layer::Pool) {
        pool::run(args)?;
    }
    if args.wants(Layer::Ids) {
        ids::run(args)?;
    }
    if args.wants(Layer::Swips) {
        swips::run(args)?;
    }
    if args.wants(Layer::Faults) {
        faults::run(args)?;
    }
    if args.wants(Layer::Mapped) {
        mapped::run(args)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}
