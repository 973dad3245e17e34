//! Prevents: an acknowledgement before its sync, a lost wake-up, a durable LSN that falls or skips, groups out of order.
#![cfg(not(loom))]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Id, append, assert_synced, create, fresh, open, options, recover, start};
use pagestone_page_format::Lsn;
use pagestone_testkit::{CrashOptions, Keep, Rng, SimDisk, SimOptions};
use pagestone_wal::{Wal, WalOptions};

fn patient() -> WalOptions {
    WalOptions { log_bytes: 16 << 20, full_wait: Duration::from_secs(60), ..options() }
}

/// Eight threads commit; each notes what it was told. Gives, in the order of their LSNs, who is where.
fn storm(wal: &Wal, disk: &SimDisk, commits: u32) -> Vec<(Lsn, Id)> {
    let acknowledged = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut last = Lsn::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let now = wal.durable_lsn();
                assert!(
                    now >= last && now <= wal.end_lsn(),
                    "the durable LSN rises and stays before the end"
                );
                last = now;
                std::thread::yield_now();
            }
        });
        let writers: Vec<_> = (0..8)
            .map(|thread| {
                let (acknowledged, disk) = (&acknowledged, &disk);
                scope.spawn(move || {
                    let mut rng = Rng::new(thread.into());
                    let mut last = Lsn::ZERO;
                    for number in 0..commits {
                        let most = if rng.below(20) == 0 { 12_000 } else { 300 };
                        let len = 8 + rng.below(most) as usize;
                        let (from, end) = append(wal, (thread, number), len);
                        assert!(from >= last && end > from);
                        last = end;
                        if rng.below(4) > 0 {
                            wal.wait_durable(end).expect("durable");
                            assert!(wal.is_lsn_durable(end));
                            disk.note(end.get());
                        }
                        acknowledged.lock().unwrap().push((end, (thread, number)));
                    }
                    wal.wait_durable(last).expect("durable");
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("no panic");
    });
    let mut all = acknowledged.into_inner().unwrap();
    all.sort();
    all
}

#[test]
fn eight_threads_lose_nothing_and_keep_their_order() {
    let options = patient();
    let disk = SimDisk::with(SimOptions { seed: 2, yield_in_writes: true, ..SimOptions::default() });
    create(&disk, &options);
    let wal = open(&disk, &options, start(0)).expect("open").start(1).expect("start");
    let all = storm(&wal, &disk, 400);
    assert_eq!(wal.durable_lsn(), wal.end_lsn());
    assert_synced(&disk);
    assert_eq!(disk.audit(), []);
    let stats = wal.stats();
    assert!(stats.batches < stats.groups && stats.syncs >= stats.batches, "{stats:?}");
    drop(wal);
    let (found, _) = recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover");
    assert_eq!(found, all.iter().map(|(_, id)| *id).collect::<Vec<_>>());
}

#[test]
fn a_power_cut_at_any_instant_of_a_storm() {
    let options = patient();
    let (disk, wal) = fresh(&options);
    disk.settle();
    let all = storm(&wal, &disk, 12);
    drop(wal);
    let ends: HashMap<Id, Lsn> = all.iter().map(|(end, id)| (*id, *end)).collect();
    let crashes = CrashOptions {
        exhaustive_max: 16,
        random: 4,
        pairs_max: 8,
        splits_max: 4,
        ..CrashOptions::default()
    };
    let mut images = 0;
    for image in disk.crash_states(&crashes) {
        let (found, report) =
            recover(&image.disk(), &options, start(1)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            found,
            all[..found.len()].iter().map(|(_, id)| *id).collect::<Vec<_>>(),
            "{}",
            image.explain()
        );
        let acknowledged = image.acknowledged().iter().max().copied().unwrap_or(0);
        assert!(report.end.get() >= acknowledged, "{} of {acknowledged}\n{}", report.end, image.explain());
        assert_eq!(found.last().map(|id| ends[id]), (!found.is_empty()).then_some(report.end));
        images += 1;
    }
    assert!(images > 200, "{images}");
}

#[test]
fn callbacks_come_once_and_not_before_their_sync() {
    let options = patient();
    let (disk, wal) = fresh(&options);
    let wal = Arc::new(wal);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for number in 0..50 {
        let (_, end) = append(&wal, (1, number), 200);
        let (log, disk, calls) = (Arc::downgrade(&wal), disk.clone(), Arc::clone(&seen));
        wal.on_durable(end, move |result| {
            result.expect("durable");
            assert!(log.upgrade().expect("open").is_lsn_durable(end));
            assert_synced(&disk);
            calls.lock().unwrap().push(number);
        });
        if number % 7 == 6 {
            wal.wait_durable(end).expect("durable");
            assert_eq!(seen.lock().unwrap().len(), number as usize + 1);
        }
    }
    wal.flush().expect("flush");
    assert_eq!(*seen.lock().unwrap(), (0..50).collect::<Vec<_>>());
    let at_once = Arc::clone(&seen);
    wal.on_durable(Lsn::ZERO, move |_| at_once.lock().unwrap().push(99));
    assert_eq!(seen.lock().unwrap().last(), Some(&99));
}

#[test]
fn tiny_buffers_make_everybody_wait_for_room_and_nobody_for_ever() {
    let options = WalOptions { buffer_bytes: 8 << 10, ..patient() };
    let (disk, wal) = fresh(&options);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let wal = &wal;
            scope.spawn(move || {
                let mut rng = Rng::new(thread.into());
                for number in 0..300 {
                    // Half of them never wait for durability: only room drives the log.
                    let (_, end) = append(wal, (thread, number), 8 + rng.below(3900) as usize);
                    if thread % 2 == 0 {
                        wal.wait_durable(end).expect("durable");
                    }
                }
            });
        }
    });
    wal.flush().expect("flush");
    assert!(wal.stats().reserve_waits > 0);
    drop(wal);
    let (found, _) = recover(&disk, &options, start(1)).expect("recover");
    assert_eq!(found.len(), 2400);
    for thread in 0..8 {
        let numbers: Vec<_> = found.iter().filter(|id| id.0 == thread).map(|id| id.1).collect();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    }
}
