//! Failure prevented: a budget that loses a page or a change on its way down, takes a frame from under a pin, or stays half way when it
//! cannot go where it was sent.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};

const PAGES: u64 = 200;

#[derive(Debug)]
struct Failing {
    inner: MemoryStore,
    writes: AtomicBool,
}

impl PageStore for Failing {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        if self.writes.load(Ordering::SeqCst) {
            return Err(PageError::NoSpace { needed: 4096 });
        }
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        Ok(())
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

fn pool(frames: usize, frames_max: usize) -> (Arc<Failing>, BufferPool) {
    pool_that_waits(frames, frames_max, Duration::from_millis(50))
}

fn pool_that_waits(frames: usize, frames_max: usize, exhausted_wait: Duration) -> (Arc<Failing>, BufferPool) {
    let store = Arc::new(Failing { inner: MemoryStore::new(DEFAULT_PAGE_SIZE), writes: false.into() });
    let options = PoolOptions { frames_max, exhausted_wait, ..PoolOptions::new(frames) };
    (Arc::clone(&store), BufferPool::with_options(Box::new(store), options).expect("a pool"))
}

fn write(pool: &BufferPool, id: u64, value: u64) {
    let page = pool.new_page(PageId::new(id)).expect("a frame");
    page.write().expect("a latch").payload_mut()[..8].copy_from_slice(&value.to_le_bytes());
}

fn read(pool: &BufferPool, id: u64) -> u64 {
    let page = pool.fetch(PageId::new(id)).expect("it was written").read().expect("a copy");
    u64::from_le_bytes(*page.payload().first_chunk().expect("eight bytes"))
}

#[test]
fn pages_and_changes_survive_every_move() {
    let (_store, pool) = pool(64, 128);
    assert_eq!((pool.capacity(), pool.capacity_max()), (64, 128));
    for id in 0..PAGES {
        write(&pool, id, id);
    }
    for (round, frames) in [1, 128, 16, 17, 64, 1, 2, 100].into_iter().enumerate() {
        pool.set_capacity(frames).expect("nothing is pinned");
        assert_eq!(pool.capacity(), frames);
        for id in 0..PAGES {
            assert_eq!(read(&pool, id), id + round as u64);
            assert!(pool.resident_len() <= frames);
            write(&pool, id, id + round as u64 + 1);
        }
        let pins = pool.fetch_many(&(0..frames as u64).map(PageId::new).collect::<Vec<_>>());
        assert!(pins.iter().all(Result::is_ok), "all of the budget can be used");
        assert!(matches!(
            pool.fetch(PageId::new(PAGES - 1)),
            Err(PageError::BufferPoolExhausted { capacity }) if capacity == frames
        ));
    }
}

#[test]
fn what_is_pinned_or_was_not_reserved_is_refused_and_nothing_moves() {
    let (_store, pool) = pool(16, 32);
    for id in 0..16 {
        write(&pool, id, id);
    }
    let pins: Vec<_> = (0..16).map(|id| pool.fetch(PageId::new(id)).expect("resident")).collect();
    for frames in [0, 1, 15, 33] {
        let error = pool.set_capacity(frames).expect_err("it cannot");
        let PageError::BudgetRefused { frames: asked, least, most: 32 } = error else { panic!("{error}") };
        assert_eq!((asked, least), (frames, if (1..16).contains(&frames) { 16 } else { 1 }));
        assert_eq!((pool.capacity(), pool.resident_len()), (16, 16));
    }
    let high = pins.iter().map(|page| pool.frame_of(page.id()).expect("pinned").index()).max();
    assert_eq!(high, Some(15));
    drop(pins);
    pool.set_capacity(1).expect("nothing is pinned");
    assert_eq!((0..16).map(|id| read(&pool, id)).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
}

#[test]
fn a_write_that_fails_on_the_way_down_leaves_the_budget_and_the_changes() {
    let (store, pool) = pool(64, 64);
    for id in 0..64 {
        write(&pool, id, id + 7);
    }
    store.writes.store(true, Ordering::SeqCst);
    let error = pool.set_capacity(8).expect_err("nothing can be written");
    assert!(matches!(error, PageError::NoSpace { .. }), "{error}");
    assert_eq!((pool.capacity(), pool.dirty_len()), (64, 64));
    store.writes.store(false, Ordering::SeqCst);
    pool.set_capacity(8).expect("now it can");
    pool.set_capacity(64).expect("it was reserved");
    assert_eq!((0..64).map(|id| read(&pool, id)).collect::<Vec<_>>(), (7..71).collect::<Vec<_>>());
    assert_eq!(pool.resident_len(), 64, "no frame is lost");
}

#[test]
fn budgets_move_beside_readers_and_writers() {
    // A thread that the system stops for a while keeps its pin: the wait is no part of what is tested.
    let (_store, pool) = pool_that_waits(64, 96, Duration::from_secs(60));
    for id in 0..PAGES {
        write(&pool, id, 0);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (pool, stop) = (&pool, &stop);
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut count = 0;
                    let mut id = thread;
                    while !stop.load(Ordering::Relaxed) {
                        id = (id * 5 + 7) % 50 * 4 % PAGES + thread;
                        let page = pool.fetch(PageId::new(id)).expect("a frame");
                        let mut bytes = page.write().expect("a latch");
                        bytes.payload_mut()[8] = bytes.payload()[8].wrapping_add(1);
                        let sum =
                            u64::from_le_bytes(*bytes.payload().first_chunk().expect("eight bytes")) + 1;
                        bytes.payload_mut()[..8].copy_from_slice(&sum.to_le_bytes());
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let moved = (0..100).try_for_each(|round| pool.set_capacity([96, 8, 64, 20, 5][round % 5]));
        stop.store(true, Ordering::Relaxed);
        moved.expect("pins are short");
        assert!(pool.resident_len() <= 5);
        let written: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!((0..PAGES).map(|id| read(pool, id)).sum::<u64>(), written, "no change is lost");
    });
}
