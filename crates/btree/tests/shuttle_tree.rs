//! Prevents: a look-up, a scan or a change that comes between the steps of a split, a merge, an eviction or the second life of a page, and
//! loses a key, finds one twice, or meets what is no business of its tree (P7, B1 to B3).
//!
//! Tree, mini-transactions, pool and log are the production types; replaced are the log's disk (`pagestone_wal::model`) and the arena.
//! Of all interleavings some are tried, at random; each model fails if what it proves is taken out of the code.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg shuttle --cfg pagestone_faults" cargo test --release -p pagestone-btree --test shuttle_tree
//! ```
#![cfg(shuttle)]

use std::sync::Arc;

use pagestone_allocator::{LoggedAllocator, MapSource};
use pagestone_btree::BTree;
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{MemoryStore, PageSize, Poison};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::checking::model;
use pagestone_sync::thread;
use pagestone_wal::model::ModelLog;

/// A leaf holds four of these.
const VALUE: usize = 400;
const PAGE: usize = 2048;

/// What comes of believing a page that has become something else: it is none of this tree's, its bytes make no node, or an answer is wrong.
const NO_BUSINESS: &[&str] = &[
    "WrongNode {",
    "Malformed {",
    "is lost",
    "a scan missed a key",
    "out of order or twice",
    "the value of another key",
];

fn trees(frames: usize, count: u32) -> (Arc<LoggedPool>, Vec<BTree>) {
    let size = PageSize::new(PAGE).expect("a page size");
    let (_, log) = ModelLog { buffer_bytes: 1 << 18, ..ModelLog::LARGE }.begin();
    let log = Arc::new(log);
    let options = PoolOptions { log: Some(log.clone()), ..PoolOptions::new(frames) };
    let pool = BufferPool::with_options(Box::new(MemoryStore::new(size)), options).expect("a pool");
    let allocator = LoggedAllocator::under_log(size, MAX_SWIP_PAGE);
    let env = LoggedPool::new(Arc::new(pool), log, allocator, Poison::new());
    env.grow(1).expect("room");
    env.format_region(0).expect("the space map");
    let env = Arc::new(env);
    let trees = (1..=count).map(|number| BTree::create(env.clone(), number).expect("a tree")).collect();
    (env, trees)
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn put(tree: &BTree, number: u64) {
    let value = vec![number as u8 ^ tree.tree_id() as u8; VALUE];
    tree.put(&key(number), &value).expect("put");
}

/// It is there, and what was put.
fn find(tree: &BTree, number: u64) {
    let found = tree.get(&key(number)).expect("get").unwrap_or_else(|| panic!("key {number} is lost"));
    assert_eq!(found, vec![number as u8 ^ tree.tree_id() as u8; VALUE], "the value of another key");
}

/// Every stable key once, in order, in either direction.
fn scan(tree: &BTree, stable: &[u64], backward: bool) {
    let numbers = |entry: Result<(Vec<u8>, Vec<u8>), _>| {
        u64::from_be_bytes(entry.expect("an entry").0.try_into().expect("eight bytes"))
    };
    let range = tree.range::<&[u8]>(..);
    let mut seen: Vec<u64> =
        if backward { range.rev().map(numbers).collect() } else { range.map(numbers).collect() };
    if backward {
        seen.reverse();
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice: {seen:?}");
    seen.retain(|number| stable.contains(number));
    assert_eq!(seen, stable, "a scan missed a key");
}

fn run(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = threads.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn splits_merges_and_searches() {
    model("B1: a key is found whatever splits and merges", "splits_merges_and_searches", 600)
        .catches("a look-up believes a leaf that it did not validate", NO_BUSINESS)
        .check(|| {
            let (_, mut trees) = trees(32, 1);
            let tree = trees.remove(0);
            for number in [10, 20, 30, 40, 50, 60, 70, 80] {
                put(&tree, number);
            }
            let [splits, merges, searches] = [tree.clone(), tree.clone(), tree.clone()];
            run(vec![
                Box::new(move || (11..16).for_each(|number| put(&splits, number))),
                Box::new(move || {
                    for number in [40, 50, 60] {
                        assert!(merges.remove(&key(number)).expect("remove").is_some());
                    }
                }),
                Box::new(move || {
                    for number in [10, 20, 30, 70, 80] {
                        find(&searches, number);
                    }
                    scan(&searches, &[10, 20, 30, 70, 80], false);
                    scan(&searches, &[10, 20, 30, 70, 80], true);
                }),
            ]);
            assert!(tree.stats().expect("reads").splits > 1);
            scan(&tree, &[10, 11, 12, 13, 14, 15, 20, 30, 70, 80], false);
            assert_eq!(tree.shape().expect("reads").problems, 0);
        });
}

#[test]
fn evictions_and_splits() {
    model("P7: a key is found whatever is evicted while nodes split", "evictions_and_splits", 100)
        .catches("a sampled frame is not asked again for its page", NO_BUSINESS)
        .check(|| {
            let (env, mut trees) = trees(32, 1);
            let tree = trees.remove(0);
            let stable: Vec<u64> = (0..160).map(|number| 10 * number).collect();
            stable.iter().for_each(|number| put(&tree, *number));
            let [splits, searches] = [tree.clone(), tree.clone()];
            let there = stable.clone();
            run(vec![
                Box::new(move || (101..104).for_each(|number| put(&splits, number))),
                Box::new(move || {
                    for number in [100, 1590, 110, 0] {
                        find(&searches, number);
                    }
                    scan(&searches, &there, true);
                }),
            ]);
            assert!(tree.stats().expect("reads").splits > 10 && env.pool().stats().evictions > 10);
            let stable: Vec<u64> =
                (0..1600).filter(|number| number % 10 == 0 || (101..104).contains(number)).collect();
            scan(&tree, &stable, false);
            assert_eq!(tree.shape().expect("reads").problems, 0);
        });
}

#[test]
fn a_page_of_one_tree_becomes_one_of_another() {
    model(
        "B3, P7: no reader believes a page that was freed",
        "a_page_of_one_tree_becomes_one_of_another",
        1000,
    )
    .catches("a child is believed without its holder", NO_BUSINESS)
    .check(|| {
        let (_, trees) = trees(32, 2);
        let [shrinks, grows] = [trees[0].clone(), trees[1].clone()];
        for number in 0..12 {
            put(&shrinks, number);
        }
        put(&grows, 0);
        let (reads, also) = (shrinks.clone(), grows.clone());
        run(vec![
            Box::new(move || {
                for number in 1..11 {
                    assert!(shrinks.remove(&key(number)).expect("remove").is_some());
                }
            }),
            Box::new(move || (1..10).for_each(|number| put(&grows, number))),
            Box::new(move || {
                for _ in 0..3 {
                    find(&reads, 11);
                    find(&reads, 0);
                }
                find(&also, 0);
                scan(&reads, &[0, 11], true);
            }),
        ]);
        assert_eq!(trees[1].len().expect("len"), 10);
        assert!(trees.iter().all(|tree| tree.shape().expect("reads").problems == 0));
    });
}
