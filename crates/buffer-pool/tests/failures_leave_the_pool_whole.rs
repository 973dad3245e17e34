//! Prevents: a failed read or write that loses a frame, caches a bad page, or calls a page clean that is not (P10, P12, I6, I7).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagestone_buffer_pool::{BufferPool, PoolOptions, ReadAhead, Spawner, ThreadClass};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, MemoryStore, Page, PageError, PageHeader, PageId, PageKind, PageResult, PageSize,
    PageStore, SwipArray, WriteAhead,
};

#[derive(Debug)]
struct Failing {
    inner: MemoryStore,
    reads: AtomicBool,
    writes: AtomicBool,
    syncs: AtomicBool,
    panics: AtomicBool,
}

fn eio() -> PageError {
    PageError::io("test", std::io::Error::from_raw_os_error(5))
}

impl PageStore for Failing {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        assert!(!self.panics.load(Ordering::SeqCst), "storage died");
        if self.reads.load(Ordering::SeqCst) {
            return Err(eio());
        }
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        if self.writes.load(Ordering::SeqCst) {
            return Err(eio());
        }
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        if self.syncs.load(Ordering::SeqCst) { Err(eio()) } else { Ok(()) }
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

const FRAMES: usize = 8;

fn failing_pool() -> (Arc<Failing>, BufferPool) {
    failing_pool_of(FRAMES)
}

fn failing_pool_of(frames: usize) -> (Arc<Failing>, BufferPool) {
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    inner.grow(1000).expect("room");
    let store = Arc::new(Failing {
        inner,
        reads: false.into(),
        writes: false.into(),
        syncs: false.into(),
        panics: false.into(),
    });
    let mut options = PoolOptions::new(frames);
    options.exhausted_wait = Duration::from_millis(20);
    let pool = BufferPool::with_options(Box::new(Arc::clone(&store)), options).expect("a pool");
    (store, pool)
}

#[test]
fn failed_reads_cost_no_frame_and_are_tried_again() {
    let (store, pool) = failing_pool();
    for id in (0..20).map(PageId::new) {
        pool.new_page(id).expect("a frame").write().expect("a latch").payload_mut()[0] = id.get() as u8;
    }
    pool.drop_cache().expect("written");
    store.reads.store(true, Ordering::SeqCst);
    for round in 0..10 * FRAMES {
        let error = pool.fetch(PageId::new(round as u64 % 20)).expect_err("reads fail");
        assert!(matches!(error, PageError::Io { .. }), "{error}");
    }
    assert_eq!(pool.resident_len(), 0);
    store.reads.store(false, Ordering::SeqCst);
    for id in (0..20).map(PageId::new) {
        assert_eq!(pool.fetch(id).expect("a page").read().expect("a copy").payload()[0], id.get() as u8);
    }
}

#[test]
fn failed_writes_leave_pages_dirty_and_resident() {
    let (store, pool) = failing_pool();
    for id in (0..FRAMES as u64).map(PageId::new) {
        pool.new_page(id).expect("a frame").write().expect("a latch").payload_mut()[0] = 1;
    }
    store.writes.store(true, Ordering::SeqCst);
    pool.flush_all().expect_err("writes fail");
    assert_eq!(pool.dirty_len(), FRAMES);
    pool.new_page(PageId::new(50)).expect_err("no frame can be had without a write");
    assert_eq!((pool.dirty_len(), pool.resident_len()), (FRAMES, FRAMES));
    store.writes.store(false, Ordering::SeqCst);
    drop(pool.new_page(PageId::new(50)).expect("now it can"));
    pool.flush_all().expect("written");
    assert_eq!(pool.dirty_len(), 0);
}

/// Where clean pages are few a sweep writes dirty ones too, ahead of their time: who wants a frame gets one that is clean all the same.
#[test]
fn who_reads_is_told_of_no_failed_write_while_a_clean_frame_is_left() {
    const MANY: usize = 256;
    let (store, pool) = failing_pool_of(MANY);
    drop(pool.new_page(PageId::new(500)).expect("a frame").write().expect("a latch"));
    pool.drop_cache().expect("written");
    for id in (0..MANY as u64).map(PageId::new) {
        pool.new_page(id).expect("a frame").write().expect("a latch").payload_mut()[0] = 1;
    }
    pool.flush(PageId::new(7)).expect("written");
    assert_eq!(pool.dirty_len(), MANY - 1);
    store.writes.store(true, Ordering::SeqCst);
    drop(pool.fetch(PageId::new(500)).expect("one frame was clean"));
    assert_eq!((pool.dirty_len(), pool.is_resident(PageId::new(7))), (MANY - 1, false));
    let last = pool.fetch(PageId::new(500)).expect("resident");
    let told = pool.fetch(PageId::new(7)).expect_err("no frame can be had without a write");
    assert!(matches!(told, PageError::Io { .. }), "{told}");
    store.writes.store(false, Ordering::SeqCst);
    drop(last);
    assert_eq!(pool.fetch(PageId::new(7)).expect("now it can").read().expect("a copy").payload()[0], 1);
}

/// It had claimed pages, and others may wait for them.
#[test]
fn who_reads_ahead_and_dies_leaves_no_claim_and_keeps_nobody_waiting() {
    const MANY: usize = 256;
    let (store, pool) = failing_pool_of(MANY);
    let pool = Arc::new(pool);
    let all: Vec<PageId> = (0..MANY as u64).map(PageId::new).collect();
    for id in &all {
        pool.new_page(*id).expect("a frame").write().expect("a latch").payload_mut()[0] = id.get() as u8;
    }
    pool.drop_cache().expect("written");
    let readers = ReadAhead::start(&pool, &Spawner::unpinned(), ThreadClass::Worker).expect("threads");
    store.panics.store(true, Ordering::SeqCst);
    pool.prefetch_soon(&all[..16]);
    while pool.sync().is_ok() {
        std::thread::yield_now(); // until it is told (E8)
    }
    store.panics.store(false, Ordering::SeqCst);
    let pages: Vec<_> =
        all.iter().map(|id| pool.fetch(*id).expect("no frame and no claim is kept")).collect();
    for (id, page) in all.iter().zip(&pages) {
        assert_eq!(page.read().expect("a copy").payload()[0], id.get() as u8);
    }
    drop(pages);
    pool.drop_cache().expect("nothing is dirty");
    pool.prefetch_soon(&all[..16]);
    assert!(all[..16].iter().all(|id| pool.is_resident(*id)), "by the caller: nobody else is left");
    drop(readers);
    drop(ReadAhead::start(&pool, &Spawner::unpinned(), ThreadClass::Worker).expect("others may follow"));
}

#[test]
fn failed_sync_poisons_and_is_never_tried_again() {
    let (store, pool) = failing_pool();
    store.syncs.store(true, Ordering::SeqCst);
    assert!(matches!(pool.sync(), Err(PageError::Poisoned { .. })));
    store.syncs.store(false, Ordering::SeqCst);
    assert!(matches!(pool.sync(), Err(PageError::Poisoned { .. })), "L9: sticky");
}

#[test]
fn all_frames_pinned_is_an_error_after_a_bounded_wait() {
    let (_store, pool) = failing_pool();
    let pins: Vec<_> =
        (0..FRAMES as u64).map(|id| pool.new_page(PageId::new(id)).expect("a frame")).collect();
    let error = pool.new_page(PageId::new(60)).expect_err("every frame is pinned");
    assert!(matches!(error, PageError::BufferPoolExhausted { capacity: FRAMES }), "{error}");
    drop(pins);
    drop(pool.new_page(PageId::new(60)).expect("a frame is free again"));
}

#[derive(Debug, Default)]
struct Log {
    asked: Mutex<Vec<Lsn>>,
    broken: AtomicBool,
}

impl WriteAhead for Log {
    fn durable_lsn(&self) -> Lsn {
        self.asked.lock().expect("no panic").iter().copied().max().unwrap_or(Lsn::ZERO)
    }
    fn ensure_durable(&self, lsn: Lsn) -> PageResult<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(eio());
        }
        self.asked.lock().expect("no panic").push(lsn);
        Ok(())
    }
}

#[test]
fn log_goes_first_and_a_broken_log_keeps_pages_in_memory() {
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    inner.grow(10).expect("room");
    let store = Arc::new(inner);
    let log = Arc::new(Log::default());
    let mut options = PoolOptions::new(FRAMES);
    options.log = Some(Arc::clone(&log) as Arc<dyn WriteAhead>);
    let pool = BufferPool::with_options(Box::new(Arc::clone(&store)), options).expect("a pool");
    let page = pool.new_page(PageId::new(1)).expect("a frame");
    page.write().expect("a latch").set_lsn(Lsn::new(77));
    log.broken.store(true, Ordering::SeqCst);
    pool.flush_all().expect_err("the log is not durable");
    let mut probe = store.allocate_page(PageId::new(1));
    store.read_into(PageId::new(1), &mut probe).expect_err("P11: nothing reached storage");
    log.broken.store(false, Ordering::SeqCst);
    pool.flush_all().expect("written");
    assert_eq!(*log.asked.lock().expect("no panic"), [Lsn::new(77)]);
    store.read_into(PageId::new(1), &mut probe).expect("written");
    assert_eq!(probe.lsn(), Lsn::new(77));
}

/// A store whose reads stand still until they are let go, and then fail.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    reads: AtomicU64,
    let_go: AtomicBool,
}

impl PageStore for Slow {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, _: PageId, _: &mut Page) -> PageResult<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        while !self.let_go.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Err(eio())
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

#[test]
fn a_failed_read_is_one_read_for_all_who_waited_for_it() {
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    inner.grow(10).expect("room");
    let store = Arc::new(Slow { inner, reads: 0.into(), let_go: false.into() });
    let pool = BufferPool::new(Arc::clone(&store), FRAMES);
    std::thread::scope(|scope| {
        let fetch = || pool.fetch(PageId::new(3)).map(|page| page.id()).expect_err("the read fails");
        let fetches: Vec<_> = (0..8).map(|_| scope.spawn(fetch)).collect();
        while store.reads.load(Ordering::SeqCst) == 0 || pool.waiting_for_loads() < 7 {
            std::thread::yield_now();
        }
        store.let_go.store(true, Ordering::SeqCst);
        for fetch in fetches {
            let error = fetch.join().expect("no panic");
            let PageError::Io { source, .. } = error else { panic!("{error}") };
            assert_eq!(source.raw_os_error(), Some(5));
        }
    });
    assert_eq!(store.reads.load(Ordering::SeqCst), 1);
    assert_eq!((pool.stats().load_waits, pool.resident_len()), (7, 0));
}

/// Whose reads fail, each once it is let go of.
#[derive(Debug)]
struct Unreadable {
    inner: MemoryStore,
    let_go: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl PageStore for Unreadable {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, _: PageId, _: &mut Page) -> PageResult<()> {
        self.let_go.lock().expect("no panic").recv().expect("somebody lets go");
        Err(eio())
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

/// An id is used again while somebody who read an old holder still looks for the old page: what he cannot read is not wanted any more.
#[test]
fn a_new_page_is_not_refused_because_the_old_one_cannot_be_read() {
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    inner.grow(100).expect("room");
    let (let_go, held) = std::sync::mpsc::channel();
    let pool = &BufferPool::new(Unreadable { inner, let_go: Mutex::new(held) }, FRAMES);
    let id = PageId::new(7);
    std::thread::scope(|scope| {
        let [reader, other] = [(); 2].map(|()| scope.spawn(move || pool.fetch(id).map(drop)));
        let new = scope.spawn(move || {
            while pool.waiting_for_loads() == 0 {
                std::thread::yield_now();
            }
            pool.new_page(id).map(drop)
        });
        while pool.waiting_for_loads() < 2 {
            std::thread::yield_now();
        }
        let_go.send(()).expect("somebody reads");
        // As many more as they like.
        let_go.send(()).expect("somebody reads");
        let_go.send(()).expect("somebody reads");
        assert!([reader, other].map(|reader| reader.join().expect("no panic").is_err()).contains(&true));
        new.join().expect("no panic").expect("the old contents do not matter");
    });
    assert_eq!(pool.fetch(id).expect("resident").read().expect("a copy").payload()[0], 0);
}

/// Who waits for a frame waits for the page: if somebody else was given the frame and brought that very page in, both have it.
#[test]
fn who_waits_for_a_frame_takes_the_page_that_another_brought_in() {
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(100).expect("room");
    let pool = &BufferPool::new(store, 1);
    let ids = [0, 7].map(PageId::new);
    for id in ids {
        drop(pool.new_page(id).expect("a frame"));
    }
    let held = pool.fetch(ids[0]).expect("a frame");
    let both = &std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let one = scope.spawn(move || {
            let page = pool.fetch(ids[1]);
            both.wait();
            page.map(drop)
        });
        let many = scope.spawn(move || {
            let page = pool.fetch_many(&[ids[1]]).pop().expect("an answer");
            both.wait();
            page.map(drop)
        });
        while pool.stats().frame_waits < 20 {
            std::thread::yield_now();
        }
        drop(held);
        for thread in [one, many] {
            thread.join().expect("no panic").expect("there is a frame, and the page is in it");
        }
    });
}

/// A page under a good checksum whose header places swips outside of it. If it came in it could never be written, nor anything with it.
#[test]
fn a_page_that_could_not_be_written_is_not_brought_in() {
    let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
    store.grow(100).expect("room");
    let [good, bad] = [3, 4].map(PageId::new);
    for (id, swips) in
        [(good, SwipArray { at_word: 500, count: 12 }), (bad, SwipArray { at_word: 500, count: 13 })]
    {
        let mut page = store.allocate_page(id);
        let header = PageHeader { swips, ..PageHeader::new(PageKind::PLAIN, id) };
        header.encode(page.bytes_mut());
        store.write_page(&mut page).expect("memory");
    }
    let pool = BufferPool::new(Arc::clone(&store), FRAMES);
    drop(pool.fetch(good).expect("the swips end with the page"));
    let told = |result: PageResult<()>| match result {
        Err(PageError::Malformed { page_id, .. }) => assert_eq!(page_id, bad),
        other => panic!("{other:?}"),
    };
    told(pool.fetch(bad).map(drop));
    told(pool.fetch_many(&[bad]).pop().expect("an answer").map(drop));
    assert!(!pool.is_resident(bad));
    assert_eq!(pool.stats().failed_reads, 2);
    // Its place can be used again.
    pool.new_page(bad).expect("a frame").write().expect("a latch").payload_mut()[0] = 7;
    pool.checkpoint().expect("written");
}
