//! Prevents: a store that refuses to open, or has lost what it had shown, because an earlier opening believed what a failed sync of
//! the log had left in the system's cache, and a power cut took it away (I9, L10, R1).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::DirectIo;
use pagestone_store::{Options, Store};
use pagestone_testkit::{AfterFailedSync, CrashOptions, DiskOp, FaultPlan, SimDisk};
use support::{DIR, State, Step, contents, small, states, verified_contents};

const EIO: i32 = 5;

fn open(disk: &SimDisk, direct_io: DirectIo) -> Store {
    let options = Options { direct_io, ..small() };
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens")
}

fn put(number: usize) -> Step {
    Step::Put(format!("key-{:03}", number % 40).into_bytes(), vec![number as u8; 200 + number * 137 % 800])
}

/// Fails a sync of the log, opens what the cache shows, and goes on. Gives how many images of power cuts were looked at.
fn fail_and_go_on(direct: DirectIo, after: AfterFailedSync, skip: u64) -> u64 {
    let steps: Vec<Step> = (0..60).map(put).collect();
    let all = states(&steps);
    let disk = SimDisk::new(2);
    let store = open(&disk, direct);
    steps[..20].iter().for_each(|step| step.run(&store).expect("a healthy disk"));
    disk.settle();
    let plan = FaultPlan::failed_sync(EIO, after).on(DiskOp::Sync);
    let plan = disk.fail(plan.path(|path| path.starts_with("/store/log")).skip(skip));
    let mut failed = 20;
    while steps[failed].run(&store).is_ok() {
        failed += 1;
        disk.note(failed as u64);
    }
    assert_eq!(disk.injected(plan), 1);
    drop(store);

    // The next opening shows the step that failed, or does not; from here on that is so.
    let store = open(&disk, direct);
    let shown = contents(&store).expect("reads");
    let mut now: State = shown.clone();
    let found = (failed..=failed + 1).find(|steps| all[*steps] == shown).expect("all, or all but the last");
    let mut later = vec![now.clone()];
    disk.note(found as u64);
    for step in [put(50), Step::Checkpoint, put(51)] {
        step.run(&store).expect("nothing fails any more");
        step.apply(&mut now);
        later.push(now.clone());
        disk.note((found + later.len() - 1) as u64);
    }
    drop(store);

    let few =
        CrashOptions { exhaustive_max: 8, random: 2, pairs_max: 4, splits_max: 2, ..CrashOptions::default() };
    let mut images = 0;
    for image in disk.crash_states(&few) {
        let disk = image.disk();
        let store = Store::open_on(Arc::new(disk), Path::new(DIR), Options { direct_io: direct, ..small() });
        let store = store.unwrap_or_else(|error| panic!("{after:?} {skip}: {error}\n{}", image.explain()));
        let state = verified_contents(&store).expect("reads");
        let noted = image.acknowledged();
        let stays = noted.last().map_or(20, |noted| *noted as usize);
        let legal = if noted.len() > failed - 20 {
            later[stays - found..].contains(&state)
        } else {
            all[stays..=failed + 1].contains(&state)
        };
        assert!(legal, "{after:?} {skip}: {}", image.explain());
        images += 1;
    }
    images
}

#[test]
fn a_batch_over_the_end_of_a_block_and_every_other() {
    let mut images = 0;
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        for after in
            [AfterFailedSync::CleanWithNew, AfterFailedSync::CleanWithOld, AfterFailedSync::PartlyPersisted]
        {
            for skip in 0..6 {
                images += fail_and_go_on(direct, after, skip);
            }
        }
    }
    println!("{images} images");
    assert!(images > 2000, "{images}");
}
