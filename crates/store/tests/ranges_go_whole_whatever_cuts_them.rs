//! Prevents: a crash in the middle of a range that is removed which leaves a part of the range, or takes what was put behind the
//! removal; a removal that leaks pages, hides what it did not remove from others, or goes on after it was reported as failed; one that
//! needs more log than there is, so that no opening finishes it; one that ends the handle because the disk is full.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagestone_store::{Background, Durability, Options, Store, StoreError, StoreResult};
use pagestone_testkit::{CrashOptions, DiskOp, FaultPlan, Keep, Rng, SimDisk};
use support::{DIR, State, Step, contents, open, run, small, states, verified_contents};

fn key(number: u64) -> Vec<u8> {
    format!("/var/spool/mail/{number:06}").into_bytes()
}

fn put(number: u64, len: usize) -> Step {
    Step::Put(key(number), vec![number as u8; len])
}

/// Ranges over many leaves, in the middle and at both ends, with long values in them, and a checkpoint now and then.
fn script() -> Vec<Step> {
    let mut script: Vec<Step> =
        (0..60).map(|number| put(number, if number % 11 == 3 { 9000 } else { 500 })).collect();
    script.push(Step::Checkpoint);
    script.push(Step::RemoveRange(key(20), key(40)));
    script.push(put(30, 200));
    script.push(Step::RemoveRange(Vec::new(), key(15)));
    script.push(Step::Checkpoint);
    script.extend((0..10).map(|number| put(number, 700)));
    script.push(Step::RemoveRange(key(45), vec![0xff]));
    script.push(Step::RemoveRange(Vec::new(), vec![0xff]));
    script.push(put(1, 100));
    script
}

#[test]
fn all_of_a_range_or_nothing_of_it_after_any_cut() {
    let (disk, script) = (SimDisk::new(2), script());
    run(&disk, &script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let states = states(&script);
    let options =
        CrashOptions { exhaustive_max: 8, pairs_max: 2, splits_max: 4, random: 1, ..CrashOptions::default() };
    let (mut finished, mut images) = (0, 0);
    for image in disk.crash_states(&options) {
        images += 1;
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let disk = image.disk();
        let store = open(&disk).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        finished += store.open_report().finished_removals;
        let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(legal.contains(&found), "after {acknowledged} steps: {}", image.explain());
    }
    assert!(
        images > 1000 && finished > 5,
        "{finished} removals of {images} images were finished by an opening"
    );
}

/// The recovery that finishes a removal is cut itself, everywhere.
#[test]
fn the_rest_of_a_removal_goes_whatever_cuts_the_opening() {
    let disk = SimDisk::new(3);
    let script: Vec<Step> = (0..60).map(|number| put(number, 500)).collect();
    run(&disk, &script);
    let full = states(&script).pop().expect("never empty");
    let store = open(&disk.power_cut(Keep::Everything)).expect("opens");
    drop(store);
    // Cut where the intent and some groups are in the log.
    let disk = disk.power_cut(Keep::Everything);
    let store = open(&disk).expect("opens");
    let journal = disk.journal_len();
    Step::RemoveRange(key(5), key(55)).run(&store).expect("a healthy disk");
    drop(store);
    let mut expected = full.clone();
    Step::RemoveRange(key(5), key(55)).apply(&mut expected);
    let few =
        CrashOptions { exhaustive_max: 4, pairs_max: 0, splits_max: 2, random: 1, ..CrashOptions::default() };
    let (mut cut, mut again) = (0, 0);
    for image in disk.crash_states(&CrashOptions { cuts: journal..usize::MAX, ..few.clone() }) {
        let half = image.disk();
        let store = open(&half).expect("recovers");
        if store.open_report().finished_removals == 0 {
            continue;
        }
        cut += 1;
        drop(store);
        for image in half.crash_states(&few) {
            again += 1;
            let store = open(&image.disk()).expect("recovers again");
            assert!(verified_contents(&store).expect("reads") == expected, "{}", image.explain());
        }
    }
    assert!(cut > 0 && again > 20, "{cut} {again}");
}

#[test]
fn a_removal_that_fails_goes_no_further_behind_its_callers_back() {
    let disk = SimDisk::new(4);
    let store = open(&disk).expect("opens");
    let tree = store.tree("mail").expect("a tree");
    for number in 0..400 {
        tree.put(&key(number), &[1; 500]).expect("put");
    }
    tree.put(&key(200), b"the leaf to be broken").expect("put");
    store.close().expect("closes");
    drop((tree, store));
    // A page in the middle cannot be read.
    let store = open(&disk).expect("opens");
    let tree = store.tree("mail").expect("a tree");
    let bad = disk.contents("/store/data").expect("a file");
    let at = bad.windows(21).position(|window| window == b"the leaf to be broken").expect("a leaf") as u64;
    let at = (at - 8192) / 4096 * 4096 + 8192;
    let old = bad[at as usize..at as usize + 4096].to_vec();
    disk.overwrite("/store/data", at, &[0x55; 4096]).expect("overwritten");
    let error = tree.remove_range(key(100)..key(300)).expect_err("a page that cannot be believed");
    assert!(matches!(error, StoreError::Page(_)), "{error}");
    disk.overwrite("/store/data", at, &old).expect("mended");
    // The handle lives, and what is put now stays, whatever opens the store.
    tree.put(&key(250), b"behind the failure").expect("put");
    let read =
        |tree: &pagestone_store::Tree| tree.range::<&[u8]>(..).collect::<Result<State, _>>().expect("a scan");
    let after = read(&tree);
    assert!(after.len() > 200 && after.len() < 400, "{}", after.len());
    drop((tree, store));
    let store = open(&disk).expect("opens");
    assert_eq!(store.open_report().finished_removals, 0);
    assert!(read(&store.tree("mail").expect("a tree")) == after);
    assert!(store.verify().expect("verifies").is_sound());
}

#[test]
fn others_read_and_write_beside_a_removal() {
    let options = Options {
        pool_bytes: 64 * 4096,
        durability: Durability::RELAXED,
        background: Background::Threads,
        log_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        ..small()
    };
    let store = Store::open_on(Arc::new(SimDisk::new(5)), Path::new(DIR), options).expect("opens");
    let tree = store.default_tree();
    for round in 0..3 {
        for number in 0..6000 {
            tree.put(&key(number), &[round; 120]).expect("put");
        }
        let over = AtomicBool::new(false);
        let kept = std::thread::scope(|scope| {
            for thread in 0..2 {
                let (tree, over) = (tree.clone(), &over);
                scope.spawn(move || {
                    let mut random = Rng::new(thread);
                    while !over.load(Ordering::Acquire) {
                        // What is outside stays, and what is inside is whole or gone.
                        let number = random.below(6000);
                        let found = tree.get(&key(number)).expect("get");
                        let expected = vec![round; 120];
                        assert!(found.as_ref().is_none_or(|found| *found == expected));
                        assert!(found.is_some() || (1000..5000).contains(&number), "{number}");
                    }
                });
            }
            let writer = scope.spawn(|| {
                // What is gone, the removal is behind: put again, it stays.
                let mut kept = Vec::new();
                let mut number = 1000;
                while !over.load(Ordering::Acquire) && number < 5000 {
                    if !tree.contains_key(&key(number)).expect("contains") {
                        tree.put(&key(number), &[round; 120]).expect("put");
                        kept.push(number);
                        number += 97;
                    }
                }
                kept
            });
            let removed = tree.remove_range(key(1000)..key(5000)).expect("remove_range");
            over.store(true, Ordering::Release);
            assert!(removed >= 4000, "{removed}");
            writer.join().expect("no panic")
        });
        for number in &kept {
            assert_eq!(
                tree.get(&key(*number)).expect("get"),
                Some(vec![round; 120]),
                "put behind the removal"
            );
        }
        assert_eq!(contents(&store).expect("a scan").len(), 2000 + kept.len());
        assert!(store.verify().expect("verifies").is_sound());
    }
}

const ENOSPC: i32 = 28;

fn open_with(disk: &SimDisk, log_bytes: u64) -> StoreResult<Store> {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), Options { log_bytes, ..small() })
}

/// 2400 entries on 600 leaves; few segments of the log, of a large budget.
fn large(disk: &SimDisk) -> Store {
    let store = open_with(disk, 16 << 20).expect("opens");
    let tree = store.default_tree();
    for number in 0..2400 {
        tree.put(&key(number), &[number as u8; 900]).expect("put");
        if number % 100 == 99 {
            store.checkpoint().expect("a healthy disk");
        }
    }
    store.checkpoint().expect("a healthy disk");
    store
}

/// No room for another segment of the log.
fn fill_up(disk: &SimDisk) {
    let plan = FaultPlan::errno(ENOSPC).on(DiskOp::Reserve).path(|path| path.starts_with("/store/log"));
    disk.fail(plan.forever());
}

/// While a store is being opened no thread makes checkpoints. So the opening makes them: else it would find the log full, here and
/// whenever it is tried again.
#[test]
fn an_opening_finishes_a_removal_that_needs_more_log_than_there_is() {
    const BUDGET: u64 = 512 << 10;
    let disk = SimDisk::new(6);
    let store = large(&disk);
    disk.settle();
    let journal = disk.journal_len();
    let logged = || store.stats().expect("stats").log.end_lsn.get();
    let before = logged();
    store.default_tree().remove_range(key(5)..key(2390)).expect("a healthy disk");
    assert!(logged() - before > BUDGET, "{} bytes of log", logged() - before);
    let few =
        CrashOptions { exhaustive_max: 1, pairs_max: 0, splits_max: 0, random: 0, ..CrashOptions::default() };
    let mut begun = disk.crash_states(&CrashOptions { cuts: journal..usize::MAX, ..few });
    let finished = |full: bool| {
        move |image: &pagestone_testkit::CrashImage| {
            let disk = image.disk();
            if full {
                fill_up(&disk);
            }
            let store =
                open_with(&disk, BUDGET).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
            let finished = store.open_report().finished_removals == 1;
            assert!(!finished || verified_contents(&store).expect("reads").len() == 15);
            finished
        }
    };
    let image = begun.find(finished(false)).expect("a removal that has begun");
    assert!(finished(true)(&image), "nor does it need a disk with room");
}

#[test]
fn a_removal_that_finds_the_disk_full_leaves_the_handle_alive() {
    let disk = SimDisk::new(7);
    let store = large(&disk);
    let tree = store.default_tree();
    fill_up(&disk);
    let error = tree.remove_range(key(5)..key(2390)).expect_err("no room for another segment");
    assert!(error.to_string().contains("no space"), "{error}");
    tree.put(&key(7), b"behind the failure").expect("the handle lives");
    disk.heal();
    let left = contents(&store).expect("a scan");
    assert!(left.len() > 100 && left.len() < 2400, "{}", left.len());
    drop((tree, store));
    let store = open_with(&disk, 16 << 20).expect("opens");
    assert_eq!(store.open_report().finished_removals, 0);
    assert!(verified_contents(&store).expect("reads") == left, "its intent was taken back");
}

/// The opening behind the crash cannot look for removals and gives out a handle; the one behind that can.
#[test]
fn a_removal_that_an_opening_did_not_find_takes_nothing_of_what_was_put_behind_it() {
    let disk = SimDisk::new(8);
    let store = open(&disk).expect("opens");
    // A catalog of several leaves, so that its root is not what a removal changes.
    for number in 0..60 {
        store.tree(format!("{number:0>200}")).expect("a tree");
    }
    let tree = store.default_tree();
    for number in 0..60 {
        tree.put(&key(number), &[1; 500]).expect("put");
    }
    tree.remove_range(key(50)..key(60)).expect("a healthy disk");
    store.checkpoint().expect("a healthy disk");
    store.checkpoint().expect("a healthy disk");
    disk.settle();
    let journal = disk.journal_len();
    tree.remove_range(key(5)..key(45)).expect("a healthy disk");
    drop((tree, store));
    let few =
        CrashOptions { exhaustive_max: 1, pairs_max: 0, splits_max: 0, random: 0, ..CrashOptions::default() };
    let mut begun = 0;
    for image in disk.crash_states(&CrashOptions { cuts: journal..usize::MAX, ..few }) {
        if open(&image.disk()).expect("recovers").open_report().finished_removals == 0 {
            continue;
        }
        begun += 1;
        let disk = image.disk();
        let catalog = 8192 + 2 * 4096; // behind the superblocks: page 2
        let root = disk.contents("/store/data").expect("a file")[catalog..catalog + 4096].to_vec();
        disk.overwrite("/store/data", catalog as u64, &[0x55; 4096]).expect("overwritten");
        for round in 0..2 {
            let store = open(&disk).expect("the default tree needs no catalog");
            assert_eq!(store.open_report().finished_removals, 0, "it cannot be looked for");
            store.default_tree().put(&key(44), &[round; 100]).expect("put");
        }
        disk.overwrite("/store/data", catalog as u64, &root).expect("mended");
        for _ in 0..2 {
            let store = open(&disk).expect("opens");
            assert_eq!(store.default_tree().get(&key(44)).expect("get"), Some(vec![1; 100]), "acknowledged");
            assert_eq!(store.open_report().finished_removals, 0, "given up");
            assert!(store.verify().expect("verifies").is_sound());
        }
    }
    assert!(begun > 0, "no removal was cut");
}
