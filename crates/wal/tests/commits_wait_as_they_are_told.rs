//! Prevents: a strict commit that returns before it is durable; a relaxed one that waits, or that nobody ever makes durable; and waiters
//! of a background leader that is gone (R1, R5).
#![cfg(not(loom))]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use pagestone_testkit::{DiskOp, FaultPlan, SimDisk};
use pagestone_wal::{BackgroundLeader, CommitMode, DurableBy, Wal, WalError, WalOptions};

fn log(disk: &SimDisk, commit: CommitMode) -> Arc<Wal> {
    let options = WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 256 << 10,
        buffer_bytes: 32 << 10,
        durable_by: Some(DurableBy::Fdatasync),
        commit,
        ..WalOptions::default()
    };
    let recovery = Wal::open_on(Arc::new(disk.clone()), Path::new("/log"), &options).expect("opens");
    Arc::new(recovery.start_alone().expect("opens"))
}

#[test]
fn strict_waits_and_relaxed_does_not() {
    for commit in [CommitMode::Strict, CommitMode::Relaxed] {
        let log = log(&SimDisk::new(1), commit);
        let end = log.append_logical(0x4000, b"one").expect("room");
        assert_eq!(log.commit().expect("healthy"), end);
        assert_eq!(log.is_lsn_durable(end), commit == CommitMode::Strict);
        log.flush().expect("healthy");
        assert!(log.is_lsn_durable(end));
    }
}

#[test]
fn a_background_leader_makes_relaxed_commits_durable() {
    let log = log(&SimDisk::new(1), CommitMode::Relaxed);
    let leader = BackgroundLeader::start(&log, BackgroundLeader::INTERVAL).expect("a thread");
    let (told, answer) = mpsc::channel();
    let end = log.append_logical(0x4000, b"one").expect("room");
    log.on_durable(end, move |result| told.send(result.is_ok()).expect("heard"));
    log.commit().expect("healthy");
    assert!(answer.recv().expect("nobody else leads"));
    assert!(log.is_lsn_durable(end));
    drop(leader);

    let leader = BackgroundLeader::start(&log, Duration::from_secs(3600)).expect("a thread");
    let end = log.append_logical(0x4000, b"two").expect("room");
    drop(leader);
    assert!(log.is_lsn_durable(end), "it flushes once more at its end");
}

#[test]
fn a_background_leader_that_fails_tells_everybody() {
    let disk = SimDisk::new(1);
    let log = log(&disk, CommitMode::Relaxed);
    disk.fail(FaultPlan::errno(5).on(DiskOp::Sync).forever());
    let end = log.append_logical(0x4000, b"one").expect("room");
    let (told, answer) = mpsc::channel();
    log.on_durable(end, move |result| told.send(result.is_ok()).expect("heard"));
    let leader = BackgroundLeader::start(&log, BackgroundLeader::INTERVAL).expect("a thread");
    assert!(!answer.recv().expect("told"));
    assert!(matches!(log.commit(), Err(WalError::Poisoned { .. })));
    assert!(matches!(log.wait_durable(end), Err(WalError::Poisoned { .. })));
    drop(leader);
}

/// The thread that leads belongs to one client, and the callbacks to others.
#[test]
fn a_callback_that_panics_keeps_nobody_else_from_being_told() {
    for fails in [false, true] {
        let disk = SimDisk::new(1);
        let log = log(&disk, CommitMode::Relaxed);
        let end = log.append_logical(0x4000, b"one").expect("room");
        let (told, answers) = mpsc::channel();
        for number in 0..3 {
            let told = told.clone();
            log.on_durable(end, move |result| {
                told.send((number, result.is_ok())).expect("heard");
                assert!(number == 2, "a bug of its owner's");
            });
        }
        drop(told);
        if fails {
            disk.fail(FaultPlan::errno(5).on(DiskOp::Sync).forever());
        }
        let led = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.flush()));
        assert!(led.is_err(), "a panic is not swallowed");
        let answers: Vec<_> = answers.iter().collect();
        assert_eq!(answers, [(0, !fails), (1, !fails), (2, !fails)]);
        assert_eq!(log.is_lsn_durable(end), !fails);
        assert_eq!(log.append_logical(0x4000, b"two").and_then(|lsn| log.wait_durable(lsn)).is_ok(), !fails);
    }
}

/// A callback that nobody ever calls is a client that waits for ever.
#[test]
fn who_is_to_be_called_back_is_told_when_the_log_is_dropped() {
    let log = log(&SimDisk::new(1), CommitMode::Relaxed);
    let durable = log.append_logical(0x4000, b"one").expect("room");
    let (told, answers) = mpsc::channel();
    let tell = |number: u64, told: &mpsc::Sender<_>| {
        let told = told.clone();
        move |result| told.send((number, result)).expect("heard")
    };
    log.on_durable(durable, tell(1, &told));
    log.flush().expect("healthy");
    let lost = log.append_logical(0x4000, b"two").expect("room");
    log.on_durable(lost, tell(2, &told));
    log.on_durable(lost, tell(3, &told));
    drop(log);
    drop(told);
    let answers: Vec<_> = answers.iter().collect();
    assert!(matches!(answers[0], (1, Ok(()))), "{answers:?}");
    for (answer, number) in answers[1..].iter().zip(2..) {
        assert!(
            matches!(answer, (found, Err(WalError::Dropped { lsn })) if (*found, *lsn) == (number, lost)),
            "{answer:?}"
        );
    }
    assert_eq!(answers.len(), 3, "each once");
}
