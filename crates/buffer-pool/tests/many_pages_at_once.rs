//! Failure prevented: a batch that loses a page's answer, reads a page twice, reads one by one, waits for itself or for another batch,
//! or lets one bad page spoil the others; a hint that pins, fails its caller, makes a scanned page hot or empties the pool.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagestone_buffer_pool::{Begun, BufferPool, PoolOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};

const PAGES: u64 = 256;
/// A page that no read gives.
const BAD: u64 = 13;

/// Remembers how it is read.
#[derive(Debug)]
struct Watched {
    inner: MemoryStore,
    single: AtomicU64,
    batches: Mutex<Vec<usize>>,
}

impl PageStore for Watched {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.single.fetch_add(1, Ordering::SeqCst);
        self.inner.read_into(id, page)
    }
    fn read_many(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        self.batches.lock().expect("no panic").push(ids.len());
        let read = |(id, page): (&PageId, &mut Page)| match id.get() {
            BAD => Err(PageError::io("read a page", std::io::Error::from_raw_os_error(5))),
            _ => self.inner.read_into(*id, page),
        };
        ids.iter().zip(pages).map(read).collect()
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
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

fn pool(frames: usize) -> (Arc<Watched>, BufferPool) {
    let store = Arc::new(Watched {
        inner: MemoryStore::new(DEFAULT_PAGE_SIZE),
        single: 0.into(),
        batches: Mutex::default(),
    });
    let mut options = PoolOptions::new(frames);
    options.exhausted_wait = Duration::from_millis(20);
    let pool = BufferPool::with_options(Box::new(Arc::clone(&store)), options).expect("a pool");
    for id in (0..PAGES).map(PageId::new) {
        let page = pool.new_page(id).expect("a frame");
        page.write().expect("a latch").payload_mut()[..8].copy_from_slice(&id.get().to_le_bytes());
    }
    pool.drop_cache().expect("written");
    (store, pool)
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<PageId> {
    numbers.into_iter().map(PageId::new).collect()
}

/// Fetches them all, and looks at each while all are held.
fn fetch_all(pool: &BufferPool, ids: &[PageId]) {
    let pages = pool.fetch_many(ids);
    assert_eq!(pages.len(), ids.len());
    for (id, page) in ids.iter().zip(&pages) {
        let page = page.as_ref().unwrap_or_else(|error| panic!("page {id}: {error}"));
        assert_eq!(page.id(), *id);
        assert_eq!(page.read().expect("a copy").payload()[..8], id.get().to_le_bytes());
    }
}

#[test]
fn what_is_absent_is_read_by_one_call_and_each_page_once() {
    let (store, pool) = pool(64);
    drop(pool.fetch(PageId::new(3)).expect("a page"));
    let wanted = ids([5, 3, 9, 5, 40, 3, 41, 42]);
    fetch_all(&pool, &wanted);
    assert_eq!(*store.batches.lock().expect("no panic"), [5], "5, 9, 40, 41 and 42, at once");
    assert_eq!(store.single.load(Ordering::SeqCst), 1, "page 3, before");
    assert_eq!((pool.stats().misses, pool.stats().hits), (6, 3), "3 twice, and 5 again");
    for _ in 0..10 {
        drop(pool.fetch(PageId::new(40)).expect("resident"));
    }
    assert_eq!(pool.stats().hits, 13);
}

#[test]
fn a_bad_page_spoils_no_other() {
    let (_store, pool) = pool(64);
    let wanted = ids([1, BAD, 2, 5000, u64::MAX >> 1]);
    let found = pool.fetch_many(&wanted);
    assert!(found[0].is_ok() && found[2].is_ok());
    assert!(matches!(found[1], Err(PageError::Io { .. })), "{:?}", found[1]);
    assert!(matches!(found[3], Err(PageError::InvalidPageId { .. })), "{:?}", found[3]);
    assert!(matches!(found[4], Err(PageError::InvalidPageId { .. })), "{:?}", found[4]);
    drop(found);
    assert_eq!((pool.resident_len(), pool.stats().failed_reads), (2, 2));
}

#[test]
fn a_batch_is_bounded_by_the_frames_and_gives_them_all_back() {
    for frames in [1, 16, 64] {
        let (_store, pool) = pool(frames);
        let wanted = ids((0..PAGES).filter(|id| *id != BAD).take(2 * frames));
        for _ in 0..2 {
            let found = pool.fetch_many(&wanted);
            assert_eq!(found.iter().filter(|page| page.is_ok()).count(), frames);
            for error in found.into_iter().filter_map(PageResult::err) {
                assert!(matches!(error, PageError::BufferPoolExhausted { capacity } if capacity == frames));
            }
        }
        fetch_all(&pool, &wanted[..frames]);
        drop(pool.fetch_many(&wanted[..frames]));
        fetch_all(&pool, &wanted[frames..]);
    }
}

#[test]
fn batches_over_the_same_pages_in_other_orders_do_not_wait_for_each_other() {
    let (_store, pool) = pool(64);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..200 {
                    let mut wanted = ids((20..30).map(|id| id + round % 7 * 10));
                    wanted.rotate_left(thread * 3);
                    if thread % 2 == 0 {
                        wanted.reverse();
                    }
                    for (id, page) in wanted.iter().zip(pool.fetch_many(&wanted)) {
                        let page = page.expect("frames for all");
                        assert_eq!(page.read().expect("a copy").payload()[..8], id.get().to_le_bytes());
                    }
                    if round % 5 == 0 {
                        wanted.iter().for_each(|id| pool.discard(*id).expect("nobody panics"));
                    }
                }
            });
        }
    });
    drop(pool.drop_cache());
    assert_eq!(pool.resident_len(), 0, "no pin is left");
}

#[test]
fn a_hint_reads_at_once_pins_nothing_and_counts_its_errors() {
    let (store, pool) = pool(64);
    pool.prefetch(&ids([7, BAD, 8, 7, 5000]));
    assert_eq!(*store.batches.lock().expect("no panic"), [4]);
    assert_eq!(pool.resident_len(), 2);
    let stats = pool.stats();
    assert_eq!((stats.prefetches, stats.failed_prefetches, stats.prefetch_hits), (2, 2, 0));
    drop((pool.fetch(PageId::new(7)), pool.fetch(PageId::new(7))));
    assert_eq!(pool.stats().prefetch_hits, 1);
    assert_eq!(store.single.load(Ordering::SeqCst), 0, "it was there");
    pool.prefetch(&ids(100..200));
    assert_eq!(pool.resident_len(), 2 + 4, "a sixteenth of the pool");
    pool.drop_cache().expect("nothing is pinned");
    assert_eq!(pool.resident_len(), 0);
}

#[test]
fn a_scan_that_reads_ahead_makes_nothing_hot() {
    let (_store, pool) = pool(64);
    let hot = ids(100..132);
    for _ in 0..3 {
        hot.iter().for_each(|id| drop(pool.fetch(*id).expect("a page")));
    }
    let before = pool.stats().misses;
    let mut again = 0;
    for ahead in ids((0..96).filter(|id| *id != BAD)).chunks(4) {
        pool.prefetch(ahead);
        ahead.iter().for_each(|id| drop(pool.fetch(*id).expect("a page")));
        // What is hot is used meanwhile.
        let missed = pool.stats().misses;
        hot.iter().for_each(|id| drop(pool.fetch(*id).expect("a page")));
        again += pool.stats().misses - missed;
    }
    assert_eq!(again, 0, "of {} reads", pool.stats().misses - before);
}

/// Brings them in one after another, each as it comes; gives those that could not be read.
fn stream(pool: &BufferPool, wanted: &[PageId], most: usize) -> Vec<PageId> {
    let (mut faults, mut arrived, mut bad) = (pool.faults(most), Vec::new(), Vec::new());
    let (mut next, mut later) = (wanted.iter().copied(), Vec::new());
    loop {
        while faults.has_room()
            && let Some(id) = next.next()
        {
            match faults.begin(id) {
                Begun::Reading | Begun::Resident => {}
                Begun::NotNow => later.push(id),
            }
        }
        if faults.under_way() == 0 {
            break;
        }
        faults.wait(1, &mut arrived);
        for (id, pin) in arrived.drain(..) {
            match pin {
                Ok(pin) => assert_eq!(pin.id(), id),
                Err(_) => bad.push(id),
            }
        }
    }
    for id in later {
        bad.extend(pool.fetch(id).is_err().then_some(id));
    }
    bad
}

#[test]
fn pages_that_come_one_after_another_are_read_once_and_no_more_of_them_than_a_sixteenth() {
    let (store, pool) = pool(64);
    let wanted = ids((0..32).chain(0..32));
    assert_eq!(stream(&pool, &wanted, 32), ids([BAD, BAD]), "tried again, since nothing of it was kept");
    assert_eq!(pool.stats().misses, 33);
    assert!(store.batches.lock().expect("no panic").iter().all(|batch| *batch <= 64 / 16));
    assert_eq!(store.single.load(Ordering::SeqCst), 0);
    for id in wanted.into_iter().filter(|id| id.get() != BAD) {
        assert!(pool.is_resident(id));
        let page = pool.fetch(id).expect("resident");
        assert_eq!(page.read().expect("a copy").payload()[..8], id.get().to_le_bytes());
    }
    assert_eq!(pool.faults(9).begin(PageId::new(u64::MAX >> 1)), Begun::NotNow);
}

#[test]
fn who_leaves_faults_under_way_leaves_no_claim() {
    let (_store, pool) = pool(256);
    for round in 0..20 {
        let mut faults = pool.faults(16);
        for id in ids(round..round + 16) {
            assert!(faults.begin(id) != Begun::NotNow);
        }
        assert_eq!(faults.begin(PageId::new(200)), Begun::NotNow, "no room");
    }
    assert_eq!(pool.resident_len(), 0, "nobody waited for them");
    let all: Vec<PageId> = ids(0..PAGES).into_iter().filter(|id| id.get() != BAD).collect();
    fetch_all(&pool, &all);
    assert_eq!(pool.resident_len(), all.len(), "no frame is lost");
}

#[test]
fn threads_that_stream_the_same_pages_do_not_wait_for_each_other() {
    let (_store, pool) = pool(64);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..50 {
                    let mut wanted = ids((0..64).map(|at| (at * (2 * thread + 1) + round) % PAGES));
                    wanted.rotate_left(thread as usize * 16);
                    let bad = stream(pool, &wanted, 1 + round as usize % 4);
                    assert!(bad.iter().all(|id| id.get() == BAD), "{bad:?}");
                }
            });
        }
    });
}
