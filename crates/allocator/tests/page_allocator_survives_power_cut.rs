//! Failure prevented: ids that are lost, doubled or half there after a crash between two syncs or in one.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use pagestone_allocator::PageAllocator;
use pagestone_direct_io::{PageFile, PageFileOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};
use pagestone_testkit::{AfterFailedSync, CrashOptions, FaultPlan, Keep, SimDisk};

const PATH: &str = "/pages";

fn ids_of(allocator: &PageAllocator) -> BTreeSet<u64> {
    (0..allocator.high_water() + 20)
        .filter(|id| allocator.is_allocated(PageId::new(*id)).expect("its map"))
        .collect()
}

fn open(disk: &SimDisk) -> Result<PageAllocator, PageError> {
    PageAllocator::new(PageFileOptions::new().open_on(disk, Path::new(PATH))?)
}

/// Changes of no order, the same each time.
fn change(allocator: &PageAllocator, round: u64) {
    for _ in 0..3 + round % 4 * 5 {
        allocator.allocate().expect("an id");
    }
    let in_use: Vec<u64> = ids_of(allocator).into_iter().collect();
    for id in in_use.iter().skip(round as usize % 3).step_by(2 + round as usize % 3) {
        allocator.free(PageId::new(*id)).expect("it is in use");
    }
}

#[test]
fn every_crash_leaves_the_state_of_a_sync() {
    let disk = SimDisk::new(3);
    let mut states = vec![BTreeSet::new()];
    {
        let allocator = open(&disk).expect("made");
        for round in 0..6 {
            change(&allocator, round);
            allocator.sync().expect("durable");
            states.push(ids_of(&allocator));
            disk.note(round + 1);
        }
    }
    assert_eq!(disk.audit(), []);
    let (mut images, mut later) = (0, 0);
    for image in disk.crash_states(&CrashOptions::default()) {
        let crashed = image.disk();
        let allocator = open(&crashed).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let (found, synced) = (ids_of(&allocator), image.acknowledged().len());
        let next = states.get(synced + 1);
        assert!(found == states[synced] || Some(&found) == next, "{found:?}: {}", image.explain());
        images += 1;
        later += u64::from(found != states[synced]);
        // And it goes on from there: two more commits, a second crash after each.
        for round in 0..2 {
            change(&allocator, round);
            allocator.sync().expect("durable");
            let again = crashed.power_cut(Keep::Synced);
            assert_eq!(
                ids_of(&open(&again).expect("it is there")),
                ids_of(&allocator),
                "{}",
                image.explain()
            );
        }
    }
    assert!(images > 100 && later > 5, "{images} images, {later} with a commit that nobody was told of");
}

#[test]
fn a_crash_in_the_commit_after_a_crash_leaves_the_state_of_a_sync_too() {
    let first = SimDisk::new(4);
    {
        let allocator = open(&first).expect("made");
        (0..2).for_each(|round| {
            change(&allocator, round);
            allocator.sync().expect("durable");
        });
    }
    let mut images = 0;
    for image in first.crash_states(&CrashOptions::default()) {
        let disk = image.disk();
        let allocator = open(&disk).expect("as above");
        let before = ids_of(&allocator);
        change(&allocator, 5);
        allocator.sync().expect("durable");
        let after = ids_of(&allocator);
        drop(allocator);
        for image in disk.crash_states(&CrashOptions::default()) {
            let found = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
            let found = ids_of(&found);
            assert!(found == before || found == after, "{}", image.explain());
            images += 1;
        }
    }
    assert!(images > 100, "{images}");
}

/// A failed sync leaves in the cache, as clean, what is on no disk. Who opens the file again must not build on that.
#[test]
fn a_crash_after_a_failed_sync_and_an_opening_leaves_what_was_found_or_the_sync_after_it() {
    let mut images = 0;
    for (after, which) in AfterFailedSync::ALL.into_iter().flat_map(|after| [(after, 1), (after, 2)]) {
        let disk = SimDisk::new(6);
        let allocator = open(&disk).expect("made");
        (0..2).for_each(|round| {
            change(&allocator, round);
            allocator.sync().expect("durable");
        });
        change(&allocator, 2);
        disk.fail(FaultPlan::failed_sync(5, after).skip(which - 1));
        let failed = allocator.sync();
        assert!(failed.is_err() || after == AfterFailedSync::ReportedLate, "{after:?}: the plan was not met");
        drop(allocator);
        disk.heal();
        let begin = disk.journal_len();
        let allocator = open(&disk).expect("a new handle");
        let before = ids_of(&allocator);
        change(&allocator, 3);
        let synced = allocator.sync();
        let between = ids_of(&allocator);
        drop(allocator);
        let options = CrashOptions { cuts: begin..usize::MAX, ..CrashOptions::default() };
        for image in disk.crash_states(&options) {
            let found = open(&image.disk()).unwrap_or_else(|error| panic!("{after:?} {which}: {error}"));
            let found = ids_of(&found);
            assert!(found == before || found == between, "{after:?} {which}: {}", image.explain());
            images += 1;
        }
        assert!(synced.is_ok() || after == AfterFailedSync::ReportedLate, "{after:?} {which}");
    }
    assert!(images > 100, "{images}");
}

/// A page file whose process is killed: after so many calls nothing is written and nothing synced any more.
#[derive(Debug)]
struct Killed {
    file: PageFile,
    calls_left: AtomicU64,
}

impl Killed {
    fn alive(&self) -> PageResult<()> {
        let dead = |_| PageError::io("go on", std::io::ErrorKind::Other.into());
        self.calls_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).map(drop).map_err(dead)
    }
}

impl PageStore for Killed {
    fn page_size(&self) -> PageSize {
        self.file.page_size()
    }
    fn allocate_page(&self, id: PageId) -> Page {
        PageStore::allocate_page(&self.file, id)
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        PageStore::read_into(&self.file, id, page)
    }
    fn is_unwritten(&self, id: PageId) -> PageResult<bool> {
        PageStore::is_unwritten(&self.file, id)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.alive()?;
        PageStore::write_page(&self.file, page)
    }
    fn sync(&self) -> PageResult<()> {
        self.alive()?;
        PageStore::sync(&self.file)
    }
    fn len(&self) -> PageResult<u64> {
        PageStore::len(&self.file)
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        PageStore::grow(&self.file, pages)
    }
}

/// What a killed process wrote and did not sync is seen by who opens the file next, and is on no disk yet.
#[test]
fn a_power_cut_after_a_killed_process_and_an_opening_leaves_what_was_found_or_the_sync_after_it() {
    let mut images = 0;
    for calls in 0..10 {
        let disk = SimDisk::new(8);
        {
            let allocator = open(&disk).expect("made");
            (0..2).for_each(|round| {
                change(&allocator, round);
                allocator.sync().expect("durable");
            });
        }
        let file = PageFileOptions::new().open_on(&disk, Path::new(PATH)).expect("it is there");
        let allocator = PageAllocator::new(Killed { file, calls_left: calls.into() }).expect("it is there");
        let old = ids_of(&allocator);
        change(&allocator, 2);
        let killed = allocator.sync().is_err();
        assert_eq!(killed, calls < 5, "two writes or more and two syncs");
        drop(allocator);
        let begin = disk.journal_len();
        let allocator = open(&disk).expect("a new process");
        let found = ids_of(&allocator);
        change(&allocator, 3);
        allocator.sync().expect("durable");
        let new = ids_of(&allocator);
        drop(allocator);
        let options = CrashOptions { cuts: begin..usize::MAX, ..CrashOptions::default() };
        for image in disk.crash_states(&options) {
            let again =
                open(&image.disk()).unwrap_or_else(|error| panic!("{calls}: {error}: {}", image.explain()));
            let again = ids_of(&again);
            assert!([&old, &found, &new].contains(&&again), "{calls}: {}", image.explain());
            images += 1;
        }
    }
    assert!(images > 100, "{images}");
}

/// A store whose owner is cut off while it writes a root.
#[derive(Debug)]
struct CutOff {
    inner: MemoryStore,
    /// Root B does not reach the disk.
    loses_b: AtomicBool,
    /// Root A is torn by the next write of it.
    tears_a: AtomicBool,
    a_is_torn: AtomicBool,
}

impl PageStore for CutOff {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        match id.get() {
            0 if self.a_is_torn.load(Relaxed) => {
                Err(PageError::ChecksumMismatch { page_id: id, stored: 1, computed: 2 })
            }
            _ => self.inner.read_into(id, page),
        }
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        match page.id().get() {
            0 if self.tears_a.load(Relaxed) => {
                self.a_is_torn.store(true, Relaxed);
                Err(PageError::io("write a page", std::io::ErrorKind::Other.into()))
            }
            13 if self.loses_b.load(Relaxed) => Ok(()),
            _ => self.inner.write_page(page),
        }
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
fn a_root_that_is_torn_after_the_other_was_lost_leaves_the_last_commit() {
    let store = Arc::new(CutOff {
        inner: MemoryStore::new(DEFAULT_PAGE_SIZE),
        loses_b: false.into(),
        tears_a: false.into(),
        a_is_torn: false.into(),
    });
    let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
    allocator.allocate().expect("an id");
    allocator.sync().expect("durable");
    store.loses_b.store(true, Relaxed);
    allocator.allocate().expect("an id");
    allocator.sync().expect("durable");
    store.loses_b.store(false, Relaxed);

    let allocator = PageAllocator::new(Arc::clone(&store)).expect("root A has it");
    let ids = ids_of(&allocator);
    assert_eq!(ids, [1, 2].into());
    allocator.allocate().expect("an id");
    store.tears_a.store(true, Relaxed);
    for error in [allocator.sync().expect_err("A is torn"), allocator.sync().expect_err("it is final")] {
        assert!(matches!(error, PageError::Poisoned { .. }), "{error}");
    }
    assert!(matches!(allocator.allocate(), Err(PageError::Poisoned { .. })));

    let allocator = PageAllocator::new(Arc::clone(&store)).expect("root B has it");
    assert_eq!(ids_of(&allocator), ids);
    store.tears_a.store(false, Relaxed);
    store.a_is_torn.store(false, Relaxed);
    allocator.allocate().expect("an id");
    allocator.sync().expect("durable");
    assert_eq!(ids_of(&PageAllocator::new(store).expect("both have it")), [1, 2, 3].into());
}
