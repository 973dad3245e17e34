//! How large the data file is beside what is in it: after loads, after entries have come and gone, after half are gone, after a compaction.
//!
//! Live bytes are those of keys and values. The file is measured as it is, with the superblock, the space map, what is free in it and what
//! growth has reserved. Rows are of 16 + 100 bytes, of which 31 or 32 fit a page of 4 KiB: so 1.14 is the least that any file can have. What is in use
//! is told apart from what is free in the file: by `verify`, which also says that nothing is wrong.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pagestone::store::{AutoCompact, Durability, Options, Store, Tree};

use crate::writers::{mix, value};
use crate::{BenchResult, in_new_dir};

const VALUE: usize = 100;
const ROW: u64 = 16 + VALUE as u64;
/// G19: after a load, and after half was deleted and the rest compacted.
const GOALS: [f64; 2] = [1.3, 1.15];

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Rows that are loaded.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Rows that come, and as many that go, while so many stay; for each row that is loaded.
    #[arg(long, default_value_t = 2)]
    turns: u64,
    /// Bytes that the background may log, to take space back, for every hundred that others log; none: it takes nothing back.
    #[arg(long, default_value_t = DEFAULT_PERCENT)]
    log_percent: u32,
}

/// What the store does by itself.
const DEFAULT_PERCENT: u32 = match DEFAULT {
    AutoCompact::Paced { log_percent } => log_percent,
    AutoCompact::Off => 0,
};
const DEFAULT: AutoCompact = AutoCompact::DEFAULT;

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

/// In the order of the numbers.
fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&mix(number).to_be_bytes());
    key
}

struct Bench {
    store: Store,
    tree: Tree,
    /// Numbers of the rows that are there.
    rows: Vec<u64>,
}

fn all(args: &Args) -> BenchResult<()> {
    println!(
        "## The data file beside live bytes, {} rows of {ROW} bytes\n\n\
         | step | file, MiB | pages in use, MiB | live, MiB | in use over live | file over live | goal | took, s | a second | log so far, MiB | of it to take space back, MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|",
        args.keys
    );
    {
        let mut bench = Bench::open(args, "in-order")?;
        let took = bench.timed(|bench| bench.put(0..args.keys, |number| number))?;
        bench.row("load in key order", Some(GOALS[0]), took, args.keys)?;
    }
    std::fs::remove_dir_all(args.dir.join("in-order"))?;
    let mut bench = Bench::open(args, "at-random")?;
    let took = bench.timed(|bench| bench.put(0..args.keys, mix))?;
    bench.row("load in random order", Some(GOALS[0]), took, args.keys)?;
    let took = bench.timed(Bench::rest)?;
    bench.row("at rest", Some(GOALS[0]), took, args.keys)?;
    let turns = args.turns * args.keys;
    let took = bench.timed(|bench| bench.churn(args.keys, turns))?;
    bench.row("as many come and go, at random places", Some(GOALS[0]), took, turns)?;
    let took = bench.timed(Bench::rest)?;
    bench.row("at rest", Some(GOALS[0]), took, args.keys)?;
    let took = bench.timed(Bench::delete_half)?;
    bench.row("half deleted, at random places", None, took, args.keys / 2)?;
    let pages = bench.store.stats()?.data_pages;
    let log = bench.store.stats()?.log.bytes_written;
    let began = Instant::now();
    let report = bench.store.compact()?;
    let took = began.elapsed();
    bench.row("compacted (pages a second)", Some(GOALS[1]), took, pages)?;
    let log = bench.store.stats()?.log.bytes_written - log;
    println!(
        "\nThe compaction freed {} pages and moved {}, of {pages}; it wrote {} MiB to the log.",
        report.freed_pages,
        report.moved_pages,
        log >> 20
    );
    bench.check()?;
    Ok(bench.store.close()?)
}

impl Bench {
    fn open(args: &Args, name: &str) -> BenchResult<Self> {
        let options = Options {
            pool_bytes: 1 << 30,
            log_bytes: 1 << 30,
            durability: Durability::RELAXED,
            auto_compact: match args.log_percent {
                0 => AutoCompact::Off,
                log_percent => AutoCompact::Paced { log_percent },
            },
            ..Options::default()
        };
        let store = Store::open(args.dir.join(name), options)?;
        Ok(Self { tree: store.default_tree(), store, rows: Vec::new() })
    }

    fn timed(&mut self, work: impl FnOnce(&mut Self) -> BenchResult<()>) -> BenchResult<Duration> {
        let began = Instant::now();
        work(self)?;
        let took = began.elapsed();
        // What a store at rest comes to by itself.
        self.store.checkpoint()?;
        self.store.checkpoint()?;
        Ok(took)
    }

    fn put(&mut self, numbers: impl Iterator<Item = u64>, place: impl Fn(u64) -> u64) -> BenchResult<()> {
        for number in numbers.map(place) {
            self.tree.put(&key(number), &value(&key(number), 1, VALUE))?;
            self.rows.push(number);
        }
        Ok(())
    }

    fn churn(&mut self, from: u64, turns: u64) -> BenchResult<()> {
        for turn in 0..turns {
            let at = (mix(!turn) % self.rows.len() as u64) as usize;
            let (old, new) = (self.rows[at], mix(from + turn));
            self.tree.remove(&key(old))?;
            self.tree.put(&key(new), &value(&key(new), 1, VALUE))?;
            self.rows[at] = new;
        }
        Ok(())
    }

    fn rest(&mut self) -> BenchResult<()> {
        come_to_rest(&self.store)
    }

    fn delete_half(&mut self) -> BenchResult<()> {
        for turn in 0..self.rows.len() as u64 / 2 {
            let at = (mix(turn ^ 0x5555_5555) % self.rows.len() as u64) as usize;
            self.tree.remove(&key(self.rows.swap_remove(at)))?;
        }
        Ok(())
    }

    fn row(&self, step: &str, goal: Option<f64>, took: Duration, of: u64) -> BenchResult<()> {
        let found = self.store.verify()?;
        if !found.is_sound() {
            return Err(format!("not sound: {:?}", found.findings.first()).into());
        }
        let (file, size) = (found.bytes, self.store.stats()?.page_size);
        let in_use = (found.pages - found.free_pages) * size;
        let live = self.rows.len() as u64 * ROW;
        let ratio = file as f64 / live as f64;
        let goal = goal
            .map_or(String::new(), |goal| format!("{goal} {}", if ratio <= goal { "met" } else { "MISSED" }));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let stats = self.store.stats()?;
        println!(
            "| {step} | {:.1} | {:.1} | {:.1} | {:.3} | {ratio:.3} | {goal} | {:.2} | {:.0} | {:.0} | {:.0} |",
            mib(file),
            mib(in_use),
            mib(live),
            in_use as f64 / live as f64,
            took.as_secs_f64(),
            of as f64 / took.as_secs_f64(),
            mib(stats.log.bytes_written),
            mib(stats.auto_compact.log_bytes),
        );
        Ok(())
    }

    /// Every row is there with its own value, and no other.
    fn check(&self) -> BenchResult<()> {
        for number in &self.rows {
            let found = self.tree.get(&key(*number))?;
            if found.is_none_or(|found| found[..16] != key(*number)) {
                return Err(format!("key {number} is gone, or has another one's value").into());
            }
        }
        let len = self.tree.len()?;
        if len != self.rows.len() as u64 {
            return Err(format!("{} rows expected, {len} found", self.rows.len()).into());
        }
        Ok(())
    }
}

/// Waits until the background finds nothing more to do.
pub(crate) fn come_to_rest(store: &Store) -> BenchResult<()> {
    let mut before = store.stats()?.auto_compact;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = store.stats()?.auto_compact;
        if std::mem::replace(&mut before, now) == now && !now.under_way {
            return Ok(());
        }
    }
}
