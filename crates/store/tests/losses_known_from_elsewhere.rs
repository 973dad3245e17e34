//! Prevents: the losses that systems of this kind are known for, each by its name.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagestone_direct_io::Disk;
use pagestone_page_format::PageError;
use pagestone_store::{Durability, Options, Store, StoreError};
use pagestone_testkit::{CrashOptions, DiskOp, FaultPlan, Keep, SimDisk};
use pagestone_wal::WalError;
use support::{DIR, State, contents, open, small};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn on(disk: &SimDisk, options: Options) -> Store {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("a healthy disk")
}

/// The data file, also under the name by which it was made.
fn is_data(path: &Path) -> bool {
    path.ends_with("data") || path.ends_with("data.new")
}

fn key(number: u32) -> Vec<u8> {
    format!("/usr/share/doc/package-{number:06}/changelog.gz").into_bytes()
}

fn fill(store: &Store, numbers: std::ops::Range<u32>) {
    let tree = store.default_tree();
    for number in numbers {
        tree.put(&key(number), &[number as u8; 300]).expect("a healthy disk");
    }
}

#[test]
fn a_stale_root_after_a_close_without_a_checkpoint() {
    let disk = SimDisk::new(21);
    let store = open(&disk).expect("made");
    fill(&store, 0..400);
    assert!(store.stats().expect("reads").tree.height >= 2, "the root has split");
    // Every write to the data file fails: closing cannot make its checkpoint, and says so.
    let plan = FaultPlan::errno(ENOSPC).on(DiskOp::Write).path(is_data).forever();
    let fault = disk.fail(plan);
    store.close().expect_err("no checkpoint can be made");
    assert!(disk.injected(fault) > 0);
    drop(store);
    disk.heal();
    let cut = disk.power_cut(Keep::Synced);
    let found = contents(&open(&cut).expect("recovers")).expect("reads");
    assert_eq!(found.len(), 400, "what the root led to before it was split, and behind");
}

#[test]
fn a_strict_commit_acknowledged_before_its_record_is_appended() {
    let disk = SimDisk::new(22);
    let store = open(&disk).expect("made");
    let tree = store.default_tree();
    for number in 0..60 {
        let replaced = tree.put(&key(number / 2), &number.to_le_bytes()).expect("healthy").replaced;
        assert_eq!(replaced, number % 2 == 1);
        let after = open(&disk.power_cut(Keep::Synced)).expect("recovers");
        let found = after.default_tree().get(&key(number / 2)).expect("reads");
        assert_eq!(found.as_deref(), Some(&number.to_le_bytes()[..]), "{number} was acknowledged");
    }
}

#[test]
fn a_delete_that_ignores_strict_mode() {
    let disk = SimDisk::new(23);
    let store = open(&disk).expect("made");
    fill(&store, 0..60);
    for number in 0..60 {
        assert!(store.default_tree().remove(&key(number)).expect("healthy"));
        let after = open(&disk.power_cut(Keep::Synced)).expect("recovers");
        assert_eq!(after.default_tree().get(&key(number)).expect("reads"), None, "{number} was removed");
    }
}

#[test]
fn a_checkpoint_that_recycles_records_of_pages_not_yet_written() {
    let disk = SimDisk::new(24);
    let options = Options { log_bytes: 4 * (64 << 10), ..small() };
    let store = on(&disk, options.clone());
    let mut expected = State::new();
    for round in 0..40_u32 {
        for number in 0..20 {
            let (key, value) = (key(number * 7 % 64), vec![round as u8; 700]);
            store.default_tree().put(&key, &value).expect("a checkpoint frees the log in time");
            expected.insert(key, value);
        }
        // Some checkpoints write half of their pages and fail: the log must still have the others.
        let fails = round % 3 == 1;
        if fails {
            disk.fail(FaultPlan::errno(ENOSPC).on(DiskOp::Write).path(is_data).skip(1).forever());
        }
        let done = store.tick().and_then(|()| store.checkpoint());
        assert_eq!(done.is_err(), fails, "{done:?}");
        disk.heal();
        let cut = disk.power_cut(Keep::Synced);
        let after = Store::open_on(Arc::new(cut), Path::new(DIR), options.clone()).expect("recovers");
        assert!(contents(&after).expect("reads") == expected, "after round {round}");
    }
    assert!(store.stats().expect("reads").log.segments_recycled > 0, "the log went round");
}

#[test]
fn a_fresh_store_killed_before_its_first_log_write() {
    let disk = SimDisk::new(25);
    drop(open(&disk).expect("made"));
    let mut images = 0;
    let options = CrashOptions { random: 200, torn_writes: 8, ..CrashOptions::default() };
    for image in disk.crash_states(&options) {
        let disk = image.disk();
        let store = open(&disk).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        assert_eq!(contents(&store).expect("reads").len(), 0, "{}", image.explain());
        store.default_tree().put(b"first", b"write").expect("healthy");
        let after = open(&disk.power_cut(Keep::Synced))
            .unwrap_or_else(|error| panic!("{error} after the first write: {}", image.explain()));
        let found = after.default_tree().get(b"first").expect("reads");
        assert_eq!(found.as_deref(), Some(&b"write"[..]), "{}", image.explain());
        images += 1;
    }
    assert!(images > 100, "only {images} images");
}

fn log_files(disk: &SimDisk) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let log = Path::new("/store/log");
    let names = disk.list(log).expect("there");
    names.into_iter().map(|name| (name.clone(), disk.contents(log.join(&name)).expect("there"))).collect()
}

#[test]
fn a_read_error_taken_for_the_end_of_the_log() {
    let disk = SimDisk::new(26);
    let store = open(&disk).expect("made");
    fill(&store, 0..100);
    drop(store);
    let mut injected = 0;
    for skip in 0.. {
        let crashed = disk.power_cut(Keep::Everything);
        let in_log = |path: &Path| path.to_string_lossy().contains("/log/");
        let fault = crashed.fail(FaultPlan::errno(EIO).on(DiskOp::Read).path(in_log).skip(skip));
        let before = log_files(&crashed);
        match open(&crashed) {
            Ok(store) => {
                // Healthy reading again, or a second read of the same bytes that went well.
                assert_eq!(contents(&store).expect("reads").len(), 100, "read {skip} failed");
                if crashed.injected(fault) == 0 {
                    break;
                }
            }
            Err(error) => {
                assert!(
                    matches!(
                        error,
                        StoreError::Wal(WalError::Io { .. }) | StoreError::Page(PageError::Io { .. })
                    ),
                    "read {skip} failed: {error}"
                );
                assert!(before == log_files(&crashed), "read {skip} failed, and the log was changed");
            }
        }
        injected += crashed.injected(fault);
        crashed.heal();
        let store = open(&crashed).unwrap_or_else(|error| panic!("{error}, after read {skip} had failed"));
        assert_eq!(contents(&store).expect("reads").len(), 100, "read {skip} had failed");
    }
    assert!(injected > 2, "{injected} reads were failed");
}

#[test]
fn a_dirty_flag_cleared_over_a_concurrent_change() {
    let disk = SimDisk::with(pagestone_testkit::SimOptions {
        seed: 27,
        yield_in_writes: true,
        ..pagestone_testkit::SimOptions::default()
    });
    let options = Options { durability: Durability::RELAXED, ..small() };
    let store = on(&disk, options.clone());
    let tree = store.default_tree();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..4000_u32 {
                for number in 0..3 {
                    tree.put(&key(number), &round.to_le_bytes()).expect("healthy");
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            store.checkpoint().expect("healthy");
        }
        writer.join().expect("no panic");
    });
    store.close().expect("healthy");
    drop(store);
    let store = on(&disk.power_cut(Keep::Synced), options);
    assert_eq!(store.open_report().groups, 0, "the data file alone has everything");
    for number in 0..3 {
        let found = store.default_tree().get(&key(number)).expect("reads");
        assert_eq!(found.as_deref(), Some(&3999_u32.to_le_bytes()[..]));
    }
}

#[test]
fn a_range_scan_that_ends_early_under_eviction() {
    let disk = SimDisk::new(28);
    let options = Options { durability: Durability::RELAXED, log_bytes: 64 << 20, ..small() };
    let store = on(&disk, options);
    fill(&store, 0..3000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3_u32 {
            let (tree, done) = (store.default_tree(), &done);
            scope.spawn(move || {
                let mut number = thread * 1000;
                while !done.load(Ordering::Acquire) {
                    number = (number + 617) % 3000;
                    assert!(tree.get(&key(number)).expect("reads").is_some());
                }
            });
        }
        let all: Vec<Vec<u8>> = (0..3000).map(key).collect();
        for _ in 0..5 {
            let forward: Vec<Vec<u8>> =
                store.default_tree().range::<&[u8]>(..).map(|entry| entry.expect("reads").0).collect();
            assert!(forward == all, "{} of {} entries", forward.len(), all.len());
            let backward = store.default_tree().range::<&[u8]>(..).rev();
            let backward: Vec<Vec<u8>> = backward.map(|entry| entry.expect("reads").0).collect();
            assert!(backward.iter().rev().eq(all.iter()), "{} of {} entries", backward.len(), all.len());
        }
        done.store(true, Ordering::Release);
    });
    assert!(store.stats().expect("reads").pool.evictions > 1000);
}
