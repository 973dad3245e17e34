//! A lost wake-up, or a writer that a stream of sharers keeps out.
#![cfg(not(loom))]

use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pagestone_hybrid_latch::HybridLatch;
use pagestone_sync::Arc;
use pagestone_sync::atomic::{AtomicBool, Ordering};

/// Long enough for every waiter to have gone to sleep.
const ASLEEP: Duration = Duration::from_millis(30);
/// Long enough for a machine that does much else.
const FOR_EVER: Duration = Duration::from_secs(20);

#[test]
fn all_kinds_of_waiters_are_woken() {
    let latch = Arc::new(HybridLatch::new());
    let (done, woken) = mpsc::channel();
    let exclusive = latch.lock_exclusive().expect("free");
    let waits: [fn(&HybridLatch); 3] = [
        |latch| drop(latch.lock_shared().expect("no panic")),
        |latch| drop(latch.lock_exclusive().expect("no panic")),
        |latch| latch.optimistic_spin().map(drop).expect("no panic"),
    ];
    for wait in waits.into_iter().cycle().take(9) {
        let (latch, done) = (Arc::clone(&latch), done.clone());
        thread::spawn(move || {
            wait(&latch);
            done.send(()).expect("the test waits");
        });
    }
    thread::sleep(ASLEEP);
    assert!(woken.try_recv().is_err(), "somebody passed an exclusive latch");
    drop(exclusive);
    for _ in 0..9 {
        woken.recv_timeout(FOR_EVER).expect("a wake-up is lost");
    }
    assert!(latch.try_lock_exclusive().is_ok());
}

#[test]
fn a_downgrade_wakes_sharers_and_the_last_share_wakes_writers() {
    let latch = Arc::new(HybridLatch::new());
    let (done, woken) = mpsc::channel();
    let exclusive = latch.lock_exclusive().expect("free");
    for kind in ["sharer", "writer"] {
        let (latch, done) = (Arc::clone(&latch), done.clone());
        thread::spawn(move || {
            match kind {
                "sharer" => drop(latch.lock_shared().expect("no panic")),
                _ => drop(latch.lock_exclusive().expect("no panic")),
            }
            done.send(kind).expect("the test waits");
        });
    }
    thread::sleep(ASLEEP);
    let shared = exclusive.downgrade();
    assert_eq!(woken.recv_timeout(FOR_EVER), Ok("sharer"));
    thread::sleep(ASLEEP);
    assert!(woken.try_recv().is_err(), "a writer passed a share");
    drop(shared);
    assert_eq!(woken.recv_timeout(FOR_EVER), Ok("writer"));
}

#[test]
fn many_short_waits_lose_no_wake_up() {
    const THREADS: usize = 6;
    const TURNS: u64 = 2_000;
    let latch = Arc::new(HybridLatch::new());
    let (done, finished) = mpsc::channel();
    for _ in 0..THREADS {
        let (latch, done) = (Arc::clone(&latch), done.clone());
        thread::spawn(move || {
            for turn in 0..TURNS {
                if turn % 3 == 0 {
                    let _shared = latch.lock_shared().expect("no panic");
                    thread::yield_now(); // so that others run into it
                } else {
                    let _exclusive = latch.lock_exclusive().expect("no panic");
                    thread::yield_now();
                }
            }
            done.send(()).expect("the test waits");
        });
    }
    for _ in 0..THREADS {
        finished.recv_timeout(FOR_EVER).expect("a wake-up is lost");
    }
}

#[test]
fn a_stream_of_sharers_lets_writers_in() {
    const SHARERS: usize = 4;
    const WRITES: u64 = 200;
    let latch = HybridLatch::new();
    let (stop, started) = (AtomicBool::new(false), Barrier::new(SHARERS + 1));
    let in_time = thread::scope(|scope| {
        for _ in 0..SHARERS {
            scope.spawn(|| {
                started.wait();
                // Each holds a share nearly all the time, so that together they leave hardly a gap.
                while !stop.load(Ordering::Relaxed) {
                    let _shared = latch.lock_shared().expect("no panic");
                    (0..500).for_each(|_| std::hint::spin_loop());
                }
            });
        }
        started.wait();
        let start = Instant::now();
        let in_time = (0..WRITES).all(|_| {
            drop(latch.lock_exclusive().expect("no panic"));
            start.elapsed() < FOR_EVER
        });
        stop.store(true, Ordering::Relaxed);
        in_time
    });
    assert!(in_time, "sharers kept a writer out");
    assert_eq!(latch.version(), WRITES);
}

#[test]
fn two_thousand_and_forty_seven_share_and_the_next_waits() {
    let latch = Arc::new(HybridLatch::new());
    let mut shares: Vec<_> = (0..2047).map(|_| latch.lock_shared().expect("room")).collect();
    assert!(latch.try_lock_shared().is_err());
    let (done, woken) = mpsc::channel();
    let waiter = Arc::clone(&latch);
    thread::spawn(move || {
        drop(waiter.lock_shared().expect("no panic"));
        done.send(()).expect("the test waits");
    });
    thread::sleep(ASLEEP);
    assert!(woken.try_recv().is_err(), "the count overflowed");
    shares.pop();
    woken.recv_timeout(FOR_EVER).expect("a wake-up is lost");
    drop(shares);
    assert_eq!(latch.version(), 0, "shares are no changes");
    assert!(latch.try_lock_exclusive().is_ok());
}

#[test]
fn an_upgrade_beside_sharers_gives_up() {
    let latch = HybridLatch::new();
    let sampled = latch.optimistic_or_restart().expect("free");
    let shared = latch.lock_shared().expect("free");
    assert!(sampled.try_upgrade_to_exclusive().is_err() && sampled.upgrade_to_exclusive().is_err());
    drop(sampled.try_upgrade_to_shared().expect("the same version"));
    drop(sampled.upgrade_to_shared().expect("the same version"));
    assert!(sampled.validate().is_ok(), "shares are no changes");
    drop(shared);
    drop(sampled.try_upgrade_to_exclusive().expect("nobody shares it"));
    assert!(sampled.upgrade_to_exclusive().is_err() && sampled.upgrade_to_shared().is_err());
    assert!(sampled.try_upgrade_to_shared().is_err() && latch.try_lock_exclusive().is_ok());
}
