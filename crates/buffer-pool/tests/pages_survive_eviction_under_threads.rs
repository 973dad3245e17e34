//! Prevents: a page that comes back from eviction with a change lost, torn, or of another page (P1, P2, P4, P12).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_buffer_pool::{BufferPool, Restart};
use pagestone_page_format::{MIN_PAGE_SIZE, MemoryStore, PageId, PageSize, PageStore};
use pagestone_swip::SwipWord;

const PAGES: u64 = 600;
const THREADS: u64 = 8;

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// Every page carries its id and one counter, repeated over the whole payload: any tear shows.
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

fn hammer(frames: usize, millis: u64) {
    let store = MemoryStore::new(PageSize::new(MIN_PAGE_SIZE).expect("a page size"));
    store.grow(PAGES).expect("room");
    let pool = Arc::new(BufferPool::new(store, frames));
    for id in (0..PAGES).map(PageId::new) {
        write_count(pool.new_page(id).expect("frame").write().expect("latch").payload_mut(), id, 0);
    }
    let counts: Arc<Vec<AtomicU64>> = Arc::new((0..PAGES).map(|_| AtomicU64::new(0)).collect());
    let stop = Instant::now() + Duration::from_millis(millis);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (pool, counts) = (Arc::clone(&pool), Arc::clone(&counts));
            std::thread::spawn(move || {
                let mut random = 0x9e37_79b9 + thread;
                let mut hint = SwipWord::new(PageId::new(0)).expect("an id");
                while Instant::now() < stop {
                    let id = PageId::new(next(&mut random) % PAGES);
                    match next(&mut random) % 16 {
                        0..6 => {
                            let guard = pool.fetch(id).expect("a page");
                            let mut page = guard.write().expect("a latch");
                            let count = read_count(page.payload(), id) + 1;
                            write_count(page.payload_mut(), id, count);
                            counts[id.get() as usize].fetch_add(1, Ordering::SeqCst);
                        }
                        6..14 => {
                            // Counted under the latch that publishes, so a read that begins now sees no less, page by page.
                            let guard = pool.fetch(id).expect("a page");
                            read_count(guard.read().expect("a copy").payload(), id);
                        }
                        14 => pool.flush(id).expect("written"),
                        _ => {
                            // By swip, with a hint that is often stale.
                            let swip = SwipWord::new(id).expect("an id");
                            let swip = hint.hint().map_or(swip, |frame| swip.with_hint(frame));
                            match pool.resolve(swip) {
                                Ok(page) => {
                                    let seen = (page.page().word(4), page.page().word(510));
                                    if page.validate().is_ok() {
                                        assert_eq!(seen, (Ok(id.get()), Ok(id.get())), "P1");
                                    }
                                    hint = swip.with_hint(page.frame());
                                }
                                Err(Restart::Conflict) => {}
                                Err(Restart::Fault(id)) => drop(pool.fault(id).expect("a page")),
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    for id in (0..PAGES).map(PageId::new) {
        let guard = pool.fetch(id).expect("a page");
        let count = read_count(guard.read().expect("a copy").payload(), id);
        assert_eq!(count, counts[id.get() as usize].load(Ordering::SeqCst), "a lost update of page {id}");
    }
    let stats = pool.stats();
    assert!(stats.evictions > 1000 && stats.write_backs > 100, "the pool was too large: {stats:?}");
    pool.checkpoint().expect("written");
    assert_eq!(pool.dirty_len(), 0);
    pool.drop_cache().expect("evicted");
    assert_eq!(pool.resident_len(), 0, "P10: no frame stays pinned or latched");
}

#[test]
fn eight_threads_on_64_frames() {
    hammer(64, 1000);
}

#[test]
fn eight_threads_on_20_frames() {
    hammer(20, 1000);
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
