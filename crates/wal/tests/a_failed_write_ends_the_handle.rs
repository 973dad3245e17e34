//! Prevents: a commit acknowledged after the write or the sync that should have made it durable failed, a sync tried a
//! second time, a waiter left asleep (I3, I4, I8, I9, L9, R5).
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{append, commit, fresh, options, recover, start};
use pagestone_page_format::{Lsn, PageError, WriteAhead};
use pagestone_testkit::{AfterFailedSync, DiskOp, FaultPlan, Keep, Rng};
use pagestone_wal::{Wal, WalError, WalOptions};

const EIO: i32 = 5;
const EINTR: i32 = 4;

fn assert_dead(wal: &Wal, durable: Lsn, appended: Lsn) {
    assert_eq!(wal.durable_lsn(), durable, "the durable LSN never rises again");
    assert!(matches!(wal.wait_durable(appended), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.flush(), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.reserve(100), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.recycle_below(durable), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.prepare(), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.ensure_durable(appended), Err(PageError::Poisoned { .. })));
    assert!(wal.wait_durable(durable).is_ok(), "what is durable stays so");
}

#[test]
fn every_kind_of_failure_of_a_batch() {
    let options = options();
    let mut plans: Vec<FaultPlan> =
        AfterFailedSync::ALL.map(|after| FaultPlan::failed_sync(EIO, after)).to_vec();
    plans.push(FaultPlan::failed_sync(EINTR, AfterFailedSync::CleanWithNew)); // never retried either
    plans.push(FaultPlan::done_but_reported(EIO).on(DiskOp::Sync));
    plans.push(FaultPlan::errno(EIO).on(DiskOp::Write));
    plans.push(FaultPlan::errno(28).on(DiskOp::Write));
    plans.push(FaultPlan::torn(EIO, 512));
    plans.push(FaultPlan::short(0).on(DiskOp::Write).forever());
    for (number, plan) in plans.into_iter().enumerate() {
        for len in [100, 9000] {
            let (disk, wal) = fresh(&options);
            let durable = commit(&wal, (1, 0), 300);
            let late = format!("{plan:?}").contains("ReportedLate");
            let fault = disk.fail(plan.clone());
            let (_, mut end) = append(&wal, (1, 1), len);
            let mut groups = 1;
            let mut first = wal.wait_durable(end);
            let mut known = durable;
            if late {
                first.expect("this sync does succeed");
                (known, groups) = (end, 2);
                end = append(&wal, (1, 2), len).1;
                first = wal.wait_durable(end);
            }
            assert!(matches!(first, Err(WalError::Poisoned { .. })), "plan {number}: {first:?}");
            assert!(disk.injected(fault) > 0, "plan {number}");
            let syncs = disk.calls(DiskOp::Sync);
            disk.heal();
            assert_dead(&wal, known, end);
            assert_eq!(disk.calls(DiskOp::Sync), syncs, "plan {number}: a sync was retried");
            assert_eq!(disk.audit(), []);
            drop(wal);
            let (found, _) = recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover");
            assert!(found.len() >= groups, "plan {number}: {found:?}");
        }
    }
}

#[test]
fn interrupted_and_short_writes_are_finished() {
    let options = options();
    for plan in [
        FaultPlan::errno(EINTR).on(DiskOp::Write).times(3),
        FaultPlan::errno(11).on(DiskOp::Write).times(2),
        FaultPlan::short(4096).on(DiskOp::Write).times(2),
    ] {
        let (disk, wal) = fresh(&options);
        let fault = disk.fail(plan);
        commit(&wal, (1, 0), 20_000);
        assert!(disk.injected(fault) > 0);
        drop(wal);
        assert_eq!(recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover").0, [(1, 0)]);
    }
}

#[test]
fn every_waiter_is_told() {
    let options = WalOptions { full_wait: Duration::from_secs(5), ..options() };
    for round in 0..20 {
        let (disk, wal) = fresh(&options);
        commit(&wal, (1, 0), 100);
        let told = AtomicU64::new(0);
        disk.fail(FaultPlan::failed_sync(EIO, AfterFailedSync::CleanWithNew).skip(round).forever());
        let called = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (wal, told, called) = (&wal, &told, Arc::clone(&called));
                scope.spawn(move || {
                    for number in 0.. {
                        let mut group = common::group((thread, number), 3000);
                        let space = match wal.reserve(group.encoded_len()) {
                            Ok(space) => space,
                            Err(WalError::Poisoned { .. }) => break,
                            Err(error) => panic!("{error}"),
                        };
                        let end = wal.append(space, &mut group).end;
                        let called = Arc::clone(&called);
                        wal.on_durable(end, move |_| {
                            called.fetch_add(1, Ordering::Relaxed);
                        });
                        if let Err(error) = wal.wait_durable(end) {
                            assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
                            break;
                        }
                    }
                    told.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(told.into_inner(), 8);
        assert_eq!(called.load(Ordering::Relaxed), wal.stats().groups - 1, "every callback is called once");
        assert_eq!(disk.audit(), []);
    }
}

#[test]
fn another_layers_failure_ends_the_log_too() {
    let options = options();
    let disk = pagestone_testkit::SimDisk::new(1);
    common::create(&disk, &options);
    let from = start(0);
    let wal = common::open(&disk, &options, from.clone()).expect("open").start(1).expect("start");
    let durable = commit(&wal, (1, 0), 100);
    let (_, end) = append(&wal, (1, 1), 100);
    let writes = disk.calls(DiskOp::Write);
    from.poison.poison("the data file failed");
    assert_dead(&wal, durable, end);
    assert_eq!(disk.calls(DiskOp::Write), writes, "a dead handle writes nothing");
}

#[test]
fn making_a_segment_fails() {
    let options = options();
    // The call that fails, and whether the handle survives it.
    let cases = [
        (FaultPlan::errno(28).on(DiskOp::Reserve), true),
        (FaultPlan::errno(28).on(DiskOp::Write).path(|path| path.to_string_lossy().ends_with(".new")), true),
        (FaultPlan::errno(24).on(DiskOp::Create), true),
        (
            FaultPlan::errno(EIO).on(DiskOp::Write).path(|path| path.to_string_lossy().ends_with(".new")),
            false,
        ),
        (FaultPlan::errno(EIO).on(DiskOp::Sync).path(|path| path.to_string_lossy().ends_with(".new")), false),
        (FaultPlan::errno(EIO).on(DiskOp::Rename), false),
        (FaultPlan::errno(EIO).on(DiskOp::SyncDir), false),
    ];
    for (number, (plan, survives)) in cases.into_iter().enumerate() {
        let (disk, wal) = fresh(&options);
        let fault = disk.fail(plan.forever());
        let mut acknowledged = 0;
        let refused = loop {
            let mut group = common::group((1, acknowledged), 4000);
            let space = match wal.reserve(group.encoded_len()) {
                Ok(space) => space,
                Err(error) => break error,
            };
            let end = wal.append(space, &mut group).end;
            wal.wait_durable(end).expect("room was reserved, so nothing can fail");
            acknowledged += 1;
        };
        assert!(disk.injected(fault) > 0, "case {number}");
        disk.heal();
        if survives {
            let expected = matches!(refused, WalError::NoSpace { .. } | WalError::Io { .. });
            assert!(expected && acknowledged > 10, "case {number}: {refused} after {acknowledged}");
            assert!(wal.flush().is_ok());
            commit(&wal, (1, acknowledged), 4000);
            acknowledged += 1;
        } else {
            assert!(matches!(refused, WalError::Poisoned { .. }), "case {number}: {refused}");
        }
        assert_eq!(disk.audit(), []);
        drop(wal);
        let (found, _) = recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover");
        assert_eq!(found, (0..acknowledged).map(|number| (1, number)).collect::<Vec<_>>(), "case {number}");
    }
}

#[test]
fn without_space_for_a_segment_what_was_promised_still_fits() {
    let options = options();
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (disk, wal) = fresh(&options);
        disk.fail(FaultPlan::errno(28).on(DiskOp::Reserve).forever());
        let mut wanted = Vec::new();
        'full: loop {
            // Several are promised room before any is appended, and batches are sealed in between.
            let mut promised = Vec::new();
            for _ in 0..=rng.below(3) {
                let group =
                    common::group((1, (wanted.len() + promised.len()) as u32), 8 + rng.below(9000) as usize);
                match wal.reserve(group.encoded_len()) {
                    Ok(space) => promised.push((space, group)),
                    Err(WalError::NoSpace { .. }) => break 'full,
                    Err(error) => panic!("{error}"),
                }
            }
            for (space, mut group) in promised {
                let end = wal.append(space, &mut group).end;
                wanted.push((1, wanted.len() as u32));
                if rng.below(2) == 0 {
                    wal.wait_durable(end).expect("what was promised fits");
                }
            }
        }
        wal.flush().expect("what was promised fits");
        drop(wal);
        let (found, _) = recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover");
        assert_eq!(found, wanted);
    }
}

#[test]
fn every_call_fails_once() {
    let options = WalOptions { log_bytes: 192 << 10, ..options() };
    let mut calls = 0;
    for call in 0.. {
        let disk = pagestone_testkit::SimDisk::new(call);
        common::create(&disk, &options);
        disk.settle();
        let fault = disk.fail(FaultPlan::errno(EIO).skip(call));
        let acknowledged = workload(&disk, &options);
        let injected = disk.injected(fault);
        disk.heal();
        assert_eq!(disk.audit(), [], "call {call}");
        let cut = disk.power_cut(Keep::Synced);
        let from =
            pagestone_wal::WalStart { checkpoint: acknowledged.1, keep_from: acknowledged.1, ..start(9) };
        let (found, _) =
            recover(&cut, &options, from.clone()).unwrap_or_else(|error| panic!("call {call}: {error}"));
        let found = found.last().map_or(acknowledged.2, |id| id.1 + 1);
        assert!(found >= acknowledged.0, "call {call}: {found} of {}", acknowledged.0);
        common::open(&cut, &options, from).expect("open").start(10).expect("start");
        if injected == 0 {
            break;
        }
        calls += 1;
    }
    assert!(calls > 100, "{calls}");
}

/// Two generations that commit and recycle, until something fails. Gives the groups acknowledged, the checkpoint, and how
/// many groups lie before it.
fn workload(disk: &pagestone_testkit::SimDisk, options: &WalOptions) -> (u32, Lsn, u32) {
    let mut done = (0, Lsn::ZERO, 0);
    for generation in 1..3 {
        let from = pagestone_wal::WalStart { checkpoint: done.1, keep_from: done.1, ..start(generation - 1) };
        let Ok(recovery) = common::open(disk, options, from) else { return done };
        let Ok(wal) = recovery.start(generation) else { return done };
        for number in 0..22 {
            let mut group = common::group((1, done.0), 5000);
            let Ok(space) = wal.reserve(group.encoded_len()) else { return done };
            let end = wal.append(space, &mut group).end;
            if wal.wait_durable(end).is_err() {
                return done;
            }
            done.0 += 1;
            if number % 7 == 6 {
                (done.1, done.2) = (end, done.0);
                if wal.recycle_below(end).is_err() {
                    return done;
                }
            }
        }
    }
    done
}
