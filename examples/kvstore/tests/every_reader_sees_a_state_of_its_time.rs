//! Threads that read what others write, split and evict must never see a value that nobody put, an older one than they saw
//! before, or a gap where a key is (R3).
//!
//! This is the quick form; `cargo xtask soak` runs the long one, examples/soak_histories.rs.

#[path = "support/histories.rs"]
mod histories;

use std::time::Duration;

use histories::Histories;
use kvstore::Durability;

fn eight_threads(durability: Durability, time: Duration) {
    let temporary = tempfile::tempdir().expect("a directory");
    let figures = Histories {
        dir: temporary.path().join("store"),
        seed: 8,
        threads: 8,
        keys: 500,
        frames: 64,
        durability,
        time,
    }
    .run();
    println!("{}", figures.to_line());
    assert!(figures.gets > 0 && figures.scanned > 0 && figures.puts > 0 && figures.dels > 0, "{figures:?}");
    assert!(figures.evictions > 0 && figures.splits > 0, "{figures:?}");
}

#[test]
fn eight_threads_on_64_frames_relaxed() {
    eight_threads(Durability::RELAXED, Duration::from_secs(3));
}

#[test]
fn eight_threads_on_64_frames_strict() {
    eight_threads(Durability::Strict, Duration::from_secs(2));
}
