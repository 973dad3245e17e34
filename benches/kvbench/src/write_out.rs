//! A checkpoint that writes many pages, beside raw writes of as many bytes in the same pattern, the double-write's included.
//!
//! The raw side does for each batch what a double-write does, without pages, checksums and copies: one long write to a file and its
//! sync, then the batch's pages in their places, all at once. It makes as many batches as the checkpoint had regions synced, and
//! as many syncs of the data file on the way as that one made; and one of them at the end. What the checkpoint does beside, the sync of the
//! log and the superblock copy with its sync, the raw side does not do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestone::direct_io::{DirectIo, Disk, File, OpenHow, RealDisk, WriteAt, write_all_at, write_all_batch};
use pagestone::page_format::AlignedBuf;
use pagestone::store::{Durability, Options, Store};

use crate::writers::{key, mix, value};
use crate::{BenchResult, in_new_dir};

const PAGE: usize = 4096;
/// Bytes of the raw side's file of copies, as a store has it.
const COPIES: u64 = 8 << 20;
const GOAL: f64 = 0.85;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 + 100 bytes.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Checkpoints of each kind.
    #[arg(long, default_value_t = 7)]
    rounds: u64,
    /// A look: fewer rows and rounds.
    #[arg(long)]
    quick: bool,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    let (keys, rounds) = if args.quick { (args.keys / 10, 3) } else { (args.keys, args.rounds) };
    let options = Options {
        pool_bytes: 512 << 20,
        log_bytes: 8 << 30,
        durability: Durability::RELAXED,
        ..Options::default()
    };
    let store = Store::open(args.dir.join("store"), options)?;
    let tree = store.default_tree();
    for number in 0..keys {
        tree.put(&key(number), &value(&key(number), 0, 100))?;
    }
    store.checkpoint()?;
    let raw = Raw::create(&args.dir, store.stats()?.data_pages)?;
    println!("## Checkpoints of a store of {keys} rows, {} pages\n", raw.pages);
    println!(
        "| changed before | round | pages | in batches of | syncs | checkpoint, ms | raw, ms | raw over checkpoint |\n|---|---|---|---|---|---|---|---|"
    );
    for (name, step) in [("every row", 1), ("one row of 300", 300)] {
        let mut ratios = Vec::new();
        for round in 1..=rounds {
            for number in (0..keys / step).map(|at| if step == 1 { at } else { mix(at) % keys }) {
                tree.put(&key(number), &value(&key(number), round, 100))?;
            }
            store.sync()?;
            let before = store.stats()?;
            let began = Instant::now();
            store.checkpoint()?;
            let took = began.elapsed();
            let after = store.stats()?;
            let pages = after.pool.write_backs - before.pool.write_backs;
            let batches = after.double_write.syncs - before.double_write.syncs;
            let data_syncs = after.double_write.data_syncs - before.double_write.data_syncs;
            let bare = raw.write(pages, batches.max(1), data_syncs)?;
            let ratio = bare.as_secs_f64() / took.as_secs_f64();
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "| {name} | {round} | {pages} | {} | {} | {:.1} | {:.1} | {ratio:.2} |",
                pages / batches.max(1),
                batches + data_syncs,
                millis(took),
                millis(bare)
            );
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        let verdict = if median >= GOAL { "met" } else { "MISSED" };
        println!("| {name} | median | | | | | | **{median:.2}**, goal {GOAL} {verdict} |");
    }
    for number in 0..keys {
        let found = tree.get(&key(number))?;
        if found.is_none_or(|found| found[..16] != key(number)) {
            return Err(format!("key {number} has another one's value").into());
        }
    }
    Ok(store.close()?)
}

/// Two files as a store has them, every block written.
struct Raw {
    copies: Arc<dyn File>,
    data: Arc<dyn File>,
    pages: u64,
    bytes: AlignedBuf,
}

impl Raw {
    fn create(dir: &Path, pages: u64) -> BenchResult<Self> {
        let create = |name: &str, pages: u64| {
            let file = RealDisk.open(&dir.join(name), &OpenHow::create_new(DirectIo::Prefer))?;
            let zeros = AlignedBuf::zeroed(1 << 20);
            for at in (0..pages * PAGE as u64).step_by(1 << 20) {
                write_all_at(&*file, &zeros, at)?;
            }
            file.sync()?;
            BenchResult::Ok(file)
        };
        let (copies, data) = (create("raw-copies", COPIES / PAGE as u64)?, create("raw-data", pages)?);
        Ok(Self { copies, data, pages, bytes: AlignedBuf::zeroed(COPIES as usize) })
    }

    /// So many pages, spread evenly over the file, neighbours together, in so many batches; with these syncs of the data file on the way.
    fn write(&self, count: u64, batches: u64, data_syncs: u64) -> BenchResult<Duration> {
        let batch = count.div_ceil(batches).max(1);
        let region = (batch + 1) * PAGE as u64;
        if region > COPIES {
            return Err(format!("batches of {batch} pages are longer than the file of copies").into());
        }
        let began = Instant::now();
        let mut synced = 0;
        for (number, first) in (0..count).step_by(batch as usize).enumerate() {
            let places: Vec<u64> =
                (first..count.min(first + batch)).map(|at| at * self.pages / count.max(1)).collect();
            let at = number as u64 % (COPIES / region) * region;
            write_all_at(&*self.copies, &self.bytes[..(places.len() + 1) * PAGE], at)?;
            self.copies.sync()?;
            let runs = places.chunk_by(|a, b| a + 1 == *b);
            let mut writes: Vec<WriteAt<'_>> =
                runs.map(|run| WriteAt::new(&self.bytes[..run.len() * PAGE], run[0] * PAGE as u64)).collect();
            write_all_batch(&*self.data, &mut writes);
            writes.into_iter().try_for_each(|write| write.result.map(drop))?;
            // Spread evenly, as the store's are.
            let due = (number as u64 + 1) * (data_syncs + 1) / (batches + 1);
            while synced < due.min(data_syncs) {
                self.data.sync()?;
                synced += 1;
            }
        }
        self.data.sync()?;
        Ok(began.elapsed())
    }
}
