//! Two words under one latch: a reader that writes nothing never believes a half of a change.

use std::sync::atomic::{AtomicU64, Ordering};

use pagestone_hybrid_latch::HybridLatch;

fn main() {
    let latch = HybridLatch::new();
    let words = [AtomicU64::new(0), AtomicU64::new(0)];
    let mut believed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..=20_000 {
                let _exclusive = latch.lock_exclusive().expect("no panic");
                words.iter().for_each(|word| word.store(value, Ordering::Relaxed));
            }
        });
        while words[0].load(Ordering::Relaxed) < 20_000 || believed == 0 {
            let Ok(sampled) = latch.optimistic_or_restart() else { continue };
            let seen = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            if sampled.validate().is_ok() {
                assert_eq!(seen[0], seen[1], "a validated read is torn");
                believed += 1;
            }
        }
    });
    let shared = latch.lock_shared().expect("no panic");
    assert!(latch.try_lock_exclusive().is_err());
    let exclusive = shared.try_upgrade_to_exclusive().expect("the only one");
    let before = latch.version();
    drop(exclusive);
    assert_ne!(latch.version(), before);
}
