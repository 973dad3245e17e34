//! Point lookups in a store that is many times its pool, beside raw reads of the same file, as many under way.
//!
//! Invariant: what is compared takes turns in one run, with as many threads and as many reads under way on both sides; the raw side of one thread
//! with 32 under way is the faster one of batches of 32 and of reads each begun when another has come. A page of the pool that was there already was not read, so what is held against the
//! raw rate is the store's rate of reads: that is the rate of lookups over the raw rate divided by the misses of a lookup.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestone::direct_io::{
    DirectIo, Disk, File, OpenHow, OwnedRead, ReadAt, RealDisk, read_exact_at, read_exact_batch, wait_exact,
};
use pagestone::page_format::AlignedBuf;
use pagestone::store::{Durability, Options, Store, Tree};

use crate::resident::{check, fill, missing};
use crate::space::come_to_rest;
use crate::threads::on_threads;
use crate::writers::{key, mix};
use crate::{BenchResult, cpu_of_process, in_new_dir, quartiles};

const PAGE: usize = 4096;
const DEPTH: usize = 32;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end. It takes 130 bytes a row.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 and 100 bytes.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// How many times its pool the data is.
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Turns of each.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    turn_ms: u64,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    let mut keys: Vec<[u8; 16]> = (0..args.rows).map(key).collect();
    keys.sort_unstable();
    let pool_bytes = (args.rows * 130 / args.times) as usize;
    let options = Options { pool_bytes, durability: Durability::RELAXED, ..Options::default() };
    let dir = args.dir.join("store");
    let store = Store::open(&dir, options)?;
    fill(&store, &keys)?;
    drop(keys);
    come_to_rest(&store)?;
    let file = RealDisk.open(&dir.join("data"), &OpenHow::read(DirectIo::Prefer))?;
    println!(
        "{} rows of 16 + 100 bytes, data file {} MiB, pool {} MiB; {} rounds by turns of {} ms. Rates are medians, in brackets the \
         quartiles; a ratio is the median of the rounds'. CPU is the whole process's.",
        args.rows,
        file.len()? >> 20,
        pool_bytes >> 20,
        args.rounds,
        args.turn_ms
    );
    println!(
        "\n| | reads/s | gets/s | reads a get | CPU µs a read | ratio | over | goal |\n|---|---|---|---|---|---|---|---|"
    );
    let bench = Bench { args, store: &store, file };
    bench.compare(&[Side::RawOne(1)], &[(Side::Gets(1), 0.93)])?;
    bench.compare(&[Side::RawOne(DEPTH as u64)], &[(Side::Gets(DEPTH as u64), 0.9)])?;
    let by_one = [(Side::MultiGet(1024), 0.9), (Side::MultiGet(DEPTH), 0.0)];
    bench.compare(&[Side::RawBatches, Side::RawStream], &by_one)?;
    Ok(store.close()?)
}

/// Who reads.
#[derive(Debug, Clone, Copy)]
enum Side {
    /// So many threads, one page after another.
    RawOne(u64),
    /// One thread, 32 pages at once.
    RawBatches,
    /// One thread, 32 pages under way, each begun when another has come.
    RawStream,
    /// So many threads that look keys up one after another.
    Gets(u64),
    /// One thread that looks so many up by one call.
    MultiGet(usize),
}

impl Side {
    fn name(self) -> String {
        match self {
            Self::RawOne(threads) => format!("raw, {threads} under way, by threads"),
            Self::RawBatches => format!("raw, {DEPTH} under way, in batches"),
            Self::RawStream => format!("raw, {DEPTH} under way, one thread"),
            Self::Gets(threads) => format!("**`get_into`**, {threads} threads"),
            Self::MultiGet(keys) => format!("**`multi_get_with`** of {keys} keys, 1 thread"),
        }
    }
}

/// What one did in a turn, or in all of them.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    reads: u64,
    gets: u64,
    took: Duration,
    cpu: Duration,
}

impl Done {
    fn rate(&self) -> f64 {
        self.reads as f64 / self.took.as_secs_f64()
    }
}

struct Bench<'b> {
    args: &'b Args,
    store: &'b Store,
    file: Arc<dyn File>,
}

impl Bench<'_> {
    /// Lets each have its turns; holds ours against the faster of the raw ones.
    fn compare(&self, raw: &[Side], ours: &[(Side, f64)]) -> BenchResult<()> {
        let sides: Vec<(Side, f64)> =
            raw.iter().map(|side| (*side, 0.0)).chain(ours.iter().copied()).collect();
        let mut done = vec![Vec::new(); sides.len()];
        // The first round warms up.
        for round in 0..=self.args.rounds {
            for place in 0..sides.len() {
                let place = (place + round) % sides.len();
                let turn = self.turn(sides[place].0, round as u64)?;
                if round > 0 {
                    done[place].push(turn);
                }
            }
        }
        let rates: Vec<[f64; 3]> = done.iter().map(|turns| quartiles(turns.iter().map(Done::rate))).collect();
        let best = (0..raw.len()).max_by(|a, b| f64::total_cmp(&rates[*a][1], &rates[*b][1])).unwrap_or(0);
        for (place, (side, goal)) in sides.iter().enumerate() {
            let [low, rate, high] = rates[place];
            let sum = |of: fn(&Done) -> f64| done[place].iter().map(of).sum::<f64>();
            let (reads, gets) = (sum(|turn| turn.reads as f64), sum(|turn| turn.gets as f64));
            let of_gets = match gets {
                0.0 => " | ".into(),
                gets => format!("{:.0} | {:.3}", gets / sum(|turn| turn.took.as_secs_f64()), reads / gets),
            };
            let cpu = sum(|turn| turn.cpu.as_secs_f64()) * 1e6 / reads;
            let each = done[place].iter().zip(&done[best]).map(|(ours, theirs)| ours.rate() / theirs.rate());
            let against = match quartiles(each) {
                _ if place < raw.len() => " | | ".into(),
                [low, ratio, high] => {
                    let verdict = match goal {
                        0.0 => String::new(),
                        goal if ratio >= *goal => format!("{goal} met"),
                        goal => format!("{goal} MISSED"),
                    };
                    format!("{ratio:.3} [{low:.3} to {high:.3}] | {} | {verdict}", sides[best].0.name())
                }
            };
            println!(
                "| {} | {rate:.0} [{low:.0} to {high:.0}] | {of_gets} | {cpu:.1} | {against} |",
                side.name()
            );
        }
        Ok(())
    }

    fn turn(&self, side: Side, round: u64) -> BenchResult<Done> {
        let tree = self.store.default_tree();
        let (misses, cpu, began) = (self.store.stats()?.pool.misses, cpu_of_process(), Instant::now());
        let turn = Duration::from_millis(self.args.turn_ms);
        let work = |threads: u64, one: &(dyn Fn(u64) -> BenchResult<u64> + Sync)| {
            let counts = on_threads(threads, |thread| one(mix((round + 1) << 8 | thread)))?;
            BenchResult::Ok(counts.iter().sum())
        };
        let go_on = || began.elapsed() < turn;
        let count = match side {
            Side::RawOne(threads) => work(threads, &|seed| raw_one(&*self.file, seed, &go_on))?,
            Side::RawBatches => work(1, &|seed| raw_batches(&*self.file, seed, &go_on))?,
            Side::RawStream => work(1, &|seed| raw_stream(&*self.file, seed, &go_on))?,
            Side::Gets(threads) => work(threads, &|seed| gets(&tree, self.args.rows, seed, &go_on))?,
            Side::MultiGet(keys) => work(1, &|seed| multi_gets(&tree, self.args.rows, keys, seed, &go_on))?,
        };
        let took = began.elapsed();
        let cpu = cpu.zip(cpu_of_process()).map_or(Duration::ZERO, |(before, after)| after - before);
        Ok(match side {
            Side::RawOne(_) | Side::RawBatches | Side::RawStream => Done { reads: count, gets: 0, took, cpu },
            Side::Gets(_) | Side::MultiGet(_) => {
                Done { reads: self.store.stats()?.pool.misses - misses, gets: count, took, cpu }
            }
        })
    }
}

fn raw_one(file: &dyn File, mut random: u64, go_on: &dyn Fn() -> bool) -> BenchResult<u64> {
    let (pages, mut buffer, mut reads) = (file.len()? / PAGE as u64, AlignedBuf::zeroed(PAGE), 0);
    while go_on() {
        random = mix(random);
        read_exact_at(file, &mut buffer, random % pages * PAGE as u64)?;
        reads += 1;
    }
    Ok(reads)
}

fn raw_batches(file: &dyn File, mut random: u64, go_on: &dyn Fn() -> bool) -> BenchResult<u64> {
    let (pages, mut buffers, mut reads) =
        (file.len()? / PAGE as u64, vec![AlignedBuf::zeroed(PAGE); DEPTH], 0);
    while go_on() {
        let mut offset = || {
            random = mix(random);
            random % pages * PAGE as u64
        };
        let mut batch: Vec<ReadAt<'_>> =
            buffers.iter_mut().map(|buffer| ReadAt::new(buffer, offset())).collect();
        read_exact_batch(file, &mut batch);
        batch.into_iter().try_for_each(|read| read.result.map(drop))?;
        reads += DEPTH as u64;
    }
    Ok(reads)
}

fn raw_stream(file: &dyn File, mut random: u64, go_on: &dyn Fn() -> bool) -> BenchResult<u64> {
    let (pages, mut under_way, mut count) = (file.len()? / PAGE as u64, 0, 0);
    let (mut reads, mut ended, mut idle) = (file.reads(), Vec::new(), vec![AlignedBuf::zeroed(PAGE); DEPTH]);
    loop {
        let more = go_on();
        while more && let Some(buffer) = idle.pop() {
            random = mix(random);
            reads.begin(OwnedRead::new(buffer, random % pages * PAGE as u64, 0));
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(count);
        }
        wait_exact(file, &mut *reads, DEPTH / 3, &mut ended);
        for read in ended.drain(..) {
            read.result?;
            idle.push(read.buf);
            under_way -= 1;
            count += 1;
        }
    }
}

fn gets(tree: &Tree, rows: u64, mut random: u64, go_on: &dyn Fn() -> bool) -> BenchResult<u64> {
    let (mut value, mut gets) = (Vec::new(), 0);
    while go_on() {
        random = mix(random);
        let key = key(random % rows);
        if !tree.get_into(&key, &mut value)? {
            return Err(missing(&key));
        }
        check(&key, &value)?;
        gets += 1;
    }
    Ok(gets)
}

fn multi_gets(
    tree: &Tree,
    rows: u64,
    at_once: usize,
    mut random: u64,
    go_on: &dyn Fn() -> bool,
) -> BenchResult<u64> {
    let mut gets = 0;
    let mut draw = || {
        random = mix(random);
        key(random % rows)
    };
    while go_on() {
        let keys: Vec<[u8; 16]> = (0..at_once).map(|_| draw()).collect();
        let mut wrong = None;
        tree.multi_get_with(&keys, |at, value| {
            if let Err(error) =
                value.ok_or_else(|| missing(&keys[at])).and_then(|value| check(&keys[at], value))
            {
                wrong = Some(error);
            }
        })?;
        wrong.map_or(Ok(()), Err)?;
        gets += at_once as u64;
    }
    Ok(gets)
}
