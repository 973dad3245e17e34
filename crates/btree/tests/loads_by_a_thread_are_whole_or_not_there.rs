//! Prevents: a load with a thread of its own that loses or misplaces an entry; one that goes on, hangs, or is there by halves, after its thread
//! failed or died; and ids that stay taken, or are given back while somebody writes there.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use pagestone_btree::{BTree, TreeError};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};
use pagestone_threading::Spawner;
use support::{State, contents, environment_over, trees};

/// Of writes past the pool, what happens to the one that comes after so many.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Fails,
    Panics,
    /// Fails, after so long that whoever gives it pages waits for it.
    FailsLate,
    /// All take long and go well.
    Slow,
}

#[derive(Debug)]
struct Fragile {
    inner: MemoryStore,
    left: Arc<AtomicI64>,
    fate: Fate,
}

impl PageStore for Fragile {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.inner.write_page(page)
    }
    fn write_new(&self, pages: &mut [Page]) -> PageResult<()> {
        match (self.left.fetch_sub(1, Ordering::SeqCst), self.fate) {
            (1.., _) => self.inner.write_many(pages),
            (_, Fate::Fails) => Err(PageError::io("test", std::io::Error::from_raw_os_error(5))),
            (_, Fate::Panics) => panic!("storage died"),
            (_, Fate::FailsLate) => {
                sleep(Duration::from_millis(50));
                Err(PageError::io("test", std::io::Error::from_raw_os_error(5)))
            }
            (_, Fate::Slow) => {
                sleep(Duration::from_millis(5));
                self.inner.write_many(pages)
            }
        }
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

fn row(number: u32) -> (Vec<u8>, Vec<u8>) {
    let len = if number % 900 == 7 { 9000 } else { 40 + number as usize % 100 };
    (number.to_be_bytes().to_vec(), vec![number as u8; len])
}

fn rows(count: u32) -> State {
    (0..count).map(row).collect()
}

/// A tree over such a store, what it stands on, and how many more writes past the pool go well.
fn fragile(fate: Fate) -> (BTree, Arc<LoggedPool>, Arc<AtomicI64>) {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let store = Fragile { inner: MemoryStore::new(DEFAULT_PAGE_SIZE), left: Arc::clone(&left), fate };
    let env = environment_over(store, 128);
    (trees(&env, 1).remove(0), env, left)
}

#[test]
fn what_was_loaded_is_there() {
    for count in [0, 1, 50, 4000, 40_000] {
        let (tree, _env, _) = fragile(Fate::Fails);
        let loaded = tree.bulk_load_by(&Spawner::unpinned(), rows(count)).expect("loads");
        assert_eq!(loaded.entries, u64::from(count));
        assert!(contents(&tree) == rows(count), "{count} rows");
    }
}

#[test]
fn a_write_that_fails_fails_the_load_and_nothing_else() {
    let (tree, env, left) = fragile(Fate::Fails);
    let before = env.allocator().high_water();
    // The first write of all, one of a long value, some in the middle, and the last of all.
    for writes in [0, 1, 3, 20, 48, 49] {
        left.store(writes, Ordering::SeqCst);
        let error = tree.bulk_load_by(&Spawner::unpinned(), rows(40_000)).expect_err("a write fails");
        assert!(matches!(error, TreeError::Page(PageError::Io { .. })), "{writes}: {error}");
        assert!(tree.is_empty().expect("there"), "{writes}");
        assert_eq!(env.allocator().high_water(), before, "{writes}: ids stay taken");
    }
    left.store(i64::MAX, Ordering::SeqCst);
    tree.bulk_load_by(&Spawner::unpinned(), rows(40_000)).expect("loads");
    assert!(contents(&tree) == rows(40_000));
}

#[test]
fn a_slow_writer_and_one_that_fails_late_leave_nobody_waiting() {
    // More than the two of them hold between each other.
    let short = |count: u32| (0..count).map(|number| (number.to_be_bytes(), [number as u8; 90]));
    for (fate, writes) in [(Fate::FailsLate, 0), (Fate::FailsLate, 2), (Fate::Slow, 0)] {
        let (tree, env, left) = fragile(fate);
        left.store(writes, Ordering::SeqCst);
        let loaded = tree.bulk_load_by(&Spawner::unpinned(), short(90_000));
        if matches!(fate, Fate::Slow) {
            assert_eq!(loaded.expect("loads").entries, 90_000);
            let all: State = short(90_000).map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            assert!(contents(&tree) == all);
        } else {
            assert!(matches!(loaded, Err(TreeError::Page(PageError::Io { .. }))), "{loaded:?}");
            assert!(tree.is_empty().expect("there") && env.poison().check().is_ok());
        }
    }
}

#[test]
fn a_thread_that_dies_poisons_and_keeps_nobody_waiting() {
    for writes in [1, 3, 9] {
        let (tree, env, left) = fragile(Fate::Panics);
        // Long values are written by the caller's thread, which is not the one that is to die.
        let short = (0..90_000).map(|number: u32| (number.to_be_bytes(), [number as u8; 90]));
        left.store(writes, Ordering::SeqCst);
        let error = tree.bulk_load_by(&Spawner::unpinned(), short).expect_err("its thread died");
        let told = error.to_string();
        assert!(told.contains("storage died"), "{told}");
        assert!(env.poison().check().is_err());
    }
}

#[test]
fn entries_that_panic_leave_an_empty_tree() {
    let (tree, env, _) = fragile(Fate::Fails);
    let before = env.allocator().high_water();
    for last in [0, 10, 5000, 30_000] {
        let entries = (0..40_000).map(|number| if number == last { panic!("no more") } else { row(number) });
        let load = || tree.bulk_load_by(&Spawner::unpinned(), entries);
        catch_unwind(AssertUnwindSafe(load)).expect_err("it goes on in the caller");
        assert!(tree.is_empty().expect("there"), "{last}");
        assert_eq!(env.allocator().high_water(), before, "{last}: ids stay taken");
    }
    tree.bulk_load_by(&Spawner::unpinned(), rows(9000)).expect("loads");
    assert!(contents(&tree) == rows(9000));
}
