//! Prevents: a store that is opened with a smaller log than it had, closed or killed, and in which every writer then waits for room
//! that nobody makes, until it is told `LogFull`.

use std::path::Path;

use pagestone_store::{Background, Durability, Options, RecoveryStep, Store};

const KEYS: u64 = 2000;

fn options(log_bytes: u64, background: Background) -> Options {
    Options {
        pool_bytes: 16 << 20,
        log_bytes,
        segment_bytes: log_bytes / 8,
        durability: Durability::Relaxed { interval: std::time::Duration::from_secs(1000) },
        background,
        ..Options::default()
    }
}

/// Some mebibytes of log.
fn fill(store: &Store, round: u64) {
    let tree = store.default_tree();
    for step in 0..10 * KEYS {
        tree.put(&(step % KEYS).to_be_bytes(), &value(round, step)).expect("there is room");
        if step % 100 == 99 {
            store.tick().expect("a round of checkpoints");
        }
    }
}

fn value(round: u64, step: u64) -> Vec<u8> {
    [round.to_be_bytes(), step.to_be_bytes()].concat().repeat(16)
}

fn check(store: &Store, round: u64) {
    let tree = store.default_tree();
    for step in 9 * KEYS..10 * KEYS {
        let found = tree.get(&(step % KEYS).to_be_bytes()).expect("reads");
        assert_eq!(found, Some(value(round, step)), "round {round}, step {step}");
    }
    assert!(store.verify().expect("looked at").is_sound());
}

/// A log of its old budget is opened with an eighth of it, twice.
fn shrink(dir: &Path, closed: bool, background: Background) {
    let store = Store::open(dir, options(32 << 20, Background::Manual)).expect("made");
    fill(&store, 0);
    let used = store.stats().expect("counted").log.used;
    assert!(used > 4 << 20, "{used} bytes of log: the premise is gone");
    if closed {
        store.close().expect("closed");
    }
    drop(store);
    let store = Store::open(dir, options(4 << 20, background)).expect("opened");
    let relieved = store.open_report().took_by_step.iter().any(|(step, _)| *step == RecoveryStep::Checkpoint);
    assert_eq!(relieved, !closed, "{:?}", store.open_report());
    let used = store.stats().expect("counted").log.used;
    assert!(used <= 3 << 20, "{used} bytes of log: the first writer would be slowed down");
    check(&store, 0);
    fill(&store, 1);
    check(&store, 1);
    drop(store);
    let store = Store::open(dir, options(4 << 20, background)).expect("opened");
    check(&store, 1);
}

#[test]
fn after_it_was_closed() {
    for background in [Background::Manual, Background::Threads] {
        let dir = tempfile::tempdir().expect("a directory");
        shrink(&dir.path().join("store"), true, background);
    }
}

#[test]
fn after_it_was_killed() {
    for background in [Background::Manual, Background::Threads] {
        let dir = tempfile::tempdir().expect("a directory");
        shrink(&dir.path().join("store"), false, background);
    }
}
