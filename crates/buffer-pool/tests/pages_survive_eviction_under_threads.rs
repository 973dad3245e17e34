//! Prevents: a page that comes back from eviction with a change lost, torn, or of another page (P1, P2, P4, P12, P13).

mod stress;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{MIN_PAGE_SIZE, MemoryStore, PageId, PageSize, PageStore};
use stress::{Figures, Stress};

const PAGES: u64 = 600;

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn hammer(frames: usize) -> Figures {
    let store = MemoryStore::new(PageSize::new(MIN_PAGE_SIZE).expect("a page size"));
    let stress = Stress { pages: PAGES, frames, threads: 8, time: Duration::from_millis(1000) };
    let figures = stress.run(store);
    let enough = figures.pool.evictions > 1000 && figures.pool.write_backs > 100;
    assert!(enough && figures.validated > 100 && figures.discards > 100, "it proved little: {figures}");
    figures
}

#[test]
fn eight_threads_on_64_frames() {
    hammer(64);
}

#[test]
fn eight_threads_on_20_frames() {
    hammer(20);
}

/// Enough of them for the page provider to have some to spare.
#[test]
fn eight_threads_on_256_frames() {
    let figures = hammer(256);
    assert!(figures.pool.provided > 100, "it proved little: {figures}");
}

/// Several pages held at once, taken in increasing order by all: eviction waits for none of them.
#[test]
fn ordered_holders_of_several_pages_go_on() {
    let store = MemoryStore::new(PageSize::new(MIN_PAGE_SIZE).expect("a page size"));
    store.grow(PAGES).expect("room");
    let pool = BufferPool::new(store, 16);
    for id in (0..PAGES).map(PageId::new) {
        drop(pool.new_page(id).expect("frame"));
    }
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, rounds) = (&pool, &rounds);
            scope.spawn(move || {
                let mut random = 77 + thread;
                for _ in 0..1500 {
                    let first = next(&mut random) % (PAGES - 100);
                    let low = pool.fetch(PageId::new(first)).expect("a page");
                    let mut low = low.write().expect("a latch");
                    low.payload_mut()[0] += 1;
                    let high = pool.fetch(PageId::new(first + 1 + next(&mut random) % 99)).expect("a page");
                    high.write().expect("a latch").payload_mut()[1] += 1;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(rounds.load(Ordering::Relaxed), 6000);
}
