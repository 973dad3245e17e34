//! Prevents: a log that grows without bound, a writer that waits for ever for room, a group that is half in (I10).
#![cfg(not(loom))]

mod common;

use std::time::{Duration, Instant};

use common::{append, commit, fresh, group, options, recover, segments, start};
use pagestone_page_format::Lsn;
use pagestone_wal::{GroupBuilder, WalError, WalOptions, WalStart};

#[test]
fn without_a_checkpoint_it_fills_and_says_so() {
    let options = WalOptions { log_bytes: 256 << 10, ..options() };
    let (disk, wal) = fresh(&options);
    let mut number = 0;
    let full = loop {
        let mut group = group((1, number), 3000);
        match wal.reserve(group.encoded_len()) {
            Ok(space) => drop(wal.append(space, &mut group)),
            Err(error) => break error,
        }
        number += 1;
    };
    assert!(matches!(full, WalError::LogFull { budget: 262_144, .. }), "{full}");
    assert!(wal.used() <= wal.budget() && wal.used() > wal.budget() / 10 * 9);
    assert!(segments(&disk).len() <= 6);
    wal.flush().expect("the handle lives");
    // A checkpoint makes room again.
    wal.recycle_below(wal.end_lsn()).expect("recycle");
    let stats = wal.stats();
    assert!(stats.used < 100 && stats.segments_recycled > 2, "{stats:?}");
    commit(&wal, (1, number), 3000);
    let keep = wal.stats().keep_lsn;
    drop(wal);
    let from = WalStart { checkpoint: keep, keep_from: keep, ..start(1) };
    assert_eq!(recover(&disk, &options, from).expect("recover").0, [(1, number)]);
}

#[test]
fn it_goes_round_and_round_in_the_same_files() {
    let options = WalOptions { log_bytes: 256 << 10, ..options() };
    let (disk, wal) = fresh(&options);
    for number in 0..2000 {
        let end = commit(&wal, (1, number), 2000);
        if number % 10 == 0 {
            wal.recycle_below(end).expect("recycle");
        }
    }
    let stats = wal.stats();
    assert!(segments(&disk).len() <= 6 && stats.segments_created <= 5, "{stats:?}");
    assert!(stats.segments_recycled > 50, "{stats:?}");
    assert_eq!(disk.audit(), []);
}

#[test]
fn a_waiter_for_room_goes_on_when_a_checkpoint_frees_it() {
    // Nobody slows down before: all of them run into the wall.
    let options = WalOptions {
        log_bytes: 128 << 10,
        full_wait: Duration::from_secs(30),
        delay_max: Duration::ZERO,
        ..options()
    };
    let (_disk, wal) = fresh(&options);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let wal = &wal;
                scope.spawn(move || {
                    (0..100).for_each(|number| {
                        commit(wal, (thread, number), 2000);
                    })
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            std::thread::sleep(Duration::from_micros(300));
            // Not before somebody waits: eight times the budget is written.
            if wal.stats().reserve_waits > 0 {
                wal.recycle_below(wal.durable_lsn()).expect("recycle");
            }
        }
    });
    let stats = wal.stats();
    assert!(stats.groups == 400 && stats.reserve_waits > 0, "{stats:?}");
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let options = WalOptions { full_wait: Duration::from_secs(30), ..options() };
    let (_disk, wal) = fresh(&options);
    let max = wal.max_group_bytes();
    assert!(matches!(wal.reserve(max + 1), Err(WalError::GroupTooLarge { max: told, .. }) if told == max));
    assert!(matches!(wal.reserve(GroupBuilder::bound(usize::MAX, 1)), Err(WalError::GroupTooLarge { .. })));
    drop(wal.reserve(max).expect("the largest"));
    assert!(matches!(wal.wait_durable(Lsn::new(9999)), Err(WalError::BeyondEnd { .. })));
    assert!(matches!(wal.wait_durable(Lsn::MAX), Err(WalError::BeyondEnd { .. })));
}

#[test]
fn room_that_is_not_used_is_given_back() {
    let options = options();
    let (_disk, wal) = fresh(&options);
    let max = wal.max_group_bytes();
    let held = wal.reserve(max).expect("all of it");
    let begun = Instant::now();
    assert!(matches!(wal.reserve(max), Err(WalError::LogFull { .. })), "nobody gives room back");
    assert!(begun.elapsed() >= options.full_wait && begun.elapsed() < Duration::from_secs(5));
    drop(held);
    let mut large = group((1, 0), 60_000);
    let space = wal.reserve(max).expect("all of it again");
    wal.append(space, &mut large);
    drop(wal.reserve(max).expect("what was reserved and not used is free again, after a flush"));
    assert!(wal.stats().batches == 1);
}

#[test]
fn groups_in_progress_hold_the_checkpoint_back() {
    let options = options();
    let (_disk, wal) = fresh(&options);
    let mut tokens = Vec::new();
    let mut starts = Vec::new();
    for number in 0..5 {
        let mut group = group((1, number), 50);
        let space = wal.reserve(group.encoded_len()).expect("reserve");
        let appended = wal.append(space, &mut group);
        assert_eq!(appended.end, wal.end_lsn());
        starts.push(appended.start);
        tokens.push(Some(appended.in_progress));
    }
    for (done, oldest) in [(1, Some(0)), (0, Some(2)), (3, Some(2)), (2, Some(4)), (4, None)] {
        tokens[done] = None;
        assert_eq!(wal.checkpoint_floor(), (wal.end_lsn(), oldest.map(|oldest: usize| starts[oldest])));
    }
    append(&wal, (1, 9), 50);
    assert_eq!(wal.checkpoint_floor(), (wal.end_lsn(), None));
}

/// Segments that a background thread made ready: no writer makes one, and the files stay within the budget and two more.
#[test]
fn prepared_segments_are_there_before_a_writer_needs_them() {
    let options = WalOptions { log_bytes: 1 << 20, ..options() };
    let (disk, wal) = fresh(&options);
    for number in 0..1000 {
        wal.prepare().expect("a segment");
        let made = wal.stats().segments_created;
        let end = commit(&wal, (1, number), 3000);
        assert_eq!(wal.stats().segments_created, made, "a writer made a segment");
        if wal.used() > wal.budget() / 2 {
            wal.recycle_below(end).expect("recycle");
        }
    }
    assert!(segments(&disk).len() as u64 <= wal.budget() / options.segment_bytes + 2);
    let made = wal.stats().segments_created;
    (0..10).for_each(|_| wal.prepare().expect("enough is ready"));
    assert_eq!(wal.stats().segments_created, made);
}

#[test]
fn what_is_reserved_ahead_keeps_nobody_waiting() {
    // Who waits at all fails at once.
    let options = WalOptions { full_wait: Duration::ZERO, ..options() };
    let (_disk, wal) = fresh(&options);
    let most = wal.max_group_bytes();
    drop(wal.reserve(100).expect("room, and some more ahead"));
    let some = wal.reserve(most).expect("the largest group");
    // The buffer has room for a block's payload more, and not for what was reserved ahead beside it.
    let rest = wal.reserve(4096 - 200).expect("all that there is");
    drop((some, rest));
    for _ in 0..1000 {
        drop(wal.reserve(100).expect("room"));
    }
    drop(wal.reserve(most).expect("nothing is lost: the largest group still fits"));
}
