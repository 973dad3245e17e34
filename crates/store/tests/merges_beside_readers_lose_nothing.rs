//! Prevents: a reader that believes a page which was merged away and is another node by now; a scan that misses a key, or gives it
//! twice, because its leaf was merged meanwhile; a deadlock of a merge with splits, scans and evictions; a page that leaks between
//! them; a verification that takes a merge for damage.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_btree::TreeStats;
use pagestone_page_format::DEFAULT_PAGE_SIZE;
use pagestone_store::{AutoCompact, Background, Durability, Options, Store, Tree};
use pagestone_testkit::{Rng, SimDisk};
use support::census::Census;

/// Keys that are there from the beginning to the end.
const STABLE: u64 = 120;
/// Keys between two of them that come and go.
const BETWEEN: u64 = 60;
/// Turns of a writer, each of a dozen splits and merges, and of a reader, at least, however slow the machine is.
const WRITES_LEAST: u64 = 8;
const READS_LEAST: u64 = 300;

fn stable(number: u64) -> Vec<u8> {
    format!("/srv/{number:05}").into_bytes()
}

/// `filler` bytes that neighbours share: with many, their separators are as long, and inner nodes split and merge too.
fn passing(number: u64, thread: u64, index: u64, filler: usize) -> Vec<u8> {
    format!("/srv/{number:05}/{}{thread}/{index:03}", "-".repeat(filler)).into_bytes()
}

fn value(key: &[u8]) -> Vec<u8> {
    [key, &[key[key.len() - 1]; 150]].concat()
}

/// Fills a stretch of keys and empties it again, in one direction or the other: leaves split and merge all the time.
fn come_and_go(tree: &Tree, thread: u64, filler: usize, random: &mut Rng) {
    let from = random.below(STABLE - 4);
    for number in from..from + 4 {
        for index in 0..BETWEEN {
            let key = passing(number, thread, index, filler);
            assert!(!tree.put(&key, &value(&key)).expect("put").replaced, "a key that was removed is there");
        }
    }
    let mut all: Vec<_> = (from..from + 4)
        .flat_map(|number| (0..BETWEEN).map(move |index| passing(number, thread, index, filler)))
        .collect();
    match random.below(3) {
        0 => all.reverse(),
        1 => random.shuffle(&mut all),
        _ => {}
    }
    for key in all {
        assert_eq!(tree.get(&key).expect("get").as_ref(), Some(&value(&key)), "a key was lost");
        assert!(tree.remove(&key).expect("remove"), "a key was lost");
    }
}

fn scan(tree: &Tree, random: &mut Rng) {
    let from = random.below(STABLE);
    let range = tree.range(stable(from)..);
    let mut seen: Vec<_> = if random.below(2) == 0 {
        range.collect::<Result<_, _>>().expect("scan")
    } else {
        range.rev().collect::<Result<_, _>>().expect("scan")
    };
    if seen.first() > seen.last() {
        seen.reverse();
    }
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order or twice");
    assert!(seen.iter().all(|(key, found)| *found == value(key)), "the value of another key");
    let kept = seen.iter().filter(|(key, _)| key.len() == stable(0).len()).count() as u64;
    assert_eq!(kept, STABLE - from, "a scan that missed a key");
}

fn churn(millis: u64, frames: usize, filler: usize) -> TreeStats {
    let disk = SimDisk::new(11);
    let options = Options {
        pool_bytes: frames * 4096,
        durability: Durability::RELAXED,
        background: Background::Threads,
        auto_compact: AutoCompact::Off, // the census is of one moment
        log_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        ..support::small()
    };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options).expect("opens");
    for number in 0..STABLE {
        store.default_tree().put(&stable(number), &value(&stable(number))).expect("put");
    }
    let (ended, scans, gets) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let stop = Instant::now() + Duration::from_millis(millis);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let tree = store.default_tree();
                scope.spawn(move || {
                    let mut random = Rng::new(thread + 1);
                    for _ in (0..).take_while(|done| *done < WRITES_LEAST || Instant::now() < stop) {
                        come_and_go(&tree, thread, filler, &mut random);
                    }
                })
            })
            .collect();
        for thread in 0..4 {
            let (tree, ended, scans, gets) = (store.default_tree(), &ended, &scans, &gets);
            scope.spawn(move || {
                let mut random = Rng::new(100 + thread);
                for _ in (0..).take_while(|done| *done < READS_LEAST || !ended.load(Ordering::Relaxed)) {
                    if random.below(8) == 0 {
                        scan(&tree, &mut random);
                        scans.fetch_add(1, Ordering::Relaxed);
                    }
                    let key = stable(random.below(STABLE));
                    assert_eq!(tree.get(&key).expect("get"), Some(value(&key)), "a key was lost");
                    gets.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (verifier, ended) = (store.clone(), &ended);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let report = verifier.verify().expect("verify");
                assert!(report.is_sound(), "nothing is wrong: {:?}", report.findings);
            }
        });
        // A panic of a writer ends the readers too.
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a writer panicked");
    });
    let stats = store.stats().expect("stats");
    assert!(stats.tree.merges > 200 && stats.tree.splits > 200, "{stats:?}");
    assert!(scans.load(Ordering::Relaxed) > 20 && gets.load(Ordering::Relaxed) > 1000);
    assert!(stats.pool.evictions > 500, "the pool was too large: {stats:?}");
    assert_eq!(stats.tree.merges_given_up, 0, "{stats:?}");
    let census = Census::of(&store, &disk, DEFAULT_PAGE_SIZE);
    assert_eq!(store.default_tree().len().expect("len"), STABLE);
    // What threads got in each other's way of merging is little.
    assert!(census.nodes.len() < 60, "{census:?}");
    store.close().expect("close");
    stats.tree
}

#[test]
fn on_64_frames() {
    churn(3000, 64, 0);
}

#[test]
fn on_the_least_pool() {
    churn(2000, 32, 0);
}

#[test]
fn with_inner_nodes_and_roots_that_come_and_go_too() {
    let stats = churn(3000, 64, 300);
    assert!(stats.shrinks > 0, "{stats:?}");
}
