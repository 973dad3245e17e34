//! Prevents: a checkpoint that failed and gave its log away all the same; a full disk that ends the handle (I12); a failed sync
//! that is tried again (I9, L9).

mod support;

use std::io::ErrorKind;

use pagestone_page_format::PageError;
use pagestone_store::{Store, StoreError};
use pagestone_testkit::{AfterFailedSync, DiskOp, FaultPlan, Keep, SimDisk};
use support::{contents, open};

const FULL: i32 = 28;
const EIO: i32 = 5;

fn fill(store: &Store, from: u32, count: u32) {
    for number in from..from + count {
        let key = format!("key-{:04}", number % 400);
        store.default_tree().put(key.as_bytes(), &[number as u8; 900]).expect("put");
    }
}

fn is_full_disk(error: &StoreError) -> bool {
    matches!(error, StoreError::Page(PageError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull)
}

/// The n-th write of data pages or superblock reports a full disk, for every n of a checkpoint: pages, then the copy.
#[test]
fn full_disk_at_any_write_of_a_checkpoint_passes() {
    let mut failed = 0;
    for skip in 0.. {
        let disk = SimDisk::new(1);
        let store = open(&disk).expect("opens");
        fill(&store, 0, 600);
        let before = store.stats().expect("stats");
        let full = FaultPlan::errno(FULL).on(DiskOp::Write).path(|path| !path.starts_with("/store/log"));
        let full = disk.fail(full.skip(skip));
        match store.checkpoint() {
            Ok(()) => {
                assert_eq!(disk.injected(full), 0);
                break;
            }
            Err(error) => assert!(is_full_disk(&error), "{error}"),
        }
        let after = store.stats().expect("stats");
        assert_eq!((after.checkpoint_lsn, after.log.keep_lsn), (before.checkpoint_lsn, before.log.keep_lsn));
        let expected = contents(&store).expect("reads");
        let cut = open(&disk.power_cut(Keep::Synced)).expect("the log was kept");
        assert!(
            contents(&cut).expect("reads") == expected,
            "lost by a checkpoint that failed at write {skip}"
        );
        store.checkpoint().expect("there is room again");
        assert!(store.stats().expect("stats").checkpoint_lsn > before.checkpoint_lsn);
        fill(&store, 1000, 100);
        failed += 1;
    }
    assert!(failed >= 3, "only {failed}: the copies of pages, the pages, the superblock");
}

#[test]
fn full_disk_in_a_tick_is_told_and_the_next_one_goes_on() {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    fill(&store, 0, 600);
    let full = FaultPlan::errno(FULL).on(DiskOp::Write).path(|path| !path.starts_with("/store/log"));
    let full = disk.fail(full.times(2));
    for _ in 0..2 {
        let error = store.tick().expect_err("the disk is full");
        assert!(is_full_disk(&error), "{error}");
    }
    assert_eq!((disk.injected(full), store.stats().expect("stats").checkpoints), (2, 0));
    store.tick().expect("there is room again");
    assert_eq!(store.stats().expect("stats").checkpoints, 1);
}

#[test]
fn failed_sync_in_a_tick_ends_the_handle_and_loses_nothing() {
    for after in AfterFailedSync::ALL {
        for skip in 0..2 {
            let disk = SimDisk::new(1);
            let store = open(&disk).expect("opens");
            fill(&store, 0, 600);
            let expected = contents(&store).expect("reads");
            let failed = FaultPlan::failed_sync(EIO, after).path(|path| !path.starts_with("/store/log"));
            let failed = disk.fail(failed.skip(skip));
            // A failure that is reported late shows at the sync after it.
            let error = store.tick().err().or_else(|| {
                fill(&store, 600, 1);
                store.checkpoint().err()
            });
            let error = error.unwrap_or_else(|| panic!("{after:?}, sync {skip}: nothing failed"));
            assert!(matches!(error, StoreError::Page(PageError::Poisoned { .. })), "{error}");
            assert!(disk.injected(failed) > 0);
            let syncs = disk.journal_len();
            assert!(matches!(
                store.tick(),
                Err(StoreError::Page(PageError::Poisoned { .. }) | StoreError::Wal(_))
            ));
            store.default_tree().put(b"key", b"value").expect_err("L9: sticky");
            assert_eq!(disk.journal_len(), syncs, "something was tried again");
            let again = open(&disk.power_cut(Keep::Synced)).expect("recovers, torn pages too");
            let found = contents(&again).expect("reads");
            assert!(expected.iter().all(|(key, _)| found.contains_key(key)), "{after:?}, sync {skip}");
        }
    }
}
