//! Failure prevented: ids that are lost, doubled or half there after a crash between two syncs or in one; an id that the disk
//! knows as in use and that is given to somebody else; a file that is no allocator's, or a damaged one, written over.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use pagestone_allocator::{PageAllocator, region_bits};
use pagestone_direct_io::{PageFile, PageFileOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageHeader, PageId, PageKind, PageResult, PageSize,
    PageStore,
};
use pagestone_testkit::{AfterFailedSync, CrashOptions, FaultPlan, Keep, SimDisk};
use proptest::prelude::*;

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

#[derive(Clone, Debug)]
enum Verb {
    Allocate(u32),
    Free(usize),
    FreeWrong(u64),
    Sync,
    /// Without a sync.
    Reopen,
}

fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let verb = prop_oneof![
        8 => prop_oneof![4 => Just(1), 1 => 2..30_u32].prop_map(Verb::Allocate),
        5 => any::<usize>().prop_map(Verb::Free),
        1 => (0..200_u64).prop_map(Verb::FreeWrong),
        2 => Just(Verb::Sync),
        1 => Just(Verb::Reopen),
    ];
    proptest::collection::vec(verb, 1..150)
}

proptest! {
    #[test]
    fn no_id_has_two_owners_and_syncs_are_what_comes_back(verbs in verbs()) {
        let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
        let mut allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
        let (mut in_use, mut synced) = (BTreeSet::new(), BTreeSet::new());
        for verb in verbs {
            match verb {
                Verb::Allocate(count) => {
                    let first = allocator.allocate_extent(count).expect("memory has room").get();
                    for id in first..first + u64::from(count) {
                        prop_assert!(id >= 1 && id < store.len().expect("a length"));
                        prop_assert!(!synced.contains(&id), "{id} is somebody's after a crash");
                        prop_assert!(in_use.insert(id), "{id} has two owners");
                    }
                }
                Verb::Free(index) if !in_use.is_empty() => {
                    let id = *in_use.iter().nth(index % in_use.len()).expect("below the length");
                    allocator.free(PageId::new(id)).expect("it is in use");
                    in_use.remove(&id);
                }
                Verb::Free(_) => {}
                Verb::FreeWrong(id) if in_use.contains(&id) => {}
                Verb::FreeWrong(id) => {
                    let error = allocator.free(PageId::new(id)).expect_err("nobody has it");
                    let refused = matches!(error, PageError::AllocationState { .. } | PageError::InvalidPageId { .. });
                    prop_assert!(refused, "{}", error);
                }
                Verb::Sync => {
                    allocator.sync().expect("durable");
                    synced = in_use.clone();
                }
                Verb::Reopen => {
                    allocator = PageAllocator::new(Arc::clone(&store)).expect("it is there");
                    in_use = synced.clone();
                }
            }
            prop_assert_eq!(&ids_of(&allocator), &in_use);
            let own = (9..16).filter(|own| *own < allocator.high_water()).count() as u64;
            prop_assert_eq!(allocator.free_count() + in_use.len() as u64 + own + 1, allocator.high_water());
        }
    }
}

#[test]
fn several_regions_are_found_again_and_a_run_lies_between_their_maps() {
    let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
    let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
    let region = region_bits(DEFAULT_PAGE_SIZE);
    let longest = allocator.allocate_extent(region as u32 - 2).expect("a whole region");
    assert_eq!(longest.get(), 16);
    let error = allocator.allocate_extent(region as u32 - 1).expect_err("a map is in the way");
    assert!(matches!(error, PageError::NoSpace { .. }), "{error}");
    assert!(matches!(allocator.allocate_extent(0), Err(PageError::NoSpace { .. })));
    let second = allocator.allocate_extent(1000).expect("in the second region");
    assert_eq!(second.get(), region + 16);
    assert_eq!(allocator.allocate().expect("the lowest").get(), 1);
    allocator.sync().expect("durable");
    let again = PageAllocator::new(Arc::clone(&store)).expect("it is there");
    assert_eq!((again.high_water(), again.free_count()), (region + 1016, allocator.free_count()));
    // Only the region that changed is written.
    again.free_extent(second, 1000).expect("in use");
    again.sync().expect("durable");
    assert_eq!(again.high_water(), region + 14, "the tail is let go of");
}

#[test]
fn threads_get_ids_of_their_own_while_others_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let allocator = PageAllocator::open(dir.path().join("pages"), DEFAULT_PAGE_SIZE).expect("made");
    let kept: Vec<Vec<u64>> = std::thread::scope(|threads| {
        let work = || {
            let mut kept = Vec::new();
            for round in 0..200 {
                let id = allocator.allocate().expect("an id");
                match round % 3 {
                    0 => allocator.free(id).expect("it is ours"),
                    _ => kept.push(id.get()),
                }
                if round % 50 == 0 {
                    allocator.sync().expect("durable");
                }
            }
            kept
        };
        let threads: Vec<_> = (0..3).map(|_| threads.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    allocator.sync().expect("durable");
    let all: BTreeSet<u64> = kept.iter().flatten().copied().collect();
    assert_eq!(all.len(), kept.iter().map(Vec::len).sum::<usize>(), "an id has two owners");
    drop(allocator);
    let again = PageAllocator::open(dir.path().join("pages"), DEFAULT_PAGE_SIZE).expect("it is there");
    assert_eq!(ids_of(&again), all);
}

/// Refused with this error, and not a byte of the file is another.
fn refused(path: &Path, why: &str, expected: fn(&PageError) -> bool) {
    let before = std::fs::read(path).expect("a file");
    let error = PageAllocator::open(path, DEFAULT_PAGE_SIZE).map(drop).expect_err(why);
    assert!(expected(&error), "{why}: {error}");
    assert!(std::fs::read(path).expect("a file") == before, "{why}: the file was changed");
}

fn write(file: &PageFile, id: u64, kind: PageKind) {
    let mut page: Page = file.allocate_page(PageId::new(id));
    PageHeader::new(kind, PageId::new(id)).encode(page.bytes_mut());
    page.payload_mut().fill(7);
    file.write_page(&mut page).expect("written");
}

#[test]
fn what_is_no_allocators_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    for (id, kind) in [
        (0, PageKind::PLAIN),
        (5, PageKind::PLAIN),
        (13, PageKind::PLAIN),
        (100, PageKind::LEAF),
        (0, PageKind::ALLOCATOR_ROOT),
    ] {
        let path = dir.path().join(format!("{id}-{}", kind.0));
        let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
        write(&file, id, kind);
        drop(file);
        refused(&path, "somebody else's page", |error| {
            matches!(error, PageError::Mismatch { .. } | PageError::Malformed { .. })
        });
    }
    for (name, bytes) in [("one page, unreadable", 4096), ("a part of a page", 100), ("all but a byte", 4095)]
    {
        let path = dir.path().join(name);
        drop(PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made"));
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("a file");
        // Zeros in front, as of a page that was never written.
        file.write_all(&[&vec![0; bytes - 1], &b"x"[..]].concat()).expect("written");
        drop(file);
        refused(&path, name, |error| {
            matches!(error, PageError::BadMagic { .. } | PageError::ShortRead { .. })
        });
    }
    let path = dir.path().join("behind");
    let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    file.grow(40).expect("room");
    let end = 8192 + file.len().expect("a length") * 4096;
    drop(file);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("a file");
    file.write_all(b"behind the last page").expect("written");
    assert_eq!(file.metadata().expect("a length").len(), end + 20);
    drop(file);
    refused(&path, "behind the last page", |error| matches!(error, PageError::Mismatch { .. }));
    let path = dir.path().join("text");
    std::fs::write(&path, b"not a page file").expect("written");
    refused(&path, "text", |error| matches!(error, PageError::InvalidSuperblock { .. }));
}

#[test]
fn damage_is_told_or_made_good_and_never_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let allocator = PageAllocator::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    allocator.allocate_extent(12).expect("before the maps");
    allocator.allocate_extent(88).expect("behind them");
    allocator.sync().expect("durable");
    let ids = ids_of(&allocator);
    drop(allocator);
    let whole = std::fs::read(&path).expect("a file");
    // Both copies of the superblock stand before page 0.
    let at = |id: u64| 8192 + id as usize * 4096;
    let broken = |pages: &[u64]| {
        let mut bytes = whole.clone();
        pages.iter().for_each(|id| bytes[at(*id) + 1000] ^= 1);
        std::fs::write(&path, bytes).expect("written");
    };
    let is_checksum: fn(&PageError) -> bool = |error| matches!(error, PageError::ChecksumMismatch { .. });
    for root in [0, 13] {
        broken(&[root]);
        let allocator = PageAllocator::open(&path, DEFAULT_PAGE_SIZE).expect("the other copy");
        assert_eq!(ids_of(&allocator), ids);
        // The next commit makes it good.
        allocator.allocate().expect("an id");
        allocator.sync().expect("durable");
        drop(allocator);
        let mut repaired = std::fs::read(&path).expect("a file");
        repaired[at(13 - root) + 1000] ^= 1;
        std::fs::write(&path, repaired).expect("written");
        let allocator = PageAllocator::open(&path, DEFAULT_PAGE_SIZE).expect("the copy that was made good");
        assert_eq!(ids_of(&allocator).len(), ids.len() + 1);
    }
    broken(&[0, 13]);
    refused(&path, "both roots", is_checksum);
    // The first commit wrote slot 14. A map is read when it is needed, and told by whoever needs it.
    broken(&[14]);
    let damaged = std::fs::read(&path).expect("a file");
    let allocator = PageAllocator::open(&path, DEFAULT_PAGE_SIZE).expect("its roots are whole");
    let id = PageId::new(1);
    let told = [allocator.is_allocated(id).map(drop), allocator.free(id), allocator.allocate().map(drop)];
    assert!(told.iter().all(|told| is_checksum(told.as_ref().expect_err("the map"))), "{told:?}");
    allocator.sync().expect("nothing has changed");
    drop(allocator);
    assert!(std::fs::read(&path).expect("a file") == damaged);
    // A whole map of another commit: what a write that was lost leaves.
    std::fs::write(&path, &whole).expect("written");
    let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    let mut page = file.allocate_page(PageId::new(14));
    file.read_into(PageId::new(14), &mut page).expect("whole");
    page.payload_mut()[8] += 1;
    file.write_page(&mut page).expect("written");
    drop(file);
    let allocator = PageAllocator::open(&path, DEFAULT_PAGE_SIZE).expect("its roots are whole");
    assert!(matches!(allocator.free(id), Err(PageError::Malformed { .. })));
    drop(allocator);
    std::fs::write(&path, &whole[..at(90)]).expect("written");
    refused(&path, "a file shorter than its map says", |error| matches!(error, PageError::Malformed { .. }));
    std::fs::write(&path, &whole).expect("written");
    let error =
        PageAllocator::open(&path, PageSize::new(8192).expect("a size")).map(drop).expect_err("another size");
    assert!(matches!(error, PageError::Mismatch { .. } | PageError::InvalidSuperblock { .. }), "{error}");
    assert!(std::fs::read(&path).expect("a file") == whole);
    assert_eq!(ids_of(&PageAllocator::open(&path, DEFAULT_PAGE_SIZE).expect("whole")), ids);
    // Cut anywhere before the end that it needs: told, and not taken for a new file.
    for len in
        [at(0) + 1, at(0) + 100, at(0) + 4095, at(0) + 4096, at(13), at(13) + 1, at(14) + 7, at(15), at(50)]
    {
        std::fs::write(&path, &whole[..len]).expect("written");
        refused(&path, "a file that was cut", |_| true);
    }
}

#[test]
fn pages_past_what_any_file_has_are_refused() {
    let allocator = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE)).expect("made");
    let id = allocator.allocate().expect("an id");
    for (first, count) in [(0, 1), (13, 1), (14, 1), (u64::MAX, 1), (1 << 52, 1), (1, 2), (u64::MAX, 2)] {
        let error = allocator.free_extent(PageId::new(first), count).expect_err("not all in use");
        assert!(
            matches!(error, PageError::InvalidPageId { .. } | PageError::AllocationState { .. }),
            "{error}"
        );
    }
    assert!(allocator.is_allocated(id).expect("known"), "all or none");
    allocator.free(id).expect("once");
    let error = allocator.free(id).expect_err("twice");
    assert!(
        matches!(error, PageError::AllocationState { page_id, state: "free" } if page_id == id),
        "{error}"
    );
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
