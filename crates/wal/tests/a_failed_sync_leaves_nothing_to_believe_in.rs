//! Prevents: recovery believing what a failed sync left in the system's cache and nowhere else. The cache shows such bytes as
//! clean, so no later sync writes them, pages come to carry their LSNs, and after a power cut the log ends before them (I9, L10).
#![cfg(not(loom))]

mod common;

use common::{DIR, Id, append, commit, create, open, options, replay, start};
use pagestone_testkit::{AfterFailedSync, CrashOptions, DiskOp, FaultPlan, Rng, SimDisk, SimOptions};
use pagestone_wal::{DurableBy, Recovery, WalError, WalOptions, WalResult};

const EIO: i32 = 5;

/// Batches by the lengths of their groups: in one block, over its end, over many blocks, over the end of a segment.
const BATCHES: [&[usize]; 5] = [&[100], &[1500, 3000], &[9000, 200, 7000], &[30_000], &[2400, 1132]];

fn failed_sync(after: AfterFailedSync) -> FaultPlan {
    FaultPlan::failed_sync(EIO, after).on(DiskOp::Sync).path(|path| path.starts_with(DIR))
}

/// What was appended to a log, and what came of it.
struct History {
    disk: SimDisk,
    options: WalOptions,
    groups: Vec<Id>,
    /// What was appended before a recovery decided what of it there is, and notes on the disk at that time.
    before: (Vec<Id>, usize),
    notes: usize,
}

impl History {
    fn note(&mut self, stays: usize) {
        self.disk.note(stays as u64);
        self.notes += 1;
    }

    /// Opens and makes durable what was found; from here on pages are built on it.
    fn recover(&mut self, generation: u64) -> WalResult<(Recovery, usize)> {
        let mut recovery = open(&self.disk, &self.options, start(generation))?;
        let (found, _) = replay(&mut recovery)?;
        assert_eq!(found, self.groups[..found.len()]);
        recovery.secure()?;
        if found.len() < self.groups.len() {
            self.before = (self.groups.clone(), self.notes + 1);
            self.groups.truncate(found.len());
        }
        self.note(found.len());
        Ok((recovery, found.len()))
    }

    /// Goes on behind what was recovered.
    fn go_on(&mut self, recovery: Recovery, generation: u64) {
        let wal = recovery.start(generation).expect("starts");
        for len in [300, 5000] {
            let id = (generation as u32, self.groups.len() as u32);
            self.groups.push(id);
            commit(&wal, id, len);
            self.note(self.groups.len());
        }
    }

    /// Every image of a power cut has what was believed in it, in order, and so has every image of a cut in the recovery of some.
    fn check_images(&self, acknowledged: usize, depth: u32) -> u64 {
        let mut images = 0;
        for (number, image) in self.disk.crash_states(&crashes()).enumerate() {
            let noted = image.acknowledged();
            let stays = noted.last().map_or(acknowledged, |noted| *noted as usize);
            let decided = noted.len() >= self.before.1;
            let groups = if decided { self.groups.clone() } else { self.before.0.clone() };
            let options = self.options.clone();
            let mut after =
                History { disk: image.disk(), options, groups, before: (Vec::new(), 0), notes: 0 };
            let (recovery, found) = match after.recover(1000 - u64::from(depth)) {
                Ok(recovered) => recovered,
                Err(error) => panic!("{error}\n{}", image.explain()),
            };
            assert!(found >= stays, "{found} of {stays} that were believed are found\n{}", image.explain());
            images += 1;
            if depth > 0 && number % 61 == 7 {
                after.go_on(recovery, 1001 - u64::from(depth));
                images += after.check_images(stays, depth - 1);
            }
        }
        assert_eq!(self.disk.audit(), []);
        images
    }
}

/// A log in which one commit is durable, then a batch of which the sync failed. Gives how much was acknowledged.
fn fail_a_batch(
    direct: bool,
    durable_by: DurableBy,
    batch: &[usize],
    after: AfterFailedSync,
) -> (History, usize) {
    let options = WalOptions { durable_by: Some(durable_by), ..options() };
    let disk = SimDisk::with(SimOptions { seed: 3, direct, ..SimOptions::default() });
    create(&disk, &options);
    let wal = open(&disk, &options, start(0)).expect("open").start(1).expect("start");
    commit(&wal, (1, 0), 500);
    wal.prepare().expect("segments are ready, so that the sync that fails is the batch's");
    disk.settle();
    let plan = disk.fail(failed_sync(after));
    let (mut groups, mut acknowledged) = (vec![(1, 0)], 1);
    for _ in 0..2 {
        let end = batch.iter().fold(wal.end_lsn(), |_, len| {
            groups.push((1, groups.len() as u32));
            append(&wal, groups[groups.len() - 1], *len).1
        });
        match wal.wait_durable(end) {
            Ok(()) => acknowledged = groups.len(),
            Err(error) => {
                assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
                break;
            }
        }
    }
    assert_eq!(disk.injected(plan), 1);
    let mut history = History { disk, options, groups, before: (Vec::new(), 0), notes: 0 };
    history.note(acknowledged);
    (history, acknowledged)
}

fn crashes() -> CrashOptions {
    CrashOptions {
        exhaustive_max: 8,
        random: 2,
        pairs_max: 4,
        splits_max: 3,
        garbage: true,
        ..CrashOptions::default()
    }
}

#[test]
fn whatever_the_cache_shows_after_it() {
    let mut images = 0;
    for direct in [true, false] {
        for after in AfterFailedSync::ALL {
            for (batch, by) in BATCHES.into_iter().zip(DurableBy::ALL.into_iter().cycle()) {
                let (mut history, acknowledged) = fail_a_batch(direct, by, batch, after);
                // A failure that is reported late meets the first sync of the recovery.
                let late =
                    if after == AfterFailedSync::ReportedLate { history.recover(1).err() } else { None };
                let (recovery, found) = history.recover(1).unwrap_or_else(|error| panic!("{late:?} {error}"));
                assert!(found >= acknowledged);
                history.go_on(recovery, 2);
                images += history.check_images(1, 1);
            }
        }
    }
    println!("{images} images");
    assert!(images > 5000, "{images}");
}

/// Recovery syncs several times. Each of them fails once, in each way, some of them twice; the next recovery makes it good.
#[test]
fn whichever_sync_of_a_recovery_fails() {
    let (mut images, mut failed) = (0, 0);
    let mut rng = Rng::new(4);
    for batch in BATCHES {
        for first in AfterFailedSync::ALL {
            for skip in 0.. {
                let after = *rng.pick(&AfterFailedSync::ALL);
                let by = *rng.pick(&DurableBy::ALL);
                let (mut history, mut stays) = fail_a_batch(skip % 2 == 0, by, batch, first);
                let plan = history.disk.fail(failed_sync(after).skip(skip).times(1 + skip % 2));
                let mut generation = 1;
                for _ in 0..6 {
                    let Ok((recovery, found)) = history.recover(generation) else { continue };
                    assert!(found >= stays, "what one recovery has believed the next one finds");
                    stays = found;
                    generation += 1;
                    if recovery.start(generation).is_ok() {
                        break;
                    }
                }
                let injected = history.disk.injected(plan);
                history.disk.heal();
                failed += injected;
                let (recovery, found) = history.recover(generation).expect("nothing fails any more");
                assert!(found >= stays);
                history.go_on(recovery, generation + 1);
                images += history.check_images(1, 0);
                if injected == 0 {
                    break;
                }
            }
        }
    }
    println!("{failed} syncs of recoveries failed, {images} images");
    assert!(failed > 100 && images > 10_000, "{failed} {images}");
}
