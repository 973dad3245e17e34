//! Pages that are not resident, beside raw reads of the same file, as many under way.
//!
//! What counts are reads: a page that happened to be resident is not one. So a ratio is that of G9 and G10, the rate over the raw rate
//! divided by the miss ratio. CPU is the whole process's.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{AlignedBuf, DEFAULT_PAGE_SIZE, PageId};

use crate::file::{check, create, offset_of, remove};
use crate::raw::RawFile;
use crate::rounds::{Contender, Draws, contest, sum_of_threads};
use crate::{Args, BenchResult};

/// The part of the pages that the pool has frames for.
const SHARE: u64 = 16;
/// Pages of one `fetch_many`, and reads of the ring under way.
const BATCH: usize = 32;

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    let path = args.dir.join("micro.faults");
    remove(&path)?;
    let count = (args.file_mib << 20) / DEFAULT_PAGE_SIZE.get() as u64 / 256 * 256;
    let pages = create(&path, count)?;
    if !pages.is_direct() {
        println!("\nNOT MEASURED: {} has no direct I/O, faults beside raw reads", args.dir.display());
        return remove(&path);
    }
    let pool = BufferPool::new(pages, (count / SHARE) as usize);
    for threads in [1, 8, 32] {
        by_threads(args, threads, count, &path, &pool)?;
    }
    by_batches(args, count, &path, &pool)?;
    remove(&path)
}

/// What a contender did in all its turns.
#[derive(Default)]
struct Spent {
    reads: Cell<u64>,
    cpu: Cell<Duration>,
}

impl Spent {
    /// Runs a turn that gives how many reads it did; gives reads a second.
    fn turn(&self, run: impl FnOnce() -> BenchResult<u64>) -> BenchResult<f64> {
        let (began, cpu) = (Instant::now(), cpu_of_process());
        let reads = run()?;
        let took = began.elapsed();
        self.reads.set(self.reads.get() + reads);
        if let Some((before, after)) = cpu.zip(cpu_of_process()) {
            self.cpu.set(self.cpu.get() + (after - before));
        }
        Ok(reads as f64 / took.as_secs_f64())
    }

    fn micros(&self) -> f64 {
        self.cpu.get().as_secs_f64() * 1e6 / self.reads.get().max(1) as f64
    }
}

/// Time that all threads of this process had a processor, as Linux counts it, in hundredths of a second.
fn cpu_of_process() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Threads that each do one thing after another until the turn is over; gives how many things were done.
fn spread(
    threads: u64,
    turn: Duration,
    one: impl Fn(u64, &dyn Fn() -> bool) -> BenchResult<u64> + Sync,
) -> BenchResult<u64> {
    let began = Instant::now();
    sum_of_threads(threads, |thread| one(thread, &|| began.elapsed() < turn))
}

fn by_threads(args: &Args, threads: u64, count: u64, path: &Path, pool: &BufferPool) -> BenchResult<()> {
    let Some(raw) = RawFile::open(path)? else {
        println!("\nNOT MEASURED: this system has no raw loop to compare faults with");
        return Ok(());
    };
    let reader = raw.reader()?;
    let (raw_spent, pool_spent) = (Spent::default(), Spent::default());
    let seed = Cell::new(0);
    let draws = |thread: u64| {
        seed.set(seed.get() + 1);
        Draws::new(seed.get() << 8 | thread)
    };
    let raw_turn = || {
        let draws: Vec<Draws> = (0..threads).map(draws).collect();
        raw_spent.turn(|| {
            spread(threads, args.turn(), |thread, go_on| {
                let (mut ids, mut reads) = (draws[thread as usize].clone(), 0);
                let mut buffer = AlignedBuf::zeroed(DEFAULT_PAGE_SIZE.get());
                while go_on() {
                    let offset = offset_of(ids.below(count));
                    reader.read(&mut buffer, offset)?;
                    check(offset, &buffer)?;
                    reads += 1;
                }
                Ok(reads)
            })
        })
    };
    let pool_turn = || {
        let draws: Vec<Draws> = (0..threads).map(draws).collect();
        let before = pool.stats().misses;
        pool_spent.turn(|| {
            spread(threads, args.turn(), |thread, go_on| {
                let mut ids = draws[thread as usize].clone();
                while go_on() {
                    look(pool, PageId::new(ids.below(count)))?;
                }
                Ok(0)
            })?;
            Ok(pool.stats().misses - before)
        })
    };
    let goal = if threads == 1 { 0.93 } else { 0.9 };
    let mut contenders = [
        Contender::new("raw `pread`", raw_turn),
        Contender::new("`BufferPool::fault`", pool_turn).over(0, goal),
    ];
    contest(&format!("Faults, {threads} threads"), "reads/s", args.rounds, &mut contenders)?;
    drop(contenders);
    println!("\nCPU: raw {:.1} µs a read, pool {:.1} µs.", raw_spent.micros(), pool_spent.micros());
    Ok(())
}

/// Looks at a page as a tree does: pinned while it is read.
fn look(pool: &BufferPool, id: PageId) -> BenchResult<()> {
    let pin = pool.fault(id)?;
    loop {
        let page = pin.optimistic()?;
        let number = page.page().word(pagestone_page_format::PAGE_HEADER_SIZE / 8);
        if page.validate().is_ok() {
            let number = number.map_err(|_| "a page has a word behind its header")?;
            return if number == id.get() { Ok(()) } else { Err(format!("page {id} holds {number}").into()) };
        }
    }
}

fn by_batches(args: &Args, count: u64, path: &Path, pool: &BufferPool) -> BenchResult<()> {
    let Some(mut raw) = RawFile::open(path)? else { return Ok(()) };
    let (raw_spent, pool_spent) = (Spent::default(), Spent::default());
    let (mut draws, mut buffers) = (Draws::new(91), vec![AlignedBuf::zeroed(DEFAULT_PAGE_SIZE.get()); BATCH]);
    let raw_turn = || {
        raw_spent.turn(|| {
            let (began, mut reads) = (Instant::now(), 0);
            while began.elapsed() < args.turn() {
                raw.reads(
                    &mut buffers,
                    BATCH,
                    BATCH,
                    || offset_of(draws.below(count)),
                    |at, page| check(at, page),
                )?;
                reads += BATCH as u64;
            }
            Ok(reads)
        })
    };
    let mut ids = Draws::new(92);
    let pool_turn = || {
        pool_spent.turn(|| {
            let (began, before) = (Instant::now(), pool.stats().misses);
            while began.elapsed() < args.turn() {
                // As many as will be missing: what is resident is looked at and drawn again.
                let mut batch = Vec::with_capacity(BATCH);
                while batch.len() < BATCH {
                    let id = PageId::new(ids.below(count));
                    if !pool.is_resident(id) {
                        batch.push(id);
                    }
                }
                for (id, page) in batch.iter().zip(pool.fetch_many(&batch)) {
                    let page = page?;
                    if page.id() != *id {
                        return Err(format!("page {id} was asked for, {} given", page.id()).into());
                    }
                }
            }
            Ok(pool.stats().misses - before)
        })
    };
    let mut contenders = [
        Contender::new("raw ring, 32 at once, then the next 32", raw_turn),
        Contender::new("`BufferPool::fetch_many` of 32", pool_turn).over(0, 0.9),
    ];
    contest("Faults of one thread in batches of 32", "reads/s", args.rounds, &mut contenders)?;
    drop(contenders);
    println!("\nCPU: raw {:.1} µs a read, pool {:.1} µs.", raw_spent.micros(), pool_spent.micros());
    Ok(())
}
