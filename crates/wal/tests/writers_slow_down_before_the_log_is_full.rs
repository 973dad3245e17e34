//! Prevents: writers that run into the end of the log at full speed and all stop at once; a log beyond its budget; a writer that
//! sleeps on where there is room again, or where the handle has ended (R5).
#![cfg(not(loom))]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{append, commit, fresh, group, options};
use pagestone_testkit::{DiskOp, FaultPlan};
use pagestone_wal::{Wal, WalError, WalOptions};

const BUDGET: u64 = 256 << 10;

fn small(delay_max: Duration) -> WalOptions {
    WalOptions { log_bytes: BUDGET, delay_max, ..options() }
}

/// Fills it to just below the use from which writers are delayed.
fn fill_undelayed(wal: &Wal) {
    let mut number = 0;
    while wal.used() + 12_000 < BUDGET / 4 * 3 {
        commit(wal, (1, number), 2000);
        number += 1;
    }
    assert_eq!(wal.stats().delays, 0, "nobody is delayed below three quarters");
}

fn wait_for_a_sleeper(wal: &Wal) {
    while wal.stats().delays == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn delays_begin_at_three_quarters_and_grow_with_use() {
    let (_disk, wal) = fresh(&small(Duration::from_micros(500)));
    let (mut delays, mut last) = (Vec::new(), wal.stats());
    for number in 0.. {
        let mut group = group((1, number), 3000);
        match wal.reserve(group.encoded_len()) {
            Ok(space) => drop(wal.append(space, &mut group)),
            Err(WalError::LogFull { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        let now = wal.stats();
        assert!(now.used <= BUDGET, "beyond the budget: {now:?}");
        if now.used <= BUDGET / 4 * 3 - 4096 {
            assert_eq!(now.delays, 0, "{now:?}");
        }
        if now.used > BUDGET / 4 * 3 + 4096 {
            assert!(now.delays > last.delays, "a writer went by undelayed: {now:?}");
            delays.push(now.delay_us - last.delay_us);
        }
        last = now;
    }
    assert!(delays.len() > 10 && delays.is_sorted(), "{delays:?}");
    assert!(delays[0] < 100 && *delays.last().expect("some") > 400, "{delays:?}");
}

#[test]
fn writers_faster_than_the_checkpoints_all_go_on_within_the_budget() {
    let options = WalOptions { full_wait: Duration::from_secs(60), ..small(Duration::from_micros(200)) };
    let (_disk, wal) = fresh(&options);
    let done: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = done
            .iter()
            .zip(0..)
            .map(|(done, thread)| {
                let wal = &wal;
                scope.spawn(move || {
                    for number in 0..300 {
                        append(wal, (thread, number), 2000);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // Frees an eighth whenever little is left, as checkpoints do that never catch up for good.
        while !writers.iter().all(|writer| writer.is_finished()) {
            let stats = wal.stats();
            assert!(stats.used <= BUDGET, "beyond the budget: {stats:?}");
            if stats.used > BUDGET / 16 * 15 {
                wal.flush().expect("flush");
                let keep = pagestone_page_format::Lsn::new(stats.keep_lsn.get() + BUDGET / 8);
                wal.recycle_below(keep).expect("recycle");
            }
            std::thread::yield_now();
        }
    });
    let stats = wal.stats();
    assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 300));
    assert!(stats.delays > 100 && stats.segments_recycled > 10, "{stats:?}");
}

/// An hour, if nobody woke it.
#[test]
fn room_ends_a_delay() {
    let (_disk, wal) = fresh(&small(Duration::from_secs(3600)));
    fill_undelayed(&wal);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| wal.reserve(BUDGET as usize / 5).map(drop));
        wait_for_a_sleeper(&wal);
        assert!(!sleeper.is_finished());
        wal.recycle_below(wal.durable_lsn()).expect("recycle");
        sleeper.join().expect("no panic").expect("room");
    });
    assert!(wal.stats().delay_us > 1_000_000 * 60);
}

#[test]
fn failure_ends_a_delay() {
    let (disk, wal) = fresh(&small(Duration::from_secs(3600)));
    fill_undelayed(&wal);
    let space = wal.reserve(1000).expect("room that is there");
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| wal.reserve(BUDGET as usize / 5).map(drop));
        wait_for_a_sleeper(&wal);
        let failed = disk.fail(FaultPlan::errno(5).on(DiskOp::Write));
        let mut last = group((2, 0), 500);
        let end = wal.append(space, &mut last).end;
        wal.wait_durable(end).expect_err("the disk fails");
        assert_eq!(disk.injected(failed), 1);
        let error = sleeper.join().expect("no panic").expect_err("the handle has ended");
        assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
    });
}
