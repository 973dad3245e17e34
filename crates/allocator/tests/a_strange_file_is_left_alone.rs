//! Failure prevented: a file of somebody else, a damaged one, or one that was cut, taken for an allocator's and written over (R7).
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use pagestone_allocator::PageAllocator;
use pagestone_direct_io::PageFile;
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageHeader, PageId, PageKind, PageSize, PageStore,
};

use proptest::prelude::*;

fn ids_of(allocator: &PageAllocator) -> BTreeSet<u64> {
    (0..allocator.high_water() + 20)
        .filter(|id| allocator.is_allocated(PageId::new(*id)).expect("its map"))
        .collect()
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

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..4, 31_000_u64..33_000, any::<u64>(), any::<u64>().prop_map(|word| word >> 24)]
}

proptest! {
    /// Words under right checksums: whatever they say, it is an error or can be worked with.
    #[test]
    fn no_root_and_no_map_makes_it_panic(
        changes in proptest::collection::vec((prop_oneof![Just(0_u64), Just(13), Just(14), Just(11)], 0_usize..14, word()), 1..6),
        both in any::<bool>(),
    ) {
        let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
        let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
        allocator.allocate_extent(100).expect("room");
        allocator.sync().expect("durable");
        drop(allocator);
        for (id, at, word) in changes {
            let ids = if both && id == 0 { vec![0, 13] } else { vec![id] };
            for id in ids.into_iter().map(PageId::new) {
                let mut page = store.allocate_page(id);
                if store.read_into(id, &mut page).is_err() {
                    PageHeader::new(PageKind::ALLOCATOR_INDEX, id).encode(page.bytes_mut());
                }
                page.payload_mut()[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
                store.write_page(&mut page).expect("written");
            }
        }
        let Ok(allocator) = PageAllocator::new(store) else { return Ok(()) };
        let _counts = (allocator.high_water(), allocator.free_count());
        let _told = (allocator.free(PageId::new(20)), allocator.free_extent(PageId::new(30), 5));
        if allocator.allocate().is_ok() && allocator.allocate_extent(7).is_ok() {
            let _told = allocator.sync();
        }
        prop_assert!(allocator.free_count() < allocator.high_water());
    }
}
