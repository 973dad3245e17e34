//! Prevents: a contended latch that nobody can find, and counting that costs those who need not wait.
#![cfg(not(loom))]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pagestone_hybrid_latch::{Contention, Counting, Exclusive, HybridLatch, Waits};

/// Whether anything is counted in this build.
fn counts() -> bool {
    size_of::<Contention>() > 0
}

/// Passes on the line that called it.
#[track_caller]
fn take<'a>(latch: Counting<'a>) -> Exclusive<'a> {
    latch.lock_exclusive().expect("no panic")
}

/// Lets `wait` run into the latch while it is held exclusively, once: who came too late, on a busy machine, counted nothing and tries
/// again.
fn run_into(latch: &HybridLatch, contention: &Contention, wait: impl Fn(Counting<'_>) + Sync) {
    let before = all(contention);
    loop {
        let held = latch.lock_exclusive().expect("free");
        let (about, waiting) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                about.send(()).expect("the test waits");
                wait(latch.counting(contention));
            });
            waiting.recv().expect("sent");
            thread::sleep(Duration::from_millis(20));
            drop(held);
        });
        if !counts() || all(contention) > before {
            return;
        }
    }
}

fn all(contention: &Contention) -> u64 {
    let Waits { optimistic, shared, exclusive, .. } = contention.waits();
    optimistic + shared + exclusive
}

#[test]
fn every_kind_of_wait_is_counted_at_its_line() {
    let (latch, contention) = (HybridLatch::new(), Contention::new());
    run_into(&latch, &contention, |latch| drop(latch.lock_shared().expect("no panic")));
    run_into(&latch, &contention, |latch| assert!(latch.optimistic_spin().is_ok()));
    let line = line!() + 1;
    run_into(&latch, &contention, |latch| drop(take(latch)));
    let waits = contention.waits();
    let sites = contention.top_sites(10);
    if !counts() {
        assert_eq!((waits, sites), (Waits::default(), vec![]));
        return;
    }
    assert_eq!((waits.optimistic, waits.shared, waits.exclusive), (1, 1, 1));
    assert_eq!(sites.len(), 3);
    assert!(sites.is_sorted_by(|long, short| long.nanoseconds >= short.nanoseconds));
    assert_eq!(sites.iter().map(|site| site.nanoseconds).sum::<u64>(), waits.nanoseconds);
    assert!(sites.iter().all(|site| site.waits == 1 && site.nanoseconds > 0));
    let named: Vec<String> = sites.iter().map(ToString::to_string).collect();
    let exclusive = format!("waits_are_counted_where_they_are.rs:{line} exclusive");
    assert!(named.iter().any(|name| name.ends_with(&exclusive)), "{named:?}");
    assert_eq!(contention.top_sites(1), sites[..1]);
}

#[test]
fn who_finds_the_latch_free_counts_nothing() {
    let (latch, contention) = (HybridLatch::new(), Contention::new());
    for _ in 0..100 {
        drop(latch.counting(&contention).lock_exclusive().expect("free"));
        drop(latch.counting(&contention).lock_shared().expect("free"));
        let _sampled = latch.counting(&contention).optimistic_spin().expect("free");
    }
    assert_eq!((contention.waits(), contention.top_sites(10)), (Waits::default(), vec![]));
}

#[test]
fn one_line_is_one_site_however_often_it_waits() {
    let (latch, contention) = (HybridLatch::new(), Contention::new());
    for _ in 0..3 {
        run_into(&latch, &contention, |latch| drop(take(latch)));
    }
    let sites = contention.top_sites(10);
    if counts() {
        assert_eq!((sites.len(), sites[0].waits, contention.waits().exclusive), (1, 3, 3));
    }
}
