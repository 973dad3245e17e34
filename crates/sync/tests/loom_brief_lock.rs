//! Prevents: two who have a brief lock at once, one who has it and sees half of what another did, and one who waits for it for ever; in any
//! interleaving of threads that take it for a moment and of one that holds it.
//!
//! The lock is the production type; in models of other crates a plain mutex stands for it.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-sync --test loom_brief_lock
//! ```
#![cfg(loom)]

use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::brief::BriefLock;
use pagestone_sync::checking::{DEADLOCK, model};
use pagestone_sync::{Arc, thread};

/// Either of two who have it at once finds the other there, or only what became of the count.
const TWO: &[&str] = &["two have the lock", "another has not seen"];

#[derive(Default)]
struct Locked {
    lock: BriefLock,
    inside: AtomicU64,
    /// Counted up by a load and a store, so that only the lock keeps a count from being lost.
    count: AtomicU64,
}

impl Locked {
    fn count_up(&self) {
        assert_eq!(self.inside.fetch_add(1, Ordering::Relaxed), 0, "two have the lock");
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    fn for_a_moment(&self) {
        self.lock.lock();
        self.count_up();
        self.lock.unlock();
    }

    fn for_long(&self) {
        let turn = self.lock.hold();
        self.count_up();
        self.lock.unlock();
        drop(turn);
    }
}

/// Each of these threads takes it once, and the last one twice.
fn all_count(threads: [fn(&Locked); 2], last: fn(&Locked)) {
    let locked = Arc::new(Locked::default());
    let others = threads.map(|work| {
        let locked = Arc::clone(&locked);
        thread::spawn(move || work(&locked))
    });
    last(&locked);
    last(&locked);
    for other in others {
        other.join().expect("no panic");
    }
    assert_eq!(locked.count.load(Ordering::Relaxed), 4, "what one did under the lock another has not seen");
}

#[test]
fn one_at_a_time_has_a_brief_lock_and_all_get_it() {
    model("BriefMutex", "one_at_a_time_has_a_brief_lock_and_all_get_it", 2)
        .catches("a brief lock is taken though another has it", TWO)
        .catches("who has waited for a brief lock believes what it saw", TWO)
        .catches("a brief lock is given up with no release", &["another has not seen"])
        .catches("who has a brief lock for a moment keeps the turn", &[DEADLOCK])
        .catches("a brief lock is not given up", &["exceeded maximum number of branches", DEADLOCK])
        .check(|| all_count([Locked::for_a_moment; 2], Locked::for_a_moment));
}

#[test]
fn who_meets_one_that_holds_a_brief_lock_gets_it_in_the_end() {
    model("BriefMutex", "who_meets_one_that_holds_a_brief_lock_gets_it_in_the_end", 2)
        .catches("who has waited for a brief lock believes what it saw", TWO)
        .catches("a brief lock is given up with no release", &["another has not seen"])
        .catches("a brief lock is not given up", &["exceeded maximum number of branches", DEADLOCK])
        .check(|| all_count([Locked::for_a_moment, Locked::for_long], Locked::for_a_moment));
}
