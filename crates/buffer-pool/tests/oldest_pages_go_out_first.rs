//! Prevents: a log that one old or hot page holds for ever (L3); a checkpoint that passes a change which is in memory alone (L5).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, MemoryStore, Page, PageError, PageId, PageKind, PageResult, PageSize, PageStore,
};

type Hook = Box<dyn FnMut(&[PageId]) -> PageResult<()> + Send>;

/// Storage that tells which pages a batch has before it takes them.
struct Told {
    inner: MemoryStore,
    hook: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl PageStore for Told {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.inner.write_page(page)
    }
    fn write_many(&self, pages: &mut [Page]) -> PageResult<()> {
        let ids: Vec<PageId> = pages.iter().map(|page| page.id()).collect();
        if let Some(hook) = self.hook.lock().expect("no panic").as_mut() {
            hook(&ids)?;
        }
        self.inner.write_many(pages)
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

fn pool(frames: usize, pages: u64) -> (Arc<Told>, Arc<BufferPool>) {
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    inner.grow(pages).expect("room");
    let store = Arc::new(Told { inner, hook: Mutex::new(None) });
    let pool = BufferPool::with_options(Box::new(Arc::clone(&store)), PoolOptions::new(frames));
    let pool = Arc::new(pool.expect("a pool"));
    for id in (0..pages).map(PageId::new) {
        drop(pool.adopt(id, PageKind::PLAIN).expect("a frame"));
    }
    (store, pool)
}

/// A group of the log from `start` to `end` changes the page.
fn change(pool: &BufferPool, id: u64, start: u64, end: u64) {
    let pin = pool.fault(PageId::new(id)).expect("a page");
    pin.exclusive().expect("a latch").publish(Lsn::new(start), Lsn::new(end));
}

/// Batches that storage was given.
fn record(store: &Told) -> Arc<Mutex<Vec<Vec<u64>>>> {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&batches);
    *store.hook.lock().expect("no panic") = Some(Box::new(move |ids| {
        into.lock().expect("no panic").push(ids.iter().map(|id| id.get()).collect());
        Ok(())
    }));
    batches
}

#[test]
fn the_oldest_go_first_and_in_the_order_of_the_file() {
    let (store, pool) = pool(64, 60);
    // Page 59 is the oldest, page 0 the youngest; a second change makes none older or younger.
    for id in 0..60 {
        change(&pool, id, 1000 - 10 * id, 1005 - 10 * id);
        change(&pool, id, 2000, 2005);
    }
    let batches = record(&store);
    let first = pool.flush_below(Lsn::new(800), 10).expect("written");
    assert_eq!((first.taken, first.oldest), (10, Some(Lsn::new(1000 - 10 * 49))));
    assert_eq!(*batches.lock().expect("no panic"), [(50..60).collect::<Vec<u64>>()]);
    assert_eq!(pool.oldest_rec_lsn(), first.oldest);
    batches.lock().expect("no panic").clear();
    // The rest below 800, in batches of a quarter of the pool.
    let second = pool.flush_below(Lsn::new(800), 1000).expect("written");
    assert_eq!((second.taken, second.oldest), (29, Some(Lsn::new(800))));
    let batches = batches.lock().expect("no panic").clone();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [16, 13]);
    assert_eq!(batches.concat(), (21..50).collect::<Vec<u64>>());
    let none = pool.flush_below(Lsn::new(800), 1000).expect("nothing to write");
    assert_eq!((none.taken, none.oldest), (0, Some(Lsn::new(800))));
    pool.flush_below(Lsn::MAX, 1000).expect("written");
    assert_eq!(pool.oldest_rec_lsn(), None);
}

#[test]
fn a_page_changed_while_it_is_written_comes_back_younger() {
    let (store, pool) = pool(16, 4);
    change(&pool, 1, 100, 110);
    change(&pool, 2, 200, 210);
    let (inside, hook) = (Arc::clone(&pool), store.hook.lock());
    *hook.expect("no panic") = Some(Box::new(move |_| {
        change(&inside, 1, 500, 510);
        Ok(())
    }));
    let flushed = pool.flush_below(Lsn::new(1000), 10).expect("written");
    *store.hook.lock().expect("no panic") = None;
    // The copy had everything up to 110.
    assert_eq!((flushed.taken, flushed.oldest), (2, Some(Lsn::new(110))));
    let flushed = pool.flush_below(Lsn::new(200), 10).expect("written");
    assert_eq!((flushed.taken, flushed.oldest), (1, None));
}

#[test]
fn a_failed_write_leaves_the_oldest_where_it_was() {
    let (store, pool) = pool(16, 4);
    change(&pool, 1, 100, 110);
    change(&pool, 2, 200, 210);
    *store.hook.lock().expect("no panic") =
        Some(Box::new(|_| Err(PageError::io("test", std::io::Error::from_raw_os_error(28)))));
    pool.flush_below(Lsn::MAX, 10).expect_err("the disk is full");
    assert_eq!((pool.dirty_len(), pool.oldest_rec_lsn()), (2, Some(Lsn::new(100))));
    *store.hook.lock().expect("no panic") = None;
    pool.flush_below(Lsn::MAX, 10).expect("there is room again");
    assert_eq!(pool.dirty_len(), 0);
}

/// A log that gives LSNs and knows who is in progress.
#[derive(Default)]
struct Log {
    end: u64,
    in_progress: BTreeSet<u64>,
    /// Page, start, end of every group that no checkpoint has passed.
    groups: Vec<(u64, u64, u64)>,
}

/// L5: where a checkpoint may be, by the log before a flush and the pages after it. Whatever began before that is in storage.
#[test]
fn no_change_below_the_checkpoint_is_in_memory_alone() {
    const PAGES: u64 = 48;
    let (store, pool) = pool(64, PAGES);
    let log = Mutex::new(Log { end: 1, ..Log::default() });
    let (stop, checked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (pool, log, stop) = (&pool, &log, &stop);
            scope.spawn(move || {
                let mut random = thread + 1;
                while !stop.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Every other change hits the one hot page.
                    let id = if random >> 63 == 0 { 7 } else { (random >> 33) % PAGES };
                    let pin = pool.fault(PageId::new(id)).expect("a page");
                    let page = pin.exclusive().expect("a latch");
                    let (start, end) = {
                        let mut log = log.lock().expect("no panic");
                        let start = log.end;
                        log.end += 1 + (random >> 60);
                        let end = log.end;
                        log.in_progress.insert(start);
                        log.groups.push((id, start, end));
                        (start, end)
                    };
                    page.publish(Lsn::new(start), Lsn::new(end));
                    drop(page);
                    log.lock().expect("no panic").in_progress.remove(&start);
                    std::thread::yield_now();
                }
            });
        }
        let mut stored = store.allocate_page(PageId::new(0));
        let mut last = 0;
        for round in 0..1_000_000 {
            if checked.load(Ordering::Relaxed) > 2000 {
                break;
            }
            // The writers get their turn on one processor too.
            std::thread::yield_now();
            let (end, oldest_in_progress) = {
                let log = log.lock().expect("no panic");
                (log.end, log.in_progress.first().copied().unwrap_or(u64::MAX))
            };
            let below = Lsn::new(end - (end - last) / (1 + round % 3));
            let flushed = pool.flush_below(below, 3 + round as usize % 40).expect("written");
            let oldest = flushed.oldest.map_or(u64::MAX, Lsn::get);
            let checkpoint = end.min(oldest_in_progress).min(oldest);
            // Each is looked at once, so that a round costs what the writers did since the last.
            let mut newest = [0; PAGES as usize];
            log.lock().expect("no panic").groups.retain(|(id, start, end)| {
                let is_passed = *start < checkpoint;
                if is_passed {
                    newest[*id as usize] = *end;
                }
                !is_passed
            });
            for (id, newest) in newest.iter().enumerate().filter(|(_, newest)| **newest > 0) {
                store.read_into(PageId::new(id as u64), &mut stored).expect("written before");
                assert!(stored.lsn().get() >= *newest, "page {id}: {} < {newest}", stored.lsn().get());
                checked.fetch_add(1, Ordering::Relaxed);
            }
            last = checkpoint;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(checked.load(Ordering::Relaxed) > 1000, "nothing was below a checkpoint");
}

/// A whole checkpoint that took the oldest first would scatter every batch over the file.
#[test]
fn all_that_is_dirty_goes_out_in_the_order_of_the_file() {
    let (store, pool) = pool(64, 60);
    for id in 0..60 {
        let scattered = id * 37 % 60;
        change(&pool, id, 100 + scattered, 101 + scattered);
    }
    let batches = record(&store);
    let mut out = pool.write_out(Lsn::new(150));
    assert_eq!((out.left(), pool.dirty_len()), (50, 60), "nothing is written yet");
    // Changed again, and written by somebody else: neither is missed nor written twice.
    let old: Vec<u64> = (0..60).filter(|id| id * 37 % 60 < 50).collect();
    change(&pool, old[0], 200, 201);
    pool.flush(PageId::new(old[49])).expect("written");
    assert_eq!(batches.lock().expect("no panic").pop(), Some(vec![old[49]]));
    out.write(20).expect("written");
    assert_eq!(out.left(), 30);
    out.write(1000).expect("written");
    assert_eq!(out.left(), 0);
    let batches = batches.lock().expect("no panic").clone();
    assert_eq!(batches.concat(), old[..49], "the pieces together, a quarter of the pool at once");
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [16, 4, 16, 13]);
    assert_eq!(pool.flush_below(Lsn::new(150), 100).expect("nothing").taken, 0);
    assert_eq!(pool.oldest_rec_lsn(), Some(Lsn::new(150)));
}

#[test]
fn a_write_out_that_fails_leaves_its_pages_dirty() {
    let (store, pool) = pool(16, 8);
    (0..8).for_each(|id| change(&pool, id, 100, 110));
    let mut out = pool.write_out(Lsn::MAX);
    *store.hook.lock().expect("no panic") =
        Some(Box::new(|_| Err(PageError::io("test", std::io::Error::from_raw_os_error(28)))));
    out.write(4).expect_err("the disk is full");
    *store.hook.lock().expect("no panic") = None;
    out.write(4).expect("there is room again");
    assert_eq!((out.left(), pool.dirty_len(), pool.oldest_rec_lsn()), (0, 4, Some(Lsn::new(100))));
}
