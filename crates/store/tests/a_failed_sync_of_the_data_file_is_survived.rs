//! Prevents: a store that cannot be opened, or has lost what it had shown, because an opening built on a superblock copy, a page or a
//! copy of a page that a failed sync had left in the system's cache alone, and a power cut took it away (I9, L10, R1).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::DirectIo;
use pagestone_store::{Options, Store, StoreResult};
use pagestone_testkit::{AfterFailedSync, CrashOptions, DiskOp, FaultId, FaultPlan, SimDisk};
use support::{DIR, State, Step, contents, small, states, verified_contents};

const EIO: i32 = 5;
const STEPS: usize = 24;
const FIRST: usize = 8;

fn open(disk: &SimDisk) -> StoreResult<Store> {
    let options = Options { direct_io: DirectIo::Off, ..small() };
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

fn put(number: usize) -> Step {
    Step::Put(
        format!("key-{:03}", number * 7 % 40).into_bytes(),
        vec![number as u8; 200 + number * 137 % 800],
    )
}

fn fail_sync(disk: &SimDisk, file: &'static str, after: AfterFailedSync, skip: u64) -> FaultId {
    let plan = FaultPlan::failed_sync(EIO, after).on(DiskOp::Sync);
    disk.fail(plan.path(move |path| path == Path::new(file)).skip(skip))
}

/// Fails a sync of `file`, then perhaps one of the opening that follows, opens what the cache shows, and goes on over two checkpoints.
/// Gives how many images of power cuts were looked at; none if there are not so many syncs.
fn fail_and_go_on(file: &'static str, after: AfterFailedSync, skip: u64, again: Option<u64>) -> u64 {
    let steps: Vec<Step> =
        (0..STEPS).map(|step| if step % 5 == 4 { Step::Checkpoint } else { put(step) }).collect();
    let all = states(&steps);
    let disk = SimDisk::new(3);
    drop(open(&disk).expect("makes a store")); // of which the files had other names
    let store = open(&disk).expect("opens");
    steps[..FIRST].iter().for_each(|step| step.run(&store).expect("a healthy disk"));
    disk.settle();
    let plan = fail_sync(&disk, file, after, skip);
    let mut failed = FIRST;
    while failed < STEPS && steps[failed].run(&store).is_ok() {
        failed += 1;
        disk.note(failed as u64);
    }
    drop(store);
    if disk.injected(plan) == 0 {
        return 0;
    }
    if let Some(skip) = again {
        let plan = fail_sync(&disk, file, after, skip);
        // It may be one that only the checkpoints of opening would have come to.
        let (opened, late) = (open(&disk), after == AfterFailedSync::ReportedLate);
        assert!(opened.is_err() || late || disk.injected(plan) == 0, "a failed sync is told");
        disk.heal();
    }

    // A failure that is reported late may be told to this opening; to no second one.
    let store = open(&disk).or_else(|_| open(&disk)).expect("opens what the cache shows");
    let shown = contents(&store).expect("reads");
    let last = (failed + 1).min(STEPS);
    assert!(all[failed..=last].contains(&shown), "what was acknowledged, or the step that failed too");
    let mut now: State = shown.clone();
    let mut later = vec![now.clone()];
    let shown_at = 1000;
    disk.note(shown_at);
    for step in [put(50), Step::Checkpoint, put(51), Step::Checkpoint] {
        step.run(&store).expect("nothing fails any more");
        step.apply(&mut now);
        later.push(now.clone());
        disk.note(shown_at + later.len() as u64 - 1);
    }
    drop(store);

    let few =
        CrashOptions { exhaustive_max: 2, random: 1, pairs_max: 1, splits_max: 3, ..CrashOptions::default() };
    let mut images = 0;
    for image in disk.crash_states(&few) {
        let store = open(&image.disk()).unwrap_or_else(|error| {
            panic!("{file} {after:?} {skip} {again:?}: {error}\n{}", image.explain())
        });
        let state = verified_contents(&store).expect("reads");
        let legal = match image.acknowledged().last() {
            Some(noted) if *noted >= shown_at => later[(noted - shown_at) as usize..].contains(&state),
            Some(noted) => all[*noted as usize..=last].contains(&state),
            None => all[FIRST..=last].contains(&state),
        };
        assert!(legal, "{file} {after:?} {skip} {again:?}: {}", image.explain());
        images += 1;
    }
    images
}

fn every_sync_of(file: &'static str, least: u64) {
    let mut images = 0;
    for after in AfterFailedSync::ALL {
        for skip in 0..4 {
            images += fail_and_go_on(file, after, skip, None);
        }
        for again in 0..2 {
            images += fail_and_go_on(file, after, 1, Some(again));
        }
    }
    println!("{file}: {images} images");
    assert!(images > least, "{images}");
}

#[test]
fn of_superblock_copies_and_pages() {
    every_sync_of("/store/data", 500);
}

#[test]
fn of_copies_of_pages() {
    every_sync_of("/store/doublewrite", 500);
}

/// The least that it takes: a copy of the superblock whose sync failed and that is torn below the cache, and an opening that is cut while
/// it writes over the other copy.
#[test]
fn of_a_superblock_copy_and_a_cut_of_the_next_opening() {
    let mut images = 0;
    for seed in 0..12 {
        let disk = SimDisk::new(seed);
        drop(open(&disk).expect("makes a store"));
        let store = open(&disk).expect("opens");
        (0..4).for_each(|step| put(step).run(&store).expect("a healthy disk"));
        disk.settle();
        // The data file's own sync comes first.
        let plan = fail_sync(&disk, "/store/data", AfterFailedSync::PartlyPersisted, 1);
        store.checkpoint().expect_err("a failed sync is told");
        assert_eq!(disk.injected(plan), 1);
        let all = contents(&store).expect("reads");
        drop(store);
        drop(open(&disk).expect("opens what the cache shows"));
        let few = CrashOptions { exhaustive_max: 4, random: 2, pairs_max: 2, ..CrashOptions::default() };
        for image in disk.crash_states(&few) {
            let store = open(&image.disk());
            let store = store.unwrap_or_else(|error| panic!("{seed}: {error}\n{}", image.explain()));
            assert!(contents(&store).expect("reads") == all, "{seed}: {}", image.explain());
            images += 1;
        }
    }
    println!("{images} images");
    assert!(images > 300, "{images}");
}
