//! Prevents: a commit acknowledged by a call of the system that made less durable than was believed, or a choice among them that is not
//! kept, not told, or made of what the system does not have.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;

use common::{Id, UUID, append, commit, fresh, open, options, recover, replay, start};
use pagestone_direct_io::RealDisk;
use pagestone_testkit::{AfterFailedSync, CrashOptions, DiskOp, FaultPlan, Keep, SimDisk, SimOptions};
use pagestone_wal::{DurableBy, GroupBuilder, Recovery, Wal, WalError, WalOptions};

fn by(durable_by: DurableBy) -> WalOptions {
    WalOptions { durable_by: Some(durable_by), ..options() }
}

/// Every image has what was acknowledged in it, and can be gone on with.
fn check(disk: &SimDisk, options: &WalOptions, groups: &[Id]) -> u64 {
    let crashes = CrashOptions {
        exhaustive_max: 256,
        random: 8,
        pairs_max: 16,
        splits_max: 8,
        garbage: true,
        ..CrashOptions::default()
    };
    let mut images = 0;
    for image in disk.crash_states(&crashes) {
        let stays = image.acknowledged().last().map_or(0, |noted| *noted as usize);
        let disk = image.disk();
        let mut recovery = open(&disk, options, start(100)).expect("open");
        let (found, _) = replay(&mut recovery).unwrap_or_else(|error| panic!("{error}\n{}", image.explain()));
        assert!(found.len() >= stays, "{} of {stays}\n{}", found.len(), image.explain());
        assert_eq!(found, groups[..found.len()], "{}", image.explain());
        if images % 16 == 0 {
            let wal = recovery.start(101).expect("start");
            commit(&wal, (101, 0), 6000);
            drop(wal);
            let (again, _) = recover(&disk.power_cut(Keep::Synced), options, start(101)).expect("recover");
            assert_eq!(again.len(), found.len() + 1);
        }
        images += 1;
    }
    images
}

#[test]
fn a_power_cut_at_any_point_of_commits_by_each() {
    for durable_by in DurableBy::ALL {
        let options = by(durable_by);
        let (disk, wal) = fresh(&options);
        assert_eq!(wal.stats().durable_by, durable_by);
        wal.prepare().expect("segments");
        disk.settle();
        let mut groups = Vec::new();
        for len in [100, 1500, 3000, 9000, 300, 28_000, 500] {
            for len in [len, 40] {
                groups.push((1, groups.len() as u32));
                append(&wal, groups[groups.len() - 1], len);
            }
            wal.flush().expect("flush");
            common::assert_synced(&disk);
            disk.note(groups.len() as u64);
        }
        assert!(wal.stats().segments >= 2, "over the end of a segment");
        drop(wal);
        assert_eq!(disk.audit(), []);
        let images = check(&disk, &options, &groups);
        println!("{durable_by}: {images} images");
        assert!(images > 300, "{images}");
    }
}

/// A write that is durable by itself says nothing of others, and its failure is a failed sync.
#[test]
fn a_failure_of_each_is_final() {
    for durable_by in DurableBy::ALL {
        let plans = AfterFailedSync::ALL
            .map(|after| FaultPlan::failed_sync(5, after))
            .into_iter()
            .chain([4, 5, 28].map(|errno| FaultPlan::errno(errno).on(DiskOp::Sync)))
            .chain([FaultPlan::errno(5).on(DiskOp::Write), FaultPlan::torn(5, 512)]);
        for plan in plans {
            let late = format!("{plan:?}").contains("ReportedLate");
            let (disk, wal) = fresh(&by(durable_by));
            let mut durable = commit(&wal, (1, 0), 300);
            let fault = disk.fail(plan);
            let mut end = append(&wal, (1, 1), 9000).1;
            if late && wal.wait_durable(end).is_ok() {
                (durable, end) = (end, append(&wal, (1, 2), 9000).1);
            }
            let error = wal.wait_durable(end).expect_err("a durable write failed");
            assert!(matches!(error, WalError::Poisoned { .. }), "{durable_by}: {error}");
            assert_eq!((disk.injected(fault), wal.durable_lsn(), disk.audit()), (1, durable, vec![]));
            let calls = (disk.calls(DiskOp::Sync), disk.calls(DiskOp::Write));
            wal.wait_durable(end).expect_err("L9: sticky");
            assert_eq!(calls, (disk.calls(DiskOp::Sync), disk.calls(DiskOp::Write)), "tried again");
        }
    }
}

#[test]
fn short_counts_are_gone_on_from_and_an_interruption_of_a_durable_write_is_not() {
    for durable_by in DurableBy::ALL {
        let (disk, wal) = fresh(&by(durable_by));
        let fault = disk.fail(FaultPlan::short(4096).on(DiskOp::Write).times(2));
        commit(&wal, (1, 0), 20_000);
        assert_eq!(disk.injected(fault), 2);
        common::assert_synced(&disk);
        let found = recover(&disk.power_cut(Keep::Synced), &options(), start(1)).expect("recover").0;
        assert_eq!(found, [(1, 0)]);
        disk.fail(FaultPlan::errno(4).on(DiskOp::Write));
        let (_, end) = append(&wal, (1, 1), 100);
        // A plain write that was interrupted has done nothing; one that also syncs may have failed to (I4).
        let tried_again = matches!(durable_by, DurableBy::Fdatasync | DurableBy::IoUring);
        assert_eq!(wal.wait_durable(end).is_ok(), tried_again, "{durable_by}");
    }
}

#[test]
fn the_choice_is_made_of_what_there_is() {
    // A file system without direct I/O is asked for nothing but fdatasync.
    for direct in [true, false] {
        let disk = SimDisk::with(SimOptions { seed: 1, direct, ..SimOptions::default() });
        let options = WalOptions { durable_by: None, ..options() };
        common::create(&disk, &options);
        let wal = open(&disk, &options, start(0)).expect("open").start(1).expect("start");
        let chosen = wal.stats().durable_by;
        assert!(direct || chosen == DurableBy::Fdatasync, "{chosen}");
        commit(&wal, (1, 0), 9000);
        common::assert_synced(&disk);
        drop(wal);
        assert_eq!(recover(&disk, &options, start(1)).expect("recover").0, [(1, 0)]);
    }
}

/// On the real disk: each that the system has; one that it lacks is refused and not replaced in silence.
#[test]
fn each_on_the_real_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    for (number, durable_by) in DurableBy::ALL.into_iter().map(Some).chain([None]).enumerate() {
        let options = WalOptions { durable_by, segment_bytes: 1 << 20, log_bytes: 8 << 20, ..options() };
        let path = dir.path().join(number.to_string());
        Wal::create(Arc::new(RealDisk), path.clone(), &options, UUID).expect("create");
        let opened =
            Recovery::open(Arc::new(RealDisk), path.clone(), &options, start(0)).expect("open").start(1);
        let wal = match opened {
            Err(WalError::InvalidOptions { reason }) if durable_by.is_some() => {
                println!("NOT TESTED: {durable_by:?} on the real disk: {reason}");
                continue;
            }
            other => other.expect("start"),
        };
        let chosen = wal.stats().durable_by;
        assert!(durable_by.is_none_or(|wanted| wanted == chosen));
        for group in 0..40 {
            let mut builder = GroupBuilder::new();
            builder.push_logical(7, &vec![group as u8; 1 + group * 700]);
            let space = wal.reserve(builder.encoded_len()).expect("room");
            let end = wal.append(space, &mut builder).end;
            wal.wait_durable(end).expect("durable");
        }
        assert_eq!(wal.stats().batches, 40);
        drop(wal);
        let mut recovery = Recovery::open(Arc::new(RealDisk), path, &options, start(1)).expect("open");
        let mut lens = Vec::new();
        let replayed = recovery.replay(|group| {
            lens.extend(group.records().map(|record| (record.payload.len(), record.payload[0])));
            Ok(())
        });
        replayed.expect("replay");
        assert_eq!(lens, (0..40).map(|group| (1 + group * 700, group as u8)).collect::<Vec<_>>(), "{chosen}");
    }
}
