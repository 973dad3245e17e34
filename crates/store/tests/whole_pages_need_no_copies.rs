//! Prevents: a store that relies on atomic writes where nobody promised them, or that does not ask for them where it relies on them; and
//! copies from before the change that take the place of newer pages (C4, R1, R3).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::DirectIo;
use pagestone_store::{Options, Store, StoreError, StoreResult, TornWrites};
use pagestone_testkit::{AtomicWrites, CrashOptions, DiskOp, FaultPlan, Keep, SimDisk, SimOptions};
use support::{DIR, State, Step, contents, script, small, states};

const DATA: &str = "/store/data";
const COPIES: &str = "/store/doublewrite";

fn disk_with(atomic_writes: AtomicWrites) -> SimDisk {
    SimDisk::with(SimOptions { seed: 1, atomic_writes, ..SimOptions::default() })
}

fn direct(torn_writes: TornWrites) -> Options {
    Options { torn_writes, direct_io: DirectIo::Prefer, ..small() }
}

fn open(disk: &SimDisk, options: Options) -> StoreResult<Store> {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

fn run(disk: &SimDisk, store: &Store, script: &[Step]) {
    for (number, step) in script.iter().enumerate() {
        step.run(store).expect("a healthy disk");
        disk.note(number as u64 + 1);
    }
}

/// Looks at some of all cuts; gives images, and those that did not open to what is legal.
fn cuts(disk: &SimDisk, states: &[State], options: &Options) -> (u64, u64) {
    let some = CrashOptions {
        exhaustive_max: 16,
        pairs_max: 4,
        splits_max: 8,
        torn_writes: 4,
        shard: (0, 3),
        ..CrashOptions::default()
    };
    let (mut images, mut wrong) = (0, 0);
    for image in disk.crash_states(&some) {
        let found = open(&image.disk(), options.clone()).and_then(|store| {
            assert_eq!(store.open_report().restored, 0);
            contents(&store)
        });
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let legal =
            found.is_ok_and(|found| states[acknowledged..].iter().take(2).any(|state| *state == found));
        wrong += u64::from(!legal);
        images += 1;
    }
    (images, wrong)
}

#[test]
fn every_cut_is_recovered_where_the_disk_keeps_its_word_and_shown_where_it_does_not() {
    let script = script(10, 120, 20);
    let states = states(&script);
    let options = direct(TornWrites::Best);
    for atomic_writes in [AtomicWrites::Kept, AtomicWrites::Torn] {
        let disk = disk_with(atomic_writes);
        let store = open(&disk, options.clone()).expect("a healthy disk");
        run(&disk, &store, &script);
        let stats = store.stats().expect("open");
        assert_eq!(
            (stats.torn_writes, store.open_report().torn_writes),
            (TornWrites::Atomic, TornWrites::Atomic)
        );
        assert_eq!((stats.double_write.pages, stats.double_write.file_bytes), (0, 0));
        assert!(stats.pool.write_backs > 0, "the premise is gone");
        drop(store);
        assert_eq!(disk.audit(), [], "the disk saw a broken rule");
        let (images, wrong) = cuts(&disk, &states, &options);
        assert!(images > 300, "{images} images");
        assert_eq!(wrong > 0, atomic_writes == AtomicWrites::Torn, "{wrong} of {images}, {atomic_writes:?}");
    }
}

/// A write that the disk refuses is tried again, by the next checkpoint; one that it tears leaves nothing.
#[test]
fn failed_atomic_writes_lose_nothing() {
    let mut script = script(10, 60, 20);
    script.push(Step::Checkpoint);
    let last = states(&script).pop().expect("a state");
    for plan in [FaultPlan::errno(5), FaultPlan::torn(5, 1024)] {
        let disk = disk_with(AtomicWrites::Kept);
        // The handle that makes the store has the file by the name that it had then.
        drop(open(&disk, direct(TornWrites::Atomic)).expect("a healthy disk"));
        let store = open(&disk, direct(TornWrites::Atomic)).expect("a healthy disk");
        // The first write of the data file is one of pages: a checkpoint's superblock copy comes behind them.
        let fault = disk.fail(plan.on(DiskOp::Write).path(|path| path == Path::new(DATA)));
        for step in &script {
            // What meets the fault is done again.
            step.run(&store).or_else(|_| step.run(&store)).expect("once");
        }
        assert_eq!(disk.injected(fault), 1);
        for keep in [Keep::Synced, Keep::Random(1), Keep::Random(2), Keep::Everything] {
            let store = open(&disk.power_cut(keep), direct(TornWrites::Atomic)).expect("recovers");
            assert_eq!(contents(&store).expect("whole"), last, "{keep:?}");
        }
    }
}

#[test]
fn the_way_may_change_from_one_opening_to_the_next() {
    let disk = disk_with(AtomicWrites::Kept);
    let script = script(10, 120, 20);
    let (first, second) = script.split_at(60);
    let store = open(&disk, direct(TornWrites::DoubleWrite)).expect("a healthy disk");
    run(&disk, &store, first);
    assert!(store.stats().expect("open").double_write.pages > 0);
    drop(store);
    // Copies that recovery might still take are forgotten before a page is written without one.
    let store = open(&disk, direct(TornWrites::Best)).expect("a healthy disk");
    assert_eq!(store.open_report().torn_writes, TornWrites::Atomic);
    assert_eq!(disk.contents(COPIES).expect("there").len(), 0);
    run(&disk, &store, second);
    drop(store);
    let store = open(&disk, direct(TornWrites::DoubleWrite)).expect("a healthy disk");
    store.checkpoint().expect("a healthy disk");
    assert_eq!(contents(&store).expect("whole"), states(&script).pop().expect("a state"));
}

#[test]
fn what_cannot_be_had_is_refused_and_best_is_double_write() {
    let disk = disk_with(AtomicWrites::None);
    let refused = open(&disk, direct(TornWrites::Atomic)).expect_err("not offered");
    assert!(matches!(refused, StoreError::InvalidOption { option: "torn_writes", .. }), "{refused}");
    let store = open(&disk, direct(TornWrites::Best)).expect("a healthy disk");
    assert_eq!(store.open_report().torn_writes, TornWrites::DoubleWrite);
    store.default_tree().put(b"key", b"value").expect("a healthy disk");
    store.checkpoint().expect("a healthy disk");
    let stats = store.stats().expect("open");
    assert!(stats.double_write.pages > 0 && stats.double_write.syncs > 0, "{stats:?}");
    let text = store.prometheus().expect("open");
    let line = format!("pagestone_double_write_pages_total {}", stats.double_write.pages);
    assert!(text.lines().any(|found| found == line), "{text}");
}
