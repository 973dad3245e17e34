//! Prevents: a page that is lost or handed out twice when a file is closed and opened, a count that drifts, a wrong id that is believed.

use pagestone_mapped_pages::{
    DynPageId, DynPager, MappedOptions, MappedPageError, PageId, Pager, ProtectedPageId,
};
use tempfile::tempdir;

#[test]
fn pages_and_their_bytes_survive_reopening() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut pager = Pager::<1024>::create(&path).expect("create");
    let ids = pager.alloc_bulk(100).expect("alloc");
    for id in &ids {
        id.get_mut(&mut pager).expect("get").as_bytes_mut().fill(id.0 as u8);
    }
    let protected = pager.alloc_protected_bulk(10).expect("alloc");
    for id in &protected {
        let mut writer = id.get_mut(&mut pager).expect("writer");
        writer.page_mut().as_bytes_mut().fill(id.0 as u8 + 100);
        writer.commit().expect("commit");
    }
    pager.free_bulk(&ids[10..20]).expect("free");
    pager.flush().expect("flush");
    let counts = (pager.page_count(), pager.free_page_count());
    drop(pager);
    for _ in 0..2 {
        let pager = Pager::<1024>::open(&path).expect("open");
        assert_eq!((pager.page_count(), pager.free_page_count()), counts);
        let kept: Vec<PageId<1024>> = ids[..10].iter().chain(&ids[20..]).copied().collect();
        assert_eq!(pager.iter_allocated_pages().collect::<Vec<_>>(), kept);
        assert_eq!(pager.iter_allocated_protected_pages().collect::<Vec<_>>(), protected);
        assert!(kept.iter().all(|id| id.get(&pager).expect("get").as_bytes() == [id.0 as u8; 1024]));
        let is_whole =
            |id: &ProtectedPageId<1024>| id.get(&pager).expect("get").as_bytes() == [id.0 as u8 + 100; 1024];
        assert!(protected.iter().all(is_whole));
    }
    let mut pager = Pager::<1024>::open(&path).expect("open");
    assert_eq!(pager.alloc_bulk(10).expect("alloc"), ids[10..20], "the lowest first");
}

#[test]
fn wrong_ids_are_refused_and_change_nothing() {
    let dir = tempdir().expect("a directory");
    let mut pager = DynPager::create(dir.path().join("pages"), 12).expect("create");
    let ids = pager.alloc_bulk(5).expect("alloc");
    let copies: Vec<u64> = {
        let before: Vec<DynPageId> = pager.iter_allocated_pages().collect();
        pager.alloc_protected().expect("alloc");
        assert_eq!(pager.iter_allocated_pages().collect::<Vec<_>>(), before);
        (3..pager.page_count()).filter(|id| !ids.contains(&DynPageId(*id))).take(2).collect()
    };
    for id in [0, 1, 2, copies[0], copies[1]] {
        let id = DynPageId(id);
        assert!(matches!(pager.get(id), Err(MappedPageError::ReservedPage { page }) if page == id.0));
        assert!(matches!(pager.free(id), Err(MappedPageError::ReservedPage { .. })));
        assert!(matches!(pager.get_mut(id), Err(MappedPageError::ReservedPage { .. })));
        assert!(matches!(pager.flush_page(id), Err(MappedPageError::ReservedPage { .. })));
    }
    for id in [pager.page_count(), u64::MAX] {
        let id = DynPageId(id);
        assert!(matches!(pager.get(id), Err(MappedPageError::OutOfBounds { .. })));
        assert!(matches!(pager.free(id), Err(MappedPageError::OutOfBounds { .. })));
    }
    let free = pager.free_page_count();
    pager.free(ids[4]).expect("free");
    assert!(matches!(pager.get(ids[4]), Err(MappedPageError::NotAllocated { .. })));
    assert!(matches!(pager.free(ids[4]), Err(MappedPageError::DoubleFree { .. })));
    for bad in [[ids[0], ids[4]], [ids[1], ids[1]], [ids[2], DynPageId(1)], [ids[3], DynPageId(u64::MAX)]] {
        pager.free_bulk(bad).expect_err("one is bad");
        assert_eq!(pager.iter_allocated_pages().collect::<Vec<_>>(), ids[..4]);
        assert_eq!(pager.free_page_count(), free + 1);
    }
    assert!(matches!(pager.get_many_mut([ids[0], ids[0]]), Err(MappedPageError::BorrowedTwice { .. })));
}

#[test]
fn wrong_protected_ids_are_refused_and_change_nothing() {
    let dir = tempdir().expect("a directory");
    let mut pager = Pager::<2048>::create(dir.path().join("pages")).expect("create");
    let ids = pager.alloc_protected_bulk(4).expect("alloc");
    let free = pager.free_page_count();
    pager.free_protected(ids[3]).expect("free");
    assert_eq!(pager.free_page_count(), free + 4, "two copies of 4096 bytes");
    assert!(matches!(pager.free_protected(ids[3]), Err(MappedPageError::DoubleFree { .. })));
    assert!(matches!(ids[3].get(&pager), Err(MappedPageError::NotAllocated { .. })));
    let nowhere = ProtectedPageId(u64::MAX);
    assert!(matches!(nowhere.get(&pager), Err(MappedPageError::OutOfBounds { .. })));
    for bad in [[ids[0], ids[3]], [ids[1], ids[1]], [ids[2], nowhere]] {
        pager.free_protected_bulk(bad).expect_err("one is bad");
        assert_eq!(pager.iter_allocated_protected_pages().collect::<Vec<_>>(), ids[..3]);
    }
    assert_eq!(pager.alloc_protected().expect("alloc"), ids[3]);
}

/// One bulk change of more words than a root holds, and many small ones.
#[test]
fn metadata_grows_past_one_page() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut pager: Pager<1024> =
        MappedOptions::new().reserve(false).create(&path, 10).expect("create").typed().expect("1024");
    let ids = pager.alloc_bulk(100_000).expect("alloc");
    assert_eq!((ids[0].0, ids[99_999].0), (3, 100_002));
    let every_other: Vec<PageId<1024>> = ids.iter().copied().step_by(2).collect();
    pager.free_bulk(&every_other).expect("free");
    for id in ids.iter().skip(1).step_by(200) {
        pager.free(*id).expect("free");
    }
    let left: Vec<PageId<1024>> = ids
        .iter()
        .copied()
        .enumerate()
        .filter(|(at, _)| at % 2 == 1 && at % 200 != 1)
        .map(|(_, id)| id)
        .collect();
    assert_eq!(pager.iter_allocated_pages().collect::<Vec<_>>(), left);
    drop(pager);
    let pager = Pager::<1024>::open(&path).expect("open");
    assert_eq!(pager.iter_allocated_pages().collect::<Vec<_>>(), left);
}

#[test]
fn shrinking_gives_the_end_back() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut pager = Pager::<4096>::create(&path).expect("create");
    let ids = pager.alloc_bulk(40_000).expect("alloc");
    ids[5].get_mut(&mut pager).expect("get").as_bytes_mut().fill(9);
    pager.free_bulk(&ids[6..]).expect("free");
    let long = std::fs::metadata(&path).expect("there").len();
    let gone = pager.shrink().expect("shrink");
    assert!(gone >= 39_994 && std::fs::metadata(&path).expect("there").len() < long / 100);
    assert_eq!((pager.page_count(), pager.free_page_count(), pager.shrink().expect("again")), (9, 0, 0));
    assert_eq!(ids[5].get(&pager).expect("get").as_bytes()[7], 9);
    drop(pager);
    let mut pager = Pager::<4096>::open(&path).expect("open");
    assert_eq!(pager.iter_allocated_pages().count(), 6);
    assert_eq!(pager.alloc_bulk(40_000 - 6).expect("alloc"), ids[6..]);
    let all: Vec<PageId<4096>> = pager.iter_allocated_pages().collect();
    pager.free_bulk(all).expect("free");
    pager.shrink().expect("shrink");
    assert_eq!((pager.page_count(), pager.free_page_count()), (3, 0));
    assert_eq!(pager.alloc().expect("alloc"), ids[0]);
}

#[test]
fn many_pages_are_borrowed_at_once_in_any_order() {
    let dir = tempdir().expect("a directory");
    let options = MappedOptions::new().reserve(false);
    let mut pager = options.create(dir.path().join("pages"), 12).expect("create");
    let ids = pager.alloc_bulk(40_000).expect("alloc");
    let wanted = [39_999, 0, 20_000, 16_384, 1, 16_383, 300, 17].map(|at| ids[at]);
    for (number, page) in pager.get_many_mut(wanted).expect("distinct").into_iter().enumerate() {
        page.as_bytes_mut().fill(number as u8 + 1);
    }
    for (number, id) in wanted.iter().enumerate() {
        assert_eq!(pager.get(*id).expect("get").as_bytes(), [number as u8 + 1; 4096]);
    }
    assert_eq!(pager.get(ids[2]).expect("get").as_bytes(), [0; 4096]);
    assert!(pager.get_many_mut([]).expect("none").is_empty());
}
