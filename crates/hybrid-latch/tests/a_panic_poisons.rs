//! P10, E7: a panic that leaves a latch held, or hands half a change to whoever comes next.
#![cfg(not(loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pagestone_hybrid_latch::{Conflict, HybridLatch, Poisoned, Tag};
use pagestone_sync::Arc;

fn panic_while_exclusive(latch: &HybridLatch) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _exclusive = latch.lock_exclusive().expect("free");
        std::panic::resume_unwind(Box::new("planted")); // a panic without the message on stderr
    }));
    assert!(outcome.is_err());
}

#[test]
fn everybody_after_it_is_refused() {
    let latch = HybridLatch::new();
    latch.set_tag(Tag::A);
    let sampled = latch.optimistic_or_restart().expect("free");
    panic_while_exclusive(&latch);
    assert!(latch.is_poisoned() && !latch.is_exclusive());
    assert_eq!(sampled.validate(), Err(Conflict));
    assert_eq!(sampled.upgrade_to_shared().err(), Some(Conflict));
    assert_eq!(sampled.upgrade_to_exclusive().err(), Some(Conflict));
    assert_eq!(latch.optimistic_or_restart().err(), Some(Conflict));
    assert_eq!(latch.optimistic_spin().err(), Some(Poisoned));
    assert_eq!(latch.lock_shared().err(), Some(Poisoned));
    assert_eq!(latch.lock_exclusive().err(), Some(Poisoned));
    assert_eq!(latch.try_lock_shared().err(), Some(Conflict));
    assert_eq!(latch.try_lock_exclusive().err(), Some(Conflict));
    assert_eq!(latch.version(), 1, "half a change is a change");
    assert!(latch.tag(Tag::A));
}

#[test]
fn everybody_asleep_before_it_is_woken_and_refused() {
    let latch = Arc::new(HybridLatch::new());
    let (done, woken) = mpsc::channel();
    let waits: [fn(&HybridLatch) -> Option<Poisoned>; 3] = [
        |latch| latch.lock_shared().err(),
        |latch| latch.lock_exclusive().err(),
        |latch| latch.optimistic_spin().err(),
    ];
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _exclusive = latch.lock_exclusive().expect("free");
        for wait in waits {
            let (latch, done) = (Arc::clone(&latch), done.clone());
            thread::spawn(move || done.send(wait(&latch)).expect("the test waits"));
        }
        thread::sleep(Duration::from_millis(30));
        std::panic::resume_unwind(Box::new("planted"));
    }));
    for _ in 0..3 {
        assert_eq!(woken.recv_timeout(Duration::from_secs(20)), Ok(Some(Poisoned)));
    }
}

#[test]
fn shared_and_optimistic_holders_poison_nothing() {
    let latch = HybridLatch::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _shared = latch.lock_shared().expect("free");
        let _sampled = latch.optimistic_or_restart().expect("shared");
        std::panic::resume_unwind(Box::new("planted"));
    }));
    assert!(outcome.is_err());
    assert!(!latch.is_poisoned());
    assert!(latch.try_lock_exclusive().is_ok(), "a latch is left held");
}

#[test]
fn a_latch_taken_while_unwinding_is_not_poisoned_by_it() {
    struct Tidy<'a>(&'a HybridLatch);
    impl Drop for Tidy<'_> {
        fn drop(&mut self) {
            drop(self.0.lock_exclusive().expect("free"));
        }
    }
    let latch = HybridLatch::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _tidy = Tidy(&latch);
        std::panic::resume_unwind(Box::new("planted"));
    }));
    assert!(outcome.is_err());
    assert!(!latch.is_poisoned());
    assert_eq!(latch.version(), 1);
}

#[test]
fn downgrade_and_unlock_unchanged_before_the_panic_poison_nothing() {
    let latch = HybridLatch::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        latch.lock_exclusive().expect("free").unlock_unchanged();
        let _shared = latch.lock_exclusive().expect("free").downgrade();
        std::panic::resume_unwind(Box::new("planted"));
    }));
    assert!(outcome.is_err());
    assert!(!latch.is_poisoned());
    assert_eq!(latch.version(), 1);
    assert!(latch.try_lock_exclusive().is_ok(), "a latch is left held");
}
