//! Failure prevented: a budget that is moved while the store is in use and does not reach the memory of the process, one that loses what was
//! written meanwhile, or one that is lowered below what a tree needs and so leaves operations without frames.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagestone_btree::MIN_TREE_FRAMES;
use pagestone_page_format::PageError;
use pagestone_store::{Durability, Options, Store, StoreError, Tree};

const MIB: usize = 1 << 20;
const SMALL: usize = 8 * MIB;
const LARGE: usize = 64 * MIB;
const KEYS: u64 = 70_000;
/// Five to a leaf: 55 MiB of leaves.
const VALUE: usize = 750;
/// What buffers and the allocator of the process may come and go by.
const SLACK: usize = 12;

fn options() -> Options {
    Options {
        pool_bytes: SMALL,
        pool_bytes_max: LARGE,
        log_bytes: 64 << 20,
        segment_bytes: 8 << 20,
        durability: Durability::RELAXED,
        ..Options::default()
    }
}

/// A key's value in its given round: both stand in it.
fn value(key: u64, round: u64) -> Vec<u8> {
    let mut value = vec![key as u8; VALUE];
    value[..8].copy_from_slice(&key.to_le_bytes());
    value[8..16].copy_from_slice(&round.to_le_bytes());
    value
}

fn round_of(key: u64, value: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((value.len(), word(0)), (VALUE, key), "another key's value");
    word(8)
}

/// MiB of memory that the process holds now; none where the system does not say it as Linux does.
fn resident_mib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? >> 10)
}

/// Waits for what comes within seconds; a machine that is busy may take longer.
fn until(come: impl Fn(usize) -> bool, what: &str) {
    let began = Instant::now();
    loop {
        let now = resident_mib().expect("it was there before");
        if come(now) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: {now} MiB");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads keys everywhere, and raises the round of its own ones; gives the rounds that it wrote last.
fn load(tree: &Tree, thread: u64, stop: &AtomicBool) -> Vec<(u64, u64)> {
    let mut rounds: Vec<(u64, u64)> =
        (0..KEYS).skip(thread as usize).step_by(64).map(|key| (key, 0)).collect();
    let mut next = thread + 1;
    for at in (0..rounds.len()).cycle() {
        if stop.load(Ordering::Relaxed) {
            return rounds;
        }
        for _ in 0..8 {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (next >> 33) % KEYS;
            round_of(key, &tree.get(&key.to_be_bytes()).expect("a read").expect("every key is there"));
        }
        let (key, round) = &mut rounds[at];
        *round += 1;
        tree.put(&key.to_be_bytes(), &value(*key, *round)).expect("a write");
    }
    unreachable!("a cycle ends with the load");
}

#[test]
fn memory_of_the_process_goes_up_and_down_with_the_budget_of_a_store() {
    let Some(_) = resident_mib() else {
        println!(
            "NOT TESTED: that memory follows the budget of a store. This system has no /proc/self/status with VmRSS."
        );
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path().join("store"), options()).expect("a store");
    let tree = store.default_tree();
    for key in 0..KEYS {
        tree.put(&key.to_be_bytes(), &value(key, 0)).expect("a write");
    }
    assert!(
        store.stats().expect("figures").data_pages * 4096 > 48 * MIB as u64,
        "more than the small budget holds"
    );
    let stop = &AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn({
                    let tree = &tree;
                    move || load(tree, thread, stop)
                })
            })
            .collect();
        let moved = catch_unwind(AssertUnwindSafe(|| {
            let small = resident_mib().expect("it was there before");
            for _ in 0..2 {
                store.set_pool_bytes(LARGE).expect("it was reserved");
                until(|now| now >= small + 32, "the budget was raised by 56 MiB");
                store.set_pool_bytes(SMALL).expect("operations are short");
                until(|now| now <= small + SLACK, "the budget was lowered again");
                let pool = store.stats().expect("figures").pool;
                assert_eq!(pool.frames as usize, SMALL / 4096);
                assert!(pool.resident <= pool.frames);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let written: Vec<_> =
            threads.into_iter().flat_map(|thread| thread.join().expect("no error")).collect();
        moved.unwrap_or_else(|panic| resume_unwind(panic));
        written
    });
    assert!(written.iter().any(|(_, round)| *round > 0), "nothing was written under the moves");
    for (key, round) in written {
        let found = tree.get(&key.to_be_bytes()).expect("a read").expect("every key is there");
        assert_eq!(round_of(key, &found), round, "a write is lost");
    }
    assert!(store.verify().expect("it can be looked at").is_sound());
}

#[test]
fn a_budget_that_a_tree_cannot_work_with_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let least = MIN_TREE_FRAMES * 4096;
    let store = Store::open(dir.path().join("store"), options()).expect("a store");
    for (bytes, frames) in [(0, 0), (least - 1, MIN_TREE_FRAMES - 1), (LARGE + 4096, LARGE / 4096 + 1)] {
        match store.set_pool_bytes(bytes) {
            Err(StoreError::Page(PageError::BudgetRefused { frames: asked, least, most })) => {
                assert_eq!((asked, least, most), (frames, MIN_TREE_FRAMES, LARGE / 4096));
            }
            other => panic!("{bytes}: {other:?}"),
        }
        assert_eq!(store.stats().expect("figures").pool.frames as usize, SMALL / 4096, "nothing has moved");
    }
    // The least, for everything that pins most: splits, merges, batches, two at once.
    store.set_pool_bytes(least).expect("a tree works with it");
    let tree = &store.default_tree();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for key in (0..4000u64).skip(thread).step_by(2) {
                    tree.put(&key.to_be_bytes(), &value(key, 0)).expect("a write");
                }
                for key in (0..4000u64).skip(thread).step_by(2).filter(|key| key % 5 != 0) {
                    assert!(tree.remove(&key.to_be_bytes()).expect("a removal"));
                }
            });
        }
    });
    assert_eq!(tree.len().expect("a scan"), 800);
    store.close().expect("closed");
    assert!(matches!(store.set_pool_bytes(SMALL), Err(StoreError::Closed)));
}
