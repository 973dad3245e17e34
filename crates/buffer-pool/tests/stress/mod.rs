//! Threads that fetch, write, read by stale hints, prefetch, flush and discard the pages of one pool, move its budget, and believe
//! nothing that they see; beside a page provider.
//!
//! Every page carries its id and one counter, repeated over the whole payload: any tear shows. Pages of one class in eight are
//! discarded now and then, which takes them back to what storage has: their counters never stand above what was written. All others
//! lose nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_buffer_pool::{BufferPool, PageProvider, PoolStats, Restart};
use pagestone_page_format::{PageId, PageStore};
use pagestone_swip::SwipWord;
use pagestone_threading::{Spawner, ThreadClass};

/// Looks at the clock after so many turns.
const TURNS: u64 = 32;
/// Each thread takes so many at least, however slow the machine is: what was done is asked for afterwards.
const TURNS_MIN: u64 = 2048;

/// What is run.
pub(crate) struct Stress {
    pub(crate) pages: u64,
    pub(crate) frames: usize,
    pub(crate) threads: u64,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    pub(crate) flushes: u64,
    pub(crate) discards: u64,
    pub(crate) budgets: u64,
    /// Reads by swip that validated, and those that had to start again.
    pub(crate) validated: u64,
    pub(crate) restarts: u64,
    pub(crate) pool: PoolStats,
}

impl Stress {
    /// Runs it over a store that holds nothing yet. Panics if a promise is broken.
    pub(crate) fn run(&self, store: impl PageStore + 'static) -> Figures {
        store.grow(self.pages).expect("room");
        let pool = Arc::new(BufferPool::new(store, self.frames));
        let provider =
            PageProvider::start(&pool, &Spawner::unpinned(), ThreadClass::Worker).expect("a thread");
        for id in (0..self.pages).map(PageId::new) {
            write_count(pool.new_page(id).expect("a frame").write().expect("a latch").payload_mut(), id, 0);
        }
        pool.checkpoint().expect("written");
        let written: Vec<AtomicU64> = (0..self.pages).map(|_| AtomicU64::new(0)).collect();
        let until = Instant::now() + self.time;
        let mut figures = Figures::default();
        std::thread::scope(|scope| {
            let (pool, written) = (&*pool, &written);
            let threads: Vec<_> = (1..=self.threads)
                .map(|seed| scope.spawn(move || Actor::new(pool, written, seed).run(until)))
                .collect();
            for thread in threads {
                figures.add(&thread.join().expect("no thread panics"));
            }
        });
        for id in (0..self.pages).map(PageId::new) {
            let guard = pool.fetch(id).expect("a page");
            let count = read_count(guard.read().expect("a copy").payload(), id);
            let written = written[id.get() as usize].load(Ordering::Relaxed);
            assert!(count == written || is_discarded(id) && count < written, "a lost update of page {id}");
        }
        provider.stop().expect("it did not panic");
        figures.pool = pool.stats();
        pool.checkpoint().expect("written");
        assert_eq!(pool.dirty_len(), 0);
        pool.drop_cache().expect("evicted");
        assert_eq!(pool.resident_len(), 0, "P10: no frame stays pinned or latched");
        figures
    }
}

/// One thread.
struct Actor<'s> {
    pool: &'s BufferPool,
    /// How often each page was written, counted under the latch that publishes it.
    written: &'s [AtomicU64],
    random: u64,
    /// Where some page was last seen: a hint that is often stale.
    hint: Option<SwipWord>,
    figures: Figures,
}

impl<'s> Actor<'s> {
    fn new(pool: &'s BufferPool, written: &'s [AtomicU64], seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { pool, written, random, hint: None, figures: Figures::default() }
    }

    fn run(mut self, until: Instant) -> Figures {
        let mut turns = 0;
        while turns < TURNS_MIN || Instant::now() < until {
            (0..TURNS).for_each(|_| self.turn());
            turns += TURNS;
        }
        self.figures
    }

    fn turn(&mut self) {
        // Half of the turns on so few pages that they meet, half on all of them.
        let among = if self.next().is_multiple_of(2) { 40 } else { self.written.len() as u64 };
        let id = PageId::new(self.next() % among);
        match self.next() % 32 {
            0..12 => self.write(id),
            12..20 => self.read(id),
            20..27 => self.read_by_swip(id),
            27 | 28 => {
                self.pool.flush(id).expect("written");
                self.figures.flushes += 1;
            }
            29 if self.next().is_multiple_of(256) => {
                self.pool.flush_all().expect("written");
                self.figures.flushes += 1;
            }
            30 if self.next().is_multiple_of(512) => {
                let most = self.pool.capacity_max();
                let frames = most - self.next() as usize % (most / 4);
                self.pool.set_capacity(frames).expect("no pin is held for long");
                self.figures.budgets += 1;
            }
            31 if self.next().is_multiple_of(16) => {
                self.pool.prefetch(&[id, PageId::new(self.next() % self.written.len() as u64)]);
            }
            _ if is_discarded(id) => {
                self.pool.discard(id).expect("thrown out");
                self.figures.discards += 1;
            }
            _ => {}
        }
    }

    fn write(&mut self, id: PageId) {
        let guard = self.pool.fetch(id).expect("a page");
        let mut page = guard.write().expect("a latch");
        let written = &self.written[id.get() as usize];
        let count = read_count(page.payload(), id);
        let before = written.fetch_add(1, Ordering::Relaxed);
        assert!(count == before || is_discarded(id) && count < before, "a lost update of page {id}");
        write_count(page.payload_mut(), id, before + 1);
        self.figures.writes += 1;
    }

    fn read(&mut self, id: PageId) {
        let guard = self.pool.fetch(id).expect("a page");
        let before = self.written[id.get() as usize].load(Ordering::Acquire);
        let count = read_count(guard.read().expect("a copy").payload(), id);
        let after = self.written[id.get() as usize].load(Ordering::Acquire);
        assert!(count <= after, "page {id} has what nobody wrote");
        // The last one counted may not be published yet.
        assert!(is_discarded(id) || count + 1 >= before, "a read of page {id} from long ago");
        self.figures.reads += 1;
    }

    fn read_by_swip(&mut self, id: PageId) {
        let swip = SwipWord::new(id).expect("an id");
        let swip = self.hint.and_then(SwipWord::hint).map_or(swip, |frame| swip.with_hint(frame));
        match self.pool.resolve(swip) {
            Ok(page) => {
                let seen = [4, 5, 510, 511].map(|word| page.page().word(word));
                if page.validate().is_ok() {
                    assert_eq!([seen[0], seen[2]], [Ok(id.get()); 2], "P1: bytes of another page");
                    assert_eq!(seen[1], seen[3], "P1: a torn page");
                    self.figures.validated += 1;
                } else {
                    self.figures.restarts += 1;
                }
                self.hint = Some(swip.with_hint(page.frame()));
            }
            Err(Restart::Conflict) => self.figures.restarts += 1,
            Err(Restart::Fault(id)) => {
                drop(self.pool.fault(id).expect("a page"));
                self.figures.restarts += 1;
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Whether a page is of the class that is discarded.
fn is_discarded(id: PageId) -> bool {
    id.get().is_multiple_of(8)
}

fn write_count(payload: &mut [u8], id: PageId, count: u64) {
    for pair in payload.chunks_exact_mut(16) {
        pair[..8].copy_from_slice(&id.get().to_le_bytes());
        pair[8..].copy_from_slice(&count.to_le_bytes());
    }
}

fn read_count(payload: &[u8], id: PageId) -> u64 {
    let count = &payload[8..16];
    for pair in payload.chunks_exact(16) {
        assert_eq!(pair[..8], id.get().to_le_bytes(), "bytes of another page");
        assert_eq!(&pair[8..], count, "a torn page");
    }
    u64::from_le_bytes(count.try_into().expect("eight bytes"))
}

impl Figures {
    fn add(&mut self, other: &Figures) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.flushes += other.flushes;
        self.discards += other.discards;
        self.budgets += other.budgets;
        self.validated += other.validated;
        self.restarts += other.restarts;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes, reads, flushes, discards, budgets, validated, restarts, pool } = self;
        write!(
            f,
            "{writes} writes, {reads} reads, {validated} optimistic reads, {restarts} restarts, {flushes} flushes, \
             {discards} discards, {budgets} budgets; {} misses, {} evictions, {} of them ahead of time, {} write-backs",
            pool.misses, pool.evictions, pool.provided, pool.write_backs
        )
    }
}
