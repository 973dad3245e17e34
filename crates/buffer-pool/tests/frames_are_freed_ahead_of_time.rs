//! Failure prevented: a page provider that sleeps while frames run out, throws out what is pinned or dirty, hides an error or a panic of
//! its thread, or makes anybody wait for it.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_buffer_pool::{BufferPool, PageProvider, PoolOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};
use pagestone_threading::{Spawner, ThreadClass};

const FRAMES: u64 = 1024;
/// The marks of so many frames.
const LOW: usize = 16;
const HIGH: usize = 32;

/// Memory that fails writes, or panics in those of the provider's thread.
#[derive(Debug)]
struct Troubled {
    inner: MemoryStore,
    fails: AtomicBool,
    panics: AtomicBool,
    failed: AtomicU64,
}

impl Troubled {
    fn new() -> Arc<Self> {
        let (fails, panics, failed) = (false.into(), false.into(), 0.into());
        Arc::new(Self { inner: MemoryStore::new(DEFAULT_PAGE_SIZE), fails, panics, failed })
    }
}

impl PageStore for Troubled {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        if self.fails.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(PageError::NoSpace { needed: 4096 });
        }
        let ours = std::thread::current().name() == Some("pagestone-pages");
        assert!(!ours || !self.panics.load(Ordering::SeqCst), "the disk is gone");
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        self.inner.sync()
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

fn pool(store: impl PageStore + 'static) -> Arc<BufferPool> {
    let options =
        PoolOptions { exhausted_wait: Duration::from_millis(1), ..PoolOptions::new(FRAMES as usize) };
    Arc::new(BufferPool::with_options(Box::new(store), options).expect("a pool"))
}

fn start(pool: &Arc<BufferPool>) -> PageProvider {
    PageProvider::start(pool, &Spawner::unpinned(), ThreadClass::Worker).expect("a thread")
}

fn write(pool: &BufferPool, id: u64) -> PageResult<()> {
    pool.new_page(PageId::new(id))?.write()?.payload_mut()[..8].copy_from_slice(&id.to_le_bytes());
    Ok(())
}

fn read(pool: &BufferPool, id: u64) -> u64 {
    let page = pool.fetch(PageId::new(id)).expect("a page");
    u64::from_le_bytes(*page.read().expect("a copy").payload().first_chunk().expect("eight bytes"))
}

fn free(pool: &BufferPool) -> usize {
    pool.capacity() - pool.resident_len()
}

/// Waits for what comes soon; a machine that is busy may take longer.
fn until(what: &str, come: impl Fn() -> bool) {
    let began = Instant::now();
    while !come() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_round_frees_up_to_the_high_mark_and_touches_nothing_that_is_pinned() {
    let pool = pool(MemoryStore::new(DEFAULT_PAGE_SIZE));
    (0..FRAMES).for_each(|id| write(&pool, id).expect("a frame"));
    assert_eq!((free(&pool), pool.dirty_len()), (0, FRAMES as usize));
    // All are dirty: one batch is written.
    let freed = pool.provide_frames().expect("written");
    assert!((HIGH..=64).contains(&freed) && free(&pool) == freed, "{freed}");
    assert_eq!(pool.stats().write_batches, 1);
    assert_eq!(pool.provide_frames().expect("nothing to write"), 0, "there are enough");
    // With clean ones nothing is written.
    (0..FRAMES).for_each(|id| assert_eq!(read(&pool, id), id));
    pool.flush_all().expect("written");
    let pins = pool.fetch_many(&(0..FRAMES / 2).map(PageId::new).collect::<Vec<_>>());
    (FRAMES / 2..FRAMES).for_each(|id| assert_eq!(read(&pool, id), id));
    let written = pool.stats().write_backs;
    pool.provide_frames().expect("nothing to write");
    assert!(free(&pool) >= HIGH && pool.stats().write_backs == written);
    for pin in pins {
        let id = pin.expect("a frame").id();
        assert!(pool.is_resident(id), "a pinned page left");
    }
    let pins = pool.fetch_many(&(0..FRAMES).map(PageId::new).collect::<Vec<_>>());
    assert_eq!(pool.provide_frames().expect("nothing to write"), 0, "all are pinned");
    assert!(pins.iter().all(Result::is_ok));
}

#[test]
fn whoever_takes_one_of_the_last_frames_wakes_it() {
    let pool = pool(MemoryStore::new(DEFAULT_PAGE_SIZE));
    let provider = start(&pool);
    (0..FRAMES - LOW as u64).for_each(|id| write(&pool, id).expect("a frame"));
    assert_eq!(pool.stats().provided, 0, "nobody has asked");
    let mut next = FRAMES - LOW as u64;
    // Each time it slept again, as far as one can tell; a wake-up that is lost is never made good, since nobody else asks.
    for round in 1..=50 {
        until("a round", || free(&pool) >= LOW);
        while free(&pool) >= LOW {
            write(&pool, next).expect("a frame");
            next += 1;
        }
        assert_eq!(read(&pool, next - 1), next - 1, "round {round}");
    }
    until("the last round", || free(&pool) >= LOW);
    provider.stop().expect("it did not panic");
    let stats = pool.stats();
    assert!(stats.provided >= 50 && stats.provided <= stats.evictions, "{stats:?}");
    (0..next).for_each(|id| assert_eq!(read(&pool, id), id, "a page is lost"));
}

#[test]
fn a_pool_has_one_and_it_can_be_ended_and_started_again() {
    let pool = pool(MemoryStore::new(DEFAULT_PAGE_SIZE));
    for _ in 0..2 {
        let provider = start(&pool);
        let second = PageProvider::start(&pool, &Spawner::unpinned(), ThreadClass::Worker);
        assert!(matches!(second, Err(PageError::Io { .. })));
        drop(provider);
    }
    (0..2 * FRAMES).for_each(|id| write(&pool, id).expect("a frame"));
    assert_eq!(pool.stats().provided, 0, "it is gone");
    assert!(pool.provide_frames().expect("written") > 0, "what is left to whoever has a thread of his own");
}

#[test]
fn its_errors_are_counted_and_told_to_who_is_in_need() {
    let store = Troubled::new();
    let pool = pool(Arc::clone(&store));
    let provider = start(&pool);
    (0..FRAMES - LOW as u64).for_each(|id| write(&pool, id).expect("a frame"));
    store.fails.store(true, Ordering::SeqCst);
    let told = (FRAMES - LOW as u64..).find_map(|id| write(&pool, id).err()).expect("frames run out");
    assert!(matches!(told, PageError::NoSpace { .. }), "{told}");
    until("it fails", || pool.stats().failed_provisions > 0);
    assert!(store.failed.load(Ordering::SeqCst) >= 2, "its own and ours");
    store.fails.store(false, Ordering::SeqCst);
    write(&pool, 5000).expect("healed");
    until("it goes on", || free(&pool) >= LOW);
    provider.stop().expect("an error is no panic");
    (0..FRAMES - LOW as u64).for_each(|id| assert_eq!(read(&pool, id), id, "a page is lost"));
}

#[test]
fn its_panic_poisons_and_leaves_a_pool_that_reads() {
    let store = Troubled::new();
    let pool = pool(Arc::clone(&store));
    (0..FRAMES / 2).for_each(|id| write(&pool, id).expect("a frame"));
    pool.checkpoint().expect("written");
    let provider = start(&pool);
    store.panics.store(true, Ordering::SeqCst);
    // All of the others are dirty, so that it has to write.
    pool.drop_cache().expect("clean");
    (FRAMES / 2..3 * FRAMES / 2).take_while(|id| write(&pool, *id).is_ok()).count();
    until("it panics", || matches!(pool.sync(), Err(PageError::Poisoned { .. })));
    let Err(PageError::Poisoned { cause }) = pool.sync() else { panic!("poison is for good") };
    assert!(cause.contains("pagestone-pages") && cause.contains("the disk is gone"), "{cause}");
    assert!(matches!(pool.flush_all(), Err(PageError::Poisoned { .. })), "nothing more is written");
    let resident = (0..3 * FRAMES / 2).map(PageId::new).filter(|id| pool.is_resident(*id));
    resident.for_each(|id| assert_eq!(read(&pool, id.get()), id.get(), "what is in memory can be read"));
    // Its end would be the end of whoever was started meanwhile.
    let second = PageProvider::start(&pool, &Spawner::unpinned(), ThreadClass::Worker);
    assert!(matches!(second, Err(PageError::Io { .. })), "the pool has one until it is dropped");
    let panicked = provider.stop().expect_err("it panicked");
    assert_eq!(
        (panicked.thread.as_str(), panicked.message.as_str()),
        ("pagestone-pages", "the disk is gone")
    );
    start(&pool).stop().expect("it had nothing to do");
}
