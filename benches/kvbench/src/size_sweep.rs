//! What a get, a put and a row of a scan cost by the size of the tree, with everything in memory.
//!
//! Invariant: all sizes take turns in one run, by one thread; every answer is looked at. A step to ten times the rows is to cost no more than
//! the logarithm grows by; what it costs beyond that is memory that is further away from the processor.
//!
//! Keys are computed from their number, and sorted as their numbers are: no list of them stands beside the tree in the cache.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::peers::visible::{Ours, Visible};
use crate::writers::mix;
use crate::{BenchResult, in_new_dir, quartiles};

const VALUE: usize = 100;
/// Bytes of a row in a full node, and of a pool beside its rows.
const ROW_BYTES: u64 = 150;
const POOL_REST: u64 = 64 << 20;
/// Operations that are drawn at once.
const BATCH: u64 = 1024;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet; removed at the end. It takes 130 bytes a row, the memory 150.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 and 100 bytes, smallest size first; 50000000 takes 8 GB of memory.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// Turns of each size with each operation.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 200)]
    turn_ms: u64,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

#[derive(Clone, Copy)]
enum Op {
    Get,
    Put,
    Scan,
}

const OPS: [(Op, &str); 3] = [(Op::Get, "get"), (Op::Put, "put"), (Op::Scan, "row of a scan")];

struct Sized {
    rows: u64,
    store: Ours,
    height: u32,
    /// Nanoseconds by operation, in each round.
    costs: [Vec<f64>; 3],
}

fn all(args: &Args) -> BenchResult<()> {
    let mut sizes =
        args.sizes.iter().map(|rows| Sized::load(args, *rows)).collect::<BenchResult<Vec<_>>>()?;
    let turn = Duration::from_millis(args.turn_ms);
    // The first round warms up.
    for round in 0..=args.rounds {
        for (index, (op, _)) in OPS.into_iter().enumerate() {
            for size in &mut sizes {
                let cost = size.turn(op, round as u64, turn)?;
                if round > 0 {
                    size.costs[index].push(cost);
                }
            }
        }
    }
    println!(
        "Rows of 16 + {VALUE} bytes, one thread, {} rounds by turns of {} ms: nanoseconds each, medians of the rounds, in brackets the \
         quartiles; beside them the ratio to the size before, and that of the logarithms.\n",
        args.rounds, args.turn_ms
    );
    println!("| | rows | levels | ns | over the size before | logarithms |\n|---|---|---|---|---|---|");
    for (index, (_, name)) in OPS.into_iter().enumerate() {
        for (place, size) in sizes.iter().enumerate() {
            let [low, cost, high] = quartiles(size.costs[index].iter().copied());
            let beside = match place.checked_sub(1).map(|place| &sizes[place]) {
                None => " | ".into(),
                Some(before) => {
                    let each =
                        size.costs[index].iter().zip(&before.costs[index]).map(|(here, there)| here / there);
                    let logarithms = (size.rows as f64).ln() / (before.rows as f64).ln();
                    format!("{:.2} | {logarithms:.2}", quartiles(each)[1])
                }
            };
            println!(
                "| {name} | {} | {} | {cost:.1} [{low:.1} to {high:.1}] | {beside} |",
                size.rows, size.height
            );
        }
    }
    sizes.into_iter().try_for_each(|size| size.store.close())
}

impl Sized {
    fn load(args: &Args, rows: u64) -> BenchResult<Self> {
        let pool = (rows * ROW_BYTES + POOL_REST) as usize;
        let store = Ours::create(&args.dir.join(rows.to_string()), pool)?;
        let loaded = store.tree().bulk_load((0..rows).map(|number| (key(number, rows), value(number, 0))))?;
        // All of it comes into the pool, and every hint is fresh, before anything is measured.
        let mut scanned = 0;
        store.scan(&[], &mut |_, found| {
            check(scanned, found)?;
            scanned += 1;
            Ok(true)
        })?;
        if (loaded.entries, scanned) != (rows, rows) {
            return Err(format!("{} rows were loaded, {scanned} scanned, of {rows}", loaded.entries).into());
        }
        let height = store.tree().shape()?.height;
        Ok(Self { rows, store, height, costs: Default::default() })
    }

    /// Nanoseconds each.
    fn turn(&self, op: Op, round: u64, turn: Duration) -> BenchResult<f64> {
        let misses = self.store.misses()?;
        let (mut random, mut scratch) = (mix(round), Vec::new());
        let (mut took, mut done) = (Duration::ZERO, 0);
        while took < turn {
            let from = Instant::now();
            for _ in 0..BATCH {
                random = mix(random);
                let number = random % self.rows;
                let key = key(number, self.rows);
                match op {
                    Op::Get => self.store.get(&key, &mut scratch, &mut |found| {
                        check(number, found.ok_or_else(|| format!("key {number} is gone"))?)
                    })?,
                    Op::Put => self.store.put(&key, &value(number, round))?,
                    Op::Scan => {
                        done += self.scan(number)?;
                        break;
                    }
                }
            }
            took += from.elapsed();
            done += if matches!(op, Op::Scan) { 0 } else { BATCH };
        }
        match self.store.misses()? - misses {
            0 => Ok(took.as_nanos() as f64 / done as f64),
            misses => Err(format!("{misses} pages of {} rows were not resident", self.rows).into()),
        }
    }

    /// Some ten thousand rows in a row; gives how many.
    fn scan(&self, first: u64) -> BenchResult<u64> {
        let end = (first + 10 * BATCH).min(self.rows);
        let mut number = first;
        self.store.scan(&key(first, self.rows), &mut |key, found| {
            black_box(key);
            check(number, found)?;
            number += 1;
            Ok(number < end)
        })?;
        if number == end { Ok(end - first) } else { Err(format!("a scan ended at {number}").into()) }
    }
}

/// Evenly spaced, with chance in between.
fn key(number: u64, rows: u64) -> [u8; 16] {
    let space = u64::MAX / rows;
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(number * space + mix(number) % space).to_be_bytes());
    key[8..].copy_from_slice(&mix(!number).to_be_bytes());
    key
}

fn value(number: u64, version: u64) -> [u8; VALUE] {
    let mut value = [version as u8; VALUE];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

fn check(number: u64, found: &[u8]) -> BenchResult<()> {
    if found.len() == VALUE && found.starts_with(&number.to_le_bytes()) {
        Ok(())
    } else {
        Err(format!("key {number} has another one's value").into())
    }
}
