//! Scans and loads: all rows in both directions from memory, all rows from the disk, and all rows to the disk.
//!
//! ```text
//!   seen.rs       what a scan saw, held against the rows that were put
//!   resident.rs   everything in memory, beside LMDB, redb, a map and `memcpy`
//!   cold.rs       a store just opened, its pool a tenth of the data, beside raw reads of the same file
//!   load.rs       `bulk_load` into a new store, beside raw writes of as many bytes
//! ```
//!
//! Invariant: who is compared takes turns, each round begins with the next one, and a ratio is the median of the rounds'. Every side of
//! a scan looks at each key and value by the same code and is held to the same sum and order.

mod cold;
mod load;
mod resident;
mod seen;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pagestone::store::{Durability, Options, Store};

pub(crate) use self::seen::{Direction, Seen};
use crate::writers::{key, value};
use crate::{BenchResult, in_new_dir, quartiles};

const KEY: usize = 16;
const VALUE: usize = 100;
const PAGE: u64 = 4096;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end. It takes 500 bytes a row, the memory 800.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 and 100 bytes; loads are also of a quarter of them.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Turns of each.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long a turn in memory takes at least, in milliseconds; it ends with a whole scan.
    #[arg(long, default_value_t = 200)]
    turn_ms: u64,
    /// One part alone.
    #[arg(long)]
    only: Option<Part>,
    /// Without the map and other stores.
    #[arg(long)]
    alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Resident,
    Cold,
    Load,
}

/// A row.
type Row = ([u8; KEY], [u8; VALUE]);

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    println!(
        "{} rows of {KEY} + {VALUE} bytes in the order of their keys, loaded by `bulk_load`; {} rounds by turns, 1 thread. Rates are medians of \
         the rounds, in brackets the quartiles; a ratio is the median of the rounds'.",
        args.rows, args.rounds
    );
    let mut keys: Vec<[u8; KEY]> = (0..args.rows).map(key).collect();
    keys.sort_unstable();
    let row = |key: [u8; KEY]| {
        let mut bytes = [0; VALUE];
        bytes.copy_from_slice(&value(&key, 0, VALUE));
        (key, bytes)
    };
    let rows: Vec<Row> = keys.into_iter().map(row).collect();
    let wanted = |part| args.only.is_none_or(|only| only == part);
    if wanted(Part::Resident) {
        resident::run(args, &rows)?;
    }
    if wanted(Part::Cold) {
        cold::run(args, &rows)?;
    }
    if wanted(Part::Load) {
        load::run(args, &rows)?;
    }
    Ok(())
}

/// Opens a store; a new one is empty.
fn open(dir: &Path, pool_bytes: u64) -> BenchResult<Store> {
    let options =
        Options { pool_bytes: pool_bytes as usize, durability: Durability::RELAXED, ..Options::default() };
    Ok(Store::open(dir, options)?)
}

fn bulk_load(store: &Store, rows: &[Row]) -> BenchResult<()> {
    let loaded = store.default_tree().bulk_load(rows.iter().map(|(key, value)| (&key[..], &value[..])))?;
    if loaded.entries == rows.len() as u64 {
        Ok(())
    } else {
        Err(format!("{} of {} rows were loaded", loaded.entries, rows.len()).into())
    }
}

/// Ratios of rounds, with the goal.
fn ratio(ratios: impl Iterator<Item = f64>, goal: f64) -> String {
    let [low, ratio, high] = quartiles(ratios);
    let verdict = if ratio >= goal { "met" } else { "MISSED" };
    format!("{ratio:.3} [{low:.3} to {high:.3}], goal {goal} {verdict}")
}

/// Bytes a second in MB.
fn rate(bytes: u64, times: &[Duration]) -> String {
    let [low, rate, high] = quartiles(times.iter().map(|took| bytes as f64 / 1e6 / took.as_secs_f64()));
    format!("{rate:.0} [{low:.0} to {high:.0}]")
}

/// How many times as long the others took, round by round.
fn over<'t>(others: &'t [Duration], ours: &'t [Duration]) -> impl Iterator<Item = f64> + 't {
    others.iter().zip(ours).map(|(other, own)| other.as_secs_f64() / own.as_secs_f64())
}
