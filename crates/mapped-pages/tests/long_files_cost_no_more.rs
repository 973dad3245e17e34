//! Prevents: metadata that ends at one page, an opening or an allocation that costs what the file is long, a full disk that ends the process.

use std::collections::BTreeSet;
use std::path::Path;

use pagestone_mapped_pages::{MappedOptions, MappedPageError, PageId, Pager};
use pagestone_testkit::{DiskOp, FaultPlan, SimDisk};
use tempfile::tempdir;

/// 64 GiB of pages of 4 KiB, all but the blocks that are used a hole.
#[test]
fn a_sparse_file_of_64_gib_allocates_frees_and_reopens() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let options = MappedOptions::new().reserve(false);
    let mut pager: Pager<4096> = options.create(&path, 12).expect("create").typed().expect("4096");
    let count = 16 << 20;
    let ids = pager.alloc_bulk(count).expect("alloc");
    let len = std::fs::metadata(&path).expect("there").len();
    assert!(len >= 64 << 30, "{len} bytes");
    let chosen: Vec<PageId<4096>> = [0, 1, count / 3, count / 2, count - 1].map(|at| ids[at]).to_vec();
    for id in &chosen {
        id.get_mut(&mut pager).expect("get").as_bytes_mut().fill(id.0 as u8);
    }
    let protected = pager.alloc_protected().expect("behind them");
    let mut writer = protected.get_mut(&mut pager).expect("writer");
    writer.page_mut().as_bytes_mut().fill(9);
    writer.commit().expect("commit");
    pager.flush().expect("flush");
    drop(pager);

    let mut pager = Pager::<4096>::open(&path).expect("open");
    assert!(chosen.iter().all(|id| id.get(&pager).expect("get").as_bytes() == [id.0 as u8; 4096]));
    assert_eq!(protected.get(&pager).expect("get").as_bytes(), [9; 4096]);
    let kept: BTreeSet<PageId<4096>> = chosen.iter().copied().collect();
    let freed: Vec<PageId<4096>> = ids.iter().copied().filter(|id| !kept.contains(id)).collect();
    pager.free_bulk(&freed).expect("free");
    assert!(pager.iter_allocated_pages().eq(kept.iter().copied()));
    assert_eq!(pager.alloc().expect("alloc"), ids[2], "the lowest");
    drop(pager);
    let pager = Pager::<4096>::open(&path).expect("open");
    assert_eq!(pager.iter_allocated_pages().count(), 6);
}

/// The file's blocks are there before it is mapped, so a full disk is an error; the pager is of no use then, and the file is.
#[test]
fn a_full_disk_is_an_error_and_the_file_stays_what_it_was() {
    for op in [DiskOp::Reserve, DiskOp::Map, DiskOp::Sync] {
        let (disk, path) = (SimDisk::new(1), Path::new("/pages"));
        let mut pager = MappedOptions::new().create_on(&disk, path, 12).expect("create");
        let ids = pager.alloc_bulk(16).expect("the first growth");
        assert_eq!(pager.free_page_count(), 0);
        let plan = disk.fail(FaultPlan::errno(28).on(op));
        let error = pager.alloc().expect_err("full");
        assert_eq!(disk.injected(plan), 1);
        let source =
            matches!(&error, MappedPageError::Io { source, .. } if source.raw_os_error() == Some(28));
        assert!(source || matches!(error, MappedPageError::Unavailable { .. }), "{op:?}: {error}");
        assert!(matches!(pager.alloc(), Err(MappedPageError::Unavailable { .. })));
        assert!(matches!(pager.get(ids[0]), Err(MappedPageError::Unavailable { .. })));
        drop(pager);
        let mut pager = MappedOptions::new().open_on(&disk, path).expect("open");
        assert_eq!(pager.iter_allocated_pages().collect::<Vec<_>>(), ids);
        pager.free(ids[3]).expect("free");
        assert_eq!(pager.alloc_bulk(20).expect("there is room again").len(), 20);
        drop(pager);
        assert_eq!(disk.audit(), []);
    }
}
