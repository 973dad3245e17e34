//! Prevents: two batches over the same leaves of two trees that wait for each other, an update that one of them loses, and a batch
//! of which a reader of single keys sees a part.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_btree::{BTree, BatchChange, BatchOp, apply_batch};
use pagestone_testkit::Rng;
use support::{environment, trees};

const WRITERS: u64 = 4;
const KEYS: u64 = 300;
/// More than so many of each prove something.
const BATCHES: u64 = 200;
const LOOKS: u64 = 100;
const SCANS: u64 = 5;
/// Keys that every batch writes, alike in both trees, to the first leaf and to the last; now and then a long value.
const SHARED: [&[u8]; 2] = [b"/aaa", b"/zzz"];

fn key(owner: u64, number: u64) -> Vec<u8> {
    format!("/var/lib/data/{number:04}/owner-{owner}").into_bytes()
}

fn value(version: u64, len: u64) -> Vec<u8> {
    [&version.to_le_bytes()[..], &vec![version as u8; len as usize]].concat()
}

fn version(found: Option<Vec<u8>>) -> u64 {
    let Some(found) = found else { return 0 };
    let (version, rest) = found.split_first_chunk::<8>().expect("a version");
    let version = u64::from_le_bytes(*version);
    assert!(rest.iter().all(|byte| *byte == version as u8), "a torn value");
    version
}

fn hammer(millis: u64, frames: usize, most: u64) {
    let env = environment(4096, frames);
    let trees = trees(&env, 2);
    let stop = Instant::now() + Duration::from_millis(millis);
    let (stopped, batches, scans, looks) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let versions: Vec<Vec<AtomicU64>> =
        (0..2).map(|_| (0..WRITERS * KEYS).map(|_| AtomicU64::new(0)).collect()).collect();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (env, trees, versions, batches, stopped) = (&env, &trees, &versions, &batches, &stopped);
            scope.spawn(move || {
                let mut random = Rng::new(writer + 1);
                let own = |tree: usize, number: u64| &versions[tree][(writer * KEYS + number) as usize];
                // However slow the machine is.
                while Instant::now() < stop || batches.load(Ordering::Relaxed) <= BATCHES {
                    let mut changes = Vec::new();
                    for _ in 0..=random.below(most) {
                        let (tree, number) = (random.below(2) as usize, random.below(KEYS));
                        // Versions rise; odd ones are removals.
                        let next = own(tree, number).load(Ordering::Relaxed) + 1 + random.below(2);
                        own(tree, number).store(next, Ordering::Relaxed);
                        let longest = if random.below(10) == 0 { 12_000 } else { 200 };
                        let len = random.below(longest);
                        let new = next.is_multiple_of(2).then(|| value(next, len));
                        changes.push((tree, key(writer, number), new));
                    }
                    if random.below(4) == 0 {
                        for (tree, key, new) in &changes {
                            match new {
                                Some(new) => drop(trees[*tree].put(key, new).expect("put")),
                                None => drop(trees[*tree].remove(key).expect("remove")),
                            }
                        }
                        continue;
                    }
                    let count = batches.fetch_add(1, Ordering::Relaxed) + 1;
                    let count = value(count, if count.is_multiple_of(8) { 5000 } else { 20 });
                    let mut ops = support::ops(trees, &changes);
                    ops.extend(trees.iter().flat_map(|tree| {
                        SHARED.map(|key| BatchOp { tree, key, change: BatchChange::Put(&count) })
                    }));
                    apply_batch(env, &ops).expect("a batch");
                    // Nothing is ever replayed here: what was freed is room for other values at once.
                    env.allocator().checkpoint_passed(env.log().end_lsn());
                }
                stopped.store(true, Ordering::Release);
            });
        }
        for reader in 0..2 {
            let (trees, stopped, scans, looks) = (&trees, &stopped, &scans, &looks);
            scope.spawn(move || {
                let mut random = Rng::new(100 + reader);
                let few = || looks.load(Ordering::Relaxed) <= LOOKS || scans.load(Ordering::Relaxed) <= SCANS;
                while !stopped.load(Ordering::Acquire) || few() {
                    // Every batch writes a count of its own to all four. Between two looks at one of them that agree there was
                    // no batch, so all four agree.
                    let all: Vec<(&BTree, &[u8])> =
                        trees.iter().flat_map(|tree| SHARED.map(|key| (tree, key))).collect();
                    let first = &all[random.below(4) as usize];
                    let look = |(tree, key): &(&BTree, &[u8])| version(tree.get(key).expect("get"));
                    let before = look(first);
                    let seen: Vec<u64> = all.iter().map(look).collect();
                    if look(first) == before {
                        assert!(seen.iter().all(|seen| *seen == before), "{before} and {seen:?}");
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                    if random.below(20) == 0 {
                        let tree = &trees[random.below(2) as usize];
                        let keys: Vec<Vec<u8>> =
                            tree.range::<&[u8]>(..).map(|entry| entry.expect("an entry").0).collect();
                        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice");
                        scans.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for (tree, versions) in trees.iter().zip(&versions) {
        for writer in 0..WRITERS {
            for number in 0..KEYS {
                let last = versions[(writer * KEYS + number) as usize].load(Ordering::Relaxed);
                let found = tree.get(&key(writer, number)).expect("get");
                let expected = if last.is_multiple_of(2) { last } else { 0 };
                assert_eq!(version(found), expected, "a lost update of {writer}/{number}");
            }
        }
    }
    let (batches, looks, scans) =
        (batches.load(Ordering::Relaxed), looks.load(Ordering::Relaxed), scans.load(Ordering::Relaxed));
    assert!(
        batches > BATCHES && looks > LOOKS && scans > SCANS,
        "{batches} batches, {looks} looks, {scans} scans"
    );
}

#[test]
fn four_writers_on_64_frames() {
    hammer(3000, 64, 12);
}

#[test]
fn four_writers_on_the_least_pool() {
    hammer(2000, 32, 3);
}

#[test]
fn four_writers_all_resident() {
    hammer(2000, 1024, 100);
}
