//! Failure prevented: one read, write or sync, of all that a workload makes, whose failure loses a frame, leaves one latched or pinned, or
//! calls a page clean that storage does not have (P10, P12). Each call fails in a run of its own, once or from there on; with the least
//! pool, one of 16 frames and one of 64.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pagestone_buffer_pool::{BufferPool, MIN_FRAMES, PoolOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Once,
    FromThereOn,
}

/// Fails the `at`th call of one kind.
#[derive(Debug)]
struct Injecting {
    inner: MemoryStore,
    call: Call,
    fails: Fails,
    at: u64,
    calls: AtomicU64,
    injected: AtomicU64,
    healthy: AtomicBool,
}

impl Injecting {
    fn pass(&self, call: Call) -> PageResult<()> {
        if call != self.call || self.healthy.load(Ordering::SeqCst) {
            return Ok(());
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if number == self.at || (number > self.at && self.fails == Fails::FromThereOn) {
            self.injected.fetch_add(1, Ordering::SeqCst);
            return Err(PageError::io("test", std::io::Error::from_raw_os_error(5)));
        }
        Ok(())
    }

    /// No call fails from now on.
    fn heal(&self) {
        self.healthy.store(true, Ordering::SeqCst);
    }

    fn value(&self, id: PageId) -> Option<u8> {
        let mut page = self.inner.allocate_page(id);
        self.inner.read_into(id, &mut page).ok().map(|()| page.payload()[0])
    }
}

impl PageStore for Injecting {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.pass(Call::Read)?;
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.pass(Call::Write)?;
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        self.pass(Call::Sync)
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

/// What pages hold, by what their writers were told.
type Known = BTreeMap<PageId, u8>;

fn new_page(pool: &BufferPool, known: &mut Known, id: PageId, value: u8) -> PageResult<()> {
    let page = pool.new_page(id)?;
    page.write()?.payload_mut()[0] = value;
    known.insert(id, value);
    Ok(())
}

fn change(pool: &BufferPool, known: &mut Known, id: PageId, value: u8) -> PageResult<()> {
    let page = pool.fetch(id)?;
    page.write()?.payload_mut()[0] = value;
    known.insert(id, value);
    Ok(())
}

/// Everything that a pool does, the errors dropped: what they leave behind is looked at afterwards.
fn work(pool: &BufferPool, frames: usize) -> Known {
    let mut known = Known::new();
    let ids: Vec<PageId> = (0..2 * frames as u64 + 3).map(PageId::new).collect();
    for (value, id) in (1..).zip(&ids) {
        drop(new_page(pool, &mut known, *id, value));
    }
    drop(pool.flush(ids[0]));
    drop(pool.flush_all());
    drop(pool.sync());
    drop(pool.drop_cache());
    pool.prefetch(&ids[..frames.div_ceil(2)]);
    for batch in ids.chunks(frames.min(7)) {
        for page in pool.fetch_many(batch).into_iter().flatten() {
            let value = known.get(&page.id()).copied();
            assert_eq!(page.read().ok().map(|page| page.payload()[0]), value, "page {}", page.id());
        }
    }
    for (value, id) in (100..).zip(ids.iter().step_by(3)) {
        drop(change(pool, &mut known, *id, value));
    }
    drop(pool.set_capacity(frames.div_ceil(2)));
    drop(pool.set_capacity(frames));
    for (value, id) in (200..).zip(ids.iter().step_by(5)) {
        drop(change(pool, &mut known, *id, value));
    }
    drop(pool.checkpoint());
    known
}

/// One run; gives how many calls failed.
fn run(frames: usize, call: Call, fails: Fails, at: u64) -> u64 {
    let what = format!("{frames} frames, {call:?} {at} fails {fails:?}");
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    let (calls, injected, healthy) = (0.into(), 0.into(), false.into());
    let store = Arc::new(Injecting { inner, call, fails, at, calls, injected, healthy });
    let options = PoolOptions { exhausted_wait: Duration::from_millis(1), ..PoolOptions::new(frames) };
    let pool = BufferPool::with_options(Box::new(Arc::clone(&store)), options).expect("a pool");
    let known = work(&pool, frames);
    store.heal();
    let injected = store.injected.load(Ordering::SeqCst);
    for (id, value) in &known {
        assert!(pool.is_dirty(*id) || store.value(*id) == Some(*value), "{what}: page {id} is wrongly clean");
    }
    if call == Call::Sync && injected > 0 {
        assert!(
            matches!(pool.checkpoint(), Err(PageError::Poisoned { .. })),
            "{what}: a failed sync is final"
        );
        return injected;
    }
    pool.flush_all().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(pool.dirty_len(), 0, "{what}");
    for (id, value) in &known {
        let page = pool.fetch(*id).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(page.read().expect("a copy").payload()[0], *value, "{what}: page {id}");
    }
    // No frame is lost, none is pinned, none latched: all of them can be had at once, and written.
    let all: Vec<PageId> = (1000..).map(PageId::new).take(pool.capacity()).collect();
    let pages: Vec<_> = all.iter().map(|id| pool.new_page(*id).expect("a frame")).collect();
    pages.iter().for_each(|page| page.write().expect("a latch").payload_mut()[0] = 1);
    drop(pages);
    assert_eq!(pool.capacity(), frames, "{what}: the budget is what it was");
    pool.drop_cache().expect("healthy");
    assert_eq!(pool.resident_len(), 0, "{what}");
    injected
}

fn every_call(frames: usize) {
    for call in [Call::Read, Call::Write, Call::Sync] {
        for fails in [Fails::Once, Fails::FromThereOn] {
            let runs: Vec<u64> =
                (0..).map(|at| run(frames, call, fails, at)).take_while(|injected| *injected > 0).collect();
            let injected: u64 = runs.iter().sum();
            println!("{frames} frames, {call:?} fails {fails:?}: {} runs, {injected} failures", runs.len());
            assert!(runs.len() >= if call == Call::Sync { 1 } else { frames }, "the calls were counted");
        }
    }
}

#[test]
fn with_the_least_pool() {
    every_call(MIN_FRAMES);
}

#[test]
fn with_16_frames() {
    every_call(16);
}

#[test]
fn with_64_frames() {
    every_call(64);
}
