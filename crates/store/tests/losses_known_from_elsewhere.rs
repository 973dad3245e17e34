//! Prevents: the losses that systems of this kind are known for, each by its name.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagestone_btree::TreeError;
use pagestone_direct_io::Disk;
use pagestone_page_format::PageError;
use pagestone_store::{Durability, Options, Store, StoreError};
use pagestone_testkit::{CrashOptions, DiskOp, FaultPlan, ImageKind, Keep, SimDisk};
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

/// Recovery may write again, with a mark, what it believed before a later read failed (decision 008); it cuts and removes nothing.
fn assert_nothing_cut(
    before: &[(std::ffi::OsString, Vec<u8>)],
    after: &[(std::ffi::OsString, Vec<u8>)],
    when: &str,
) {
    for (name, bytes) in before {
        let kept = after.iter().find(|(kept, _)| kept == name).map(|(_, bytes)| bytes.len());
        assert_eq!(kept, Some(bytes.len()), "{when}: {name:?}");
    }
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
                assert_nothing_cut(&before, &log_files(&crashed), &format!("read {skip} failed"));
                // What was written again is what was there: also if the power goes now.
                let cut = open(&crashed.power_cut(Keep::Synced)).expect("opens");
                assert_eq!(contents(&cut).expect("reads").len(), 100, "read {skip} failed, then the power");
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

#[test]
fn an_oversize_value() {
    let disk = SimDisk::new(29);
    let store = open(&disk).expect("made");
    let tree = store.default_tree();
    let inline = tree.max_inline_value(key(0).len());
    let lengths = [0, 1, inline - 1, inline, inline + 1, 4063, 4064, 4065, 100_000];
    for (number, len) in (0..).zip(lengths) {
        tree.put(&key(number), &vec![number as u8; len]).expect("of any length");
    }
    // One past every limit is an error, and the store goes on.
    let long_key = vec![7; tree.max_key_len() + 1];
    assert!(matches!(tree.put(&long_key, b""), Err(StoreError::Tree(TreeError::KeyTooLong { .. }))));
    let too_long = tree.max_value_len() + 1;
    let refused = tree.put_reader(&key(99), Some(too_long), std::io::repeat(1));
    assert!(matches!(refused, Err(StoreError::Tree(TreeError::ValueTooLong { .. }))), "{refused:?}");
    let after = open(&disk.power_cut(Keep::Synced)).expect("recovers");
    for (number, len) in (0..).zip(lengths) {
        let found = after.default_tree().get(&key(number)).expect("reads");
        assert!(found == Some(vec![number as u8; len]), "a value of {len} bytes");
    }
    assert_eq!(after.default_tree().len().expect("reads"), lengths.len() as u64);
    assert!(after.verify().expect("verifies").is_sound());
}

/// Nodes are merged away while they are dirty, their ids become values and nodes of others, and everything is written.
#[test]
fn a_freed_page_still_dirty_in_the_pool_overwriting_the_free_list() {
    let disk = SimDisk::new(30);
    let store = on(&disk, Options { durability: Durability::RELAXED, ..small() });
    let tree = store.default_tree();
    for round in 0..6_u32 {
        fill(&store, 0..400);
        for number in 0..400 {
            assert!(tree.remove(&key(number)).expect("healthy"));
        }
        for number in 0..20 {
            tree.put(&key(1000 + number), &vec![round as u8 + 1; 9000]).expect("healthy");
        }
        store.tick().expect("healthy");
        assert!(store.verify().expect("verifies").is_sound(), "round {round}");
    }
    assert!(store.stats().expect("reads").tree.merges > 100);
    store.close().expect("healthy");
    drop(store);
    let after = open(&disk.power_cut(Keep::Synced)).expect("opens");
    assert!(after.verify().expect("verifies").is_sound());
    let expected: State = (0..20).map(|number| (key(1000 + number), vec![6; 9000])).collect();
    assert!(contents(&after).expect("reads") == expected);
}

/// Work of all kinds is cut after every operation, and what recovers goes on taking and freeing ids.
#[test]
fn an_id_handed_out_twice_after_a_crash() {
    let disk = SimDisk::new(31);
    let store = open(&disk).expect("made");
    fill(&store, 0..120);
    disk.settle();
    let tree = store.default_tree();
    for number in 0..40 {
        tree.remove(&key(number)).expect("healthy");
        tree.put(&key(200 + number), &vec![number as u8; if number % 4 == 0 { 6000 } else { 500 }])
            .expect("healthy");
        if number % 10 == 9 {
            store.checkpoint().expect("healthy");
        }
    }
    let few = CrashOptions {
        exhaustive_max: 4,
        random: 1,
        pairs_max: 0,
        torn_writes: 1,
        splits_max: 1,
        ..CrashOptions::default()
    };
    let mut images = 0;
    for image in disk.crash_states(&few).step_by(7) {
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let before = contents(&store).expect("reads");
        fill(&store, 500..560);
        for number in 500..530 {
            assert!(store.default_tree().remove(&key(number)).expect("healthy"));
        }
        store.default_tree().put(&key(600), &[9; 20_000]).expect("healthy");
        let report = store.verify().expect("verifies");
        assert!(report.is_sound(), "{:?}: {}", report.findings, image.explain());
        // What was there before is as it was: nobody was given its pages.
        let after = contents(&store).expect("reads");
        assert!(before.iter().all(|(key, value)| after.get(key) == Some(value)), "{}", image.explain());
        images += 1;
    }
    assert!(images > 100, "only {images} images");
}

/// Every page under way is torn at each of its sectors but the first.
#[test]
fn a_page_torn_behind_its_first_sector() {
    let disk = SimDisk::new(32);
    let store = open(&disk).expect("made");
    fill(&store, 0..60);
    disk.settle();
    fill(&store, 0..60);
    store.checkpoint().expect("healthy");
    let options = CrashOptions { exhaustive_max: 1, random: 8, torn_writes: 64, ..CrashOptions::default() };
    let (mut torn, mut restored) = (0, 0);
    for image in disk.crash_states(&options) {
        torn += u64::from(image.kind() == ImageKind::Torn);
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        restored += store.open_report().restored;
        assert_eq!(contents(&store).expect("reads").len(), 60, "{}", image.explain());
        assert!(store.verify().expect("verifies").is_sound(), "{}", image.explain());
    }
    assert!(torn > 100 && restored > 10, "{torn} torn, {restored} restored");
}

/// Threads split and merge the same nodes with as few frames as a tree may have, while others write everything out.
#[test]
fn a_flush_and_a_merge_waiting_for_each_other() {
    let disk = SimDisk::with(pagestone_testkit::SimOptions {
        seed: 33,
        yield_in_writes: true,
        ..pagestone_testkit::SimOptions::default()
    });
    let store = on(&disk, Options { durability: Durability::RELAXED, ..small() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for flusher in 0..2 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    if flusher == 0 { store.checkpoint() } else { store.tick() }.expect("healthy");
                }
            });
        }
        let writers: Vec<_> = (0..3_u32)
            .map(|thread| {
                let tree = store.default_tree();
                scope.spawn(move || {
                    for round in 0..12_u32 {
                        let own = (0..150).map(|number| key(number * 3 + thread));
                        for key in own.clone() {
                            tree.put(&key, &[round as u8; 300]).expect("healthy");
                        }
                        own.for_each(|key| assert!(tree.remove(&key).expect("healthy"), "a key was lost"));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("no panic");
        }
        done.store(true, Ordering::Release);
    });
    assert!(store.stats().expect("reads").tree.merges > 100);
    assert!(store.default_tree().is_empty().expect("reads"));
    assert!(store.verify().expect("verifies").is_sound());
}
