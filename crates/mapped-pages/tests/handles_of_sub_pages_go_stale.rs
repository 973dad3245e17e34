//! Prevents: a slot of a page read or freed by who no longer has it, or lost or doubled over a reopening or a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pagestone_mapped_pages::{
    MappedOptions, MappedPageError, PageId, Pager, ProtectedPageId, SubPageAllocator, SubPageId,
};
use pagestone_testkit::{CrashOptions, Rng, SimDisk};
use tempfile::tempdir;

type Slots = SubPageAllocator<1024, 64>;
type Id = SubPageId<1024, 64>;

fn places(slots: &Slots) -> BTreeSet<(u64, usize)> {
    slots.iter().map(|id| (id.page().0, id.slot())).collect()
}

#[test]
fn a_handle_is_stale_once_its_slot_was_freed_whoever_has_it_now() {
    let dir = tempdir().expect("a directory");
    let mut slots = Slots::new(Pager::create(dir.path().join("pages")).expect("create"));
    let ids = slots.alloc_bulk(40).expect("alloc");
    assert_eq!(slots.pager().iter_allocated_pages().count(), 3);
    for (number, id) in ids.iter().enumerate() {
        id.get_mut(&mut slots).expect("get").as_bytes_mut().fill(number as u8);
    }
    assert!(
        ids.iter()
            .enumerate()
            .all(|(number, id)| id.get(&slots).expect("get").as_bytes() == [number as u8; 64])
    );
    slots.free_bulk(&ids[..16]).expect("a whole page");
    assert_eq!(slots.pager().iter_allocated_pages().count(), 2, "it went back");
    let again = slots.alloc_bulk(24).expect("alloc");
    assert_eq!(slots.pager().iter_allocated_pages().count(), 3, "8 slots were left, 16 need a page");
    for id in &ids[..16] {
        assert!(matches!(id.get(&slots), Err(MappedPageError::StaleHandle { .. })));
        assert!(matches!(id.get_mut(&mut slots), Err(MappedPageError::StaleHandle { .. })));
        assert!(matches!(slots.free(*id), Err(MappedPageError::StaleHandle { .. })));
    }
    let before = places(&slots);
    for bad in [[again[0], ids[0]], [again[1], again[1]]] {
        slots.free_bulk(bad).expect_err("one is bad");
        assert_eq!(places(&slots), before);
    }
    assert!(ids[16..].iter().chain(&again).all(|id| id.get(&slots).is_ok()));
}

#[test]
fn more_than_64_slots_of_a_page_are_told_apart() {
    let dir = tempdir().expect("a directory");
    let pager = Pager::create(dir.path().join("pages")).expect("create");
    let mut slots = SubPageAllocator::<4096, 8>::create_on_disk(pager).expect("create");
    let ids = slots.alloc_bulk(1000).expect("alloc");
    assert_eq!(ids.iter().map(|id| (id.page(), id.slot())).collect::<BTreeSet<_>>().len(), 1000);
    slots.free_bulk(&ids[70..600]).expect("free");
    let head = slots.head().expect("on disk");
    let slots = SubPageAllocator::<4096, 8>::open_on_disk(slots.into_pager(), head).expect("open");
    let left: Vec<(PageId<4096>, usize)> = slots.iter().map(|id| (id.page(), id.slot())).collect();
    let expected: Vec<_> = ids[..70].iter().chain(&ids[600..]).map(|id| (id.page(), id.slot())).collect();
    assert_eq!(left, expected);
    let other = SubPageAllocator::<4096, 16>::open_on_disk(slots.into_pager(), head);
    assert!(matches!(other, Err(MappedPageError::CorruptProtectedDirectory { .. })));
}

#[test]
fn what_was_stored_is_marked_used_after_reopening() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut slots = Slots::new(Pager::create(&path).expect("create"));
    let ids = slots.alloc_bulk(20).expect("alloc");
    ids[3].get_mut(&mut slots).expect("get").as_bytes_mut().fill(9);
    let stored: Vec<(PageId<1024>, usize)> = ids.iter().map(|id| (id.page(), id.slot())).collect();
    slots.pager_mut().flush().expect("flush");
    drop(slots);
    let mut slots = Slots::new(Pager::open(&path).expect("open"));
    let ids: Vec<Id> =
        stored.iter().map(|(page, slot)| slots.mark_used(*page, *slot).expect("free")).collect();
    assert_eq!(ids[3].get(&slots).expect("get").as_bytes(), [9; 64]);
    let (page, slot) = stored[3];
    assert!(matches!(slots.mark_used(page, slot), Err(MappedPageError::DoubleFree { .. })));
    assert!(matches!(slots.mark_used(page, 16), Err(MappedPageError::OutOfBounds { .. })));
    assert!(matches!(slots.mark_used(PageId(60), 0), Err(MappedPageError::NotAllocated { .. })));
    assert!(matches!(slots.mark_used(PageId(1), 0), Err(MappedPageError::ReservedPage { .. })));
    assert!(slots.alloc_bulk(12).expect("alloc").iter().all(|id| !stored.contains(&(id.page(), id.slot()))));
}

/// On disk: a chain of several pages, changed at random, is after every cut what it was after the last call or the one under way, and
/// every page is a parent, a part of the chain or free.
#[test]
fn a_state_on_disk_survives_power_cuts_and_leaks_nothing() {
    let (disk, path) = (SimDisk::new(4), Path::new("/pages"));
    let pager: Pager<1024> =
        MappedOptions::new().create_on(&disk, path, 10).expect("create").typed().expect("1024");
    let mut slots = Slots::create_on_disk(pager).expect("create");
    let head: ProtectedPageId<1024> = slots.head().expect("on disk");
    slots.alloc_bulk(16 * 61).expect("all records of a page but one");
    let begin = disk.journal_len();
    let mut states = vec![places(&slots)];
    let mut rng = Rng::new(5);
    for step in 0..14_u64 {
        let live: Vec<Id> = slots.iter().collect();
        match step % 3 {
            0 => drop(slots.alloc_bulk(1 + rng.below(30) as usize).expect("alloc")),
            1 => slots.free_bulk(&live[..16 + rng.below(16) as usize]).expect("free"),
            _ => slots.free(*rng.pick(&live)).expect("free"),
        }
        states.push(places(&slots));
        disk.note(step + 1);
    }
    drop(slots);
    let options = CrashOptions {
        cuts: begin..usize::MAX,
        exhaustive_max: 64,
        random: 2,
        pairs_max: 4,
        splits_max: 8,
        ..CrashOptions::default()
    };
    let mut seen: BTreeMap<bool, u64> = BTreeMap::new();
    for image in disk.crash_states(&options) {
        let pager = MappedOptions::new().open_on(&image.disk(), path);
        let pager: Pager<1024> =
            pager.and_then(|pager| pager.typed()).unwrap_or_else(|error| panic!("{error}"));
        let slots =
            Slots::open_on_disk(pager, head).unwrap_or_else(|error| panic!("{error}\n{}", image.explain()));
        let (found, last) = (places(&slots), image.acknowledged().len());
        let is_last = found == states[last];
        assert!(is_last || states.get(last + 1) == Some(&found), "{}", image.explain());
        let parents: BTreeSet<u64> = found.iter().map(|(page, _)| *page).collect();
        let allocated: BTreeSet<u64> = slots.pager().iter_allocated_pages().map(|id| id.0).collect();
        assert_eq!(parents, allocated, "{}", image.explain());
        *seen.entry(is_last).or_default() += 1;
    }
    assert!(seen[&true] > 50 && seen[&false] > 5, "{seen:?}");
}
