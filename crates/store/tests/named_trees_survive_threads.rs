//! Prevents: an entry of one tree read through a handle of another, a name that two trees have, a panic or a hang, while threads
//! create, use, rename and drop the same few trees.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_btree::TreeError;
use pagestone_store::{Background, Durability, Options, Store, StoreError, StoreResult, Tree};
use pagestone_testkit::{Rng, SimDisk};
use support::space;

const THREADS: u64 = 8;
/// Turns of each thread at least, however slow the machine is.
const LEAST: u64 = 300;

fn options(frames: usize) -> Options {
    Options {
        pool_bytes: frames * 4096,
        durability: Durability::RELAXED,
        background: Background::Threads,
        log_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        ..support::small()
    }
}

/// Puts, reads and scans; whatever a tree gives carries its own id.
fn use_tree(tree: &Tree, random: &mut Rng) -> StoreResult<u64> {
    let id = tree.id().to_le_bytes();
    let mut entries = 0;
    for _ in 0..random.below(40) {
        let len = if random.below(4) == 0 { 400 } else { 8 };
        let key = format!("{:0>len$}", random.below(300)).into_bytes();
        match random.below(10) {
            0..6 => drop(tree.put(&key, &[&id[..], &vec![7; random.below(300) as usize]].concat())?),
            6 => drop(tree.remove(&key)?),
            7 | 8 => {
                if let Some(value) = tree.get(&key)? {
                    assert_eq!(value[..4], id, "an entry of another tree");
                }
            }
            _ => {
                let mut last: Option<Vec<u8>> = None;
                let all = tree.range::<&[u8]>(..);
                let mut check = |entry: Result<(Vec<u8>, Vec<u8>), TreeError>, forward: bool| {
                    let (key, value) = entry.map_err(StoreError::from)?;
                    assert_eq!(value[..4], id, "an entry of another tree");
                    assert!(last.as_ref().is_none_or(|last| (*last < key) == forward), "out of order");
                    last = Some(key);
                    entries += 1;
                    StoreResult::Ok(())
                };
                if random.below(2) == 0 {
                    all.into_iter().try_for_each(|entry| check(entry, true))?;
                } else {
                    all.rev().try_for_each(|entry| check(entry, false))?;
                }
            }
        }
    }
    Ok(entries)
}

fn hammer(millis: u64, frames: usize) {
    let disk = SimDisk::new(7);
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options(frames)).expect("opens");
    let stop = Instant::now() + Duration::from_millis(millis);
    let (used, dropped, renamed, told) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, used, dropped, renamed, told) = (&store, &used, &dropped, &renamed, &told);
            scope.spawn(move || {
                let mut random = Rng::new(thread + 1);
                for _ in (0..).take_while(|done| *done < LEAST || Instant::now() < stop) {
                    let name = |random: &mut Rng| [b't', random.below(5) as u8];
                    // Some names are only renamed to and dropped.
                    let any = |random: &mut Rng| [b't', random.below(9) as u8];
                    match random.below(40) {
                        0..2 => match store.drop_tree(any(&mut random)) {
                            Ok(()) => drop(dropped.fetch_add(1, Ordering::Relaxed)),
                            Err(StoreError::TreeNotFound { .. }) => {}
                            Err(error) => panic!("{error}"),
                        },
                        2..4 => match store.rename_tree(any(&mut random), any(&mut random)) {
                            Ok(()) => drop(renamed.fetch_add(1, Ordering::Relaxed)),
                            Err(StoreError::TreeNotFound { .. } | StoreError::TreeExists { .. }) => {}
                            Err(error) => panic!("{error}"),
                        },
                        4 if random.below(10) == 0 => {
                            let report = store.verify().expect("verified");
                            assert!(report.is_sound(), "{:#?}", report.findings);
                        }
                        4 => {
                            let trees = store.trees().expect("trees");
                            assert!(trees.is_sorted_by(|a, b| a.name < b.name));
                            let mut ids: Vec<u32> = trees.iter().map(|tree| tree.id).collect();
                            ids.sort_unstable();
                            ids.dedup();
                            assert_eq!(ids.len(), trees.len(), "two names of one tree");
                        }
                        _ => {
                            let tree = store.tree(name(&mut random)).expect("tree");
                            match use_tree(&tree, &mut random) {
                                Ok(entries) => drop(used.fetch_add(entries, Ordering::Relaxed)),
                                Err(StoreError::TreeDropped) => drop(told.fetch_add(1, Ordering::Relaxed)),
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                }
            });
        }
    });
    let counts = [used, dropped, renamed, told].map(AtomicU64::into_inner);
    assert!(counts.iter().all(|count| *count > 0), "used, dropped, renamed, told: {counts:?}");
    let trees = store.trees().expect("trees");
    let stats = store.stats().expect("stats");
    assert_eq!((stats.unfinished_drops, stats.failed_drops), (Some(0), 0));
    store.close().expect("closes");
    space::check(&disk, &trees);
}

#[test]
fn eight_threads_on_64_frames() {
    hammer(3000, 64);
}

#[test]
fn eight_threads_on_the_least_pool() {
    hammer(2000, 32);
}

/// All threads ask for a name at once: one makes it, all have it.
#[test]
fn one_name_asked_for_at_once_is_one_tree() {
    let disk = SimDisk::new(7);
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options(64)).expect("opens");
    for round in 0..200u64 {
        let ids: Vec<u32> = std::thread::scope(|scope| {
            let ask = |thread: u64| {
                let tree = store.tree(round.to_le_bytes()).expect("tree");
                tree.put(&thread.to_le_bytes(), b"here").expect("put");
                tree.id()
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || ask(thread))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(store.tree(round.to_le_bytes()).expect("tree").len().expect("len"), 4);
    }
    let trees = store.trees().expect("trees");
    assert_eq!(trees.len(), 200);
    store.close().expect("closes");
    space::check(&disk, &trees);
}
