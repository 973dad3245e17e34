//! Eight threads on one tree: what each key was last given is what everybody finds, and every scan gives the keys that nobody touches
//! once, in order, in both directions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagestone_store::{Background, Durability, Options, Store};
use pagestone_testkit::{Rng, SimDisk};

const THREADS: u64 = 8;
const KEYS: u64 = 400;
/// Operations of each thread at least, however slow the machine is: fewer may merge nothing.
const LEAST: u64 = 3000;

fn key(owner: u64, number: u64) -> Vec<u8> {
    format!("/var/lib/data/{number:04}/owner-{owner}").into_bytes()
}

/// Version, and the key again, so that a value of another key shows.
fn value(key: &[u8], version: u64, len: usize) -> Vec<u8> {
    [&version.to_le_bytes()[..], key, &vec![version as u8; len]].concat()
}

fn check(found: &[u8], key: &[u8]) -> u64 {
    let (version, rest) = found.split_first_chunk::<8>().expect("a version");
    let version = u64::from_le_bytes(*version);
    let (name, filler) = rest.split_at(key.len());
    assert_eq!(name, key, "the value of another key");
    assert!(filler.iter().all(|byte| *byte == version as u8), "a torn value");
    version
}

/// Whether the owner's last change was a put.
fn is_there(version: u64) -> bool {
    version != 0 && version.is_multiple_of(2)
}

/// Gives how many operations there were. With few frames it proves that pages were evicted meanwhile.
pub fn hammer(millis: u64, frames: usize, evicts: bool) -> u64 {
    let disk = SimDisk::new(7);
    let options = Options {
        pool_bytes: frames * 4096,
        durability: Durability::RELAXED,
        background: Background::Threads,
        log_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        ..super::small()
    };
    let store = Store::open_on(Arc::new(disk), Path::new("/store"), options).expect("opens");
    // What each owner has last written, and last removed: versions rise, odd ones are removals.
    let versions: Vec<AtomicU64> = (0..THREADS * KEYS).map(|_| AtomicU64::new(0)).collect();
    // Keys that nobody touches: every scan gives each of them once.
    for number in 0..KEYS {
        store.default_tree().put(&key(99, number), &value(&key(99, number), 2, 30)).expect("put");
    }
    let stop = Instant::now() + Duration::from_millis(millis);
    let (scans, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (tree, versions, scans, operations) = (store.default_tree(), &versions, &scans, &operations);
            scope.spawn(move || {
                let mut random = Rng::new(thread + 1);
                for _ in (0..).take_while(|done| *done < LEAST || Instant::now() < stop) {
                    operations.fetch_add(1, Ordering::Relaxed);
                    let number = random.below(KEYS);
                    let own = &versions[(thread * KEYS + number) as usize];
                    let own_key = key(thread, number);
                    let last = own.load(Ordering::Relaxed);
                    match random.below(20) {
                        0..8 => {
                            let next = (last / 2 + 1) * 2;
                            let len = random.below(300) as usize;
                            let put = tree.put(&own_key, &value(&own_key, next, len)).expect("put");
                            assert_eq!(put.replaced, is_there(last), "{last}");
                            own.store(next, Ordering::Release);
                        }
                        8..10 => {
                            assert_eq!(tree.remove(&own_key).expect("remove"), is_there(last));
                            own.store(last | 1, Ordering::Release);
                        }
                        10..13 => {
                            let found = tree.get(&own_key).expect("get");
                            let expected = is_there(last).then_some(last);
                            assert_eq!(found.map(|found| check(&found, &own_key)), expected, "a lost update");
                        }
                        13 => {
                            // Everybody's at once: none older than what was written before we looked.
                            let asked: Vec<(u64, u64)> =
                                (0..48).map(|_| (random.below(THREADS), random.below(KEYS))).collect();
                            let before: Vec<u64> = asked
                                .iter()
                                .map(|(owner, number)| {
                                    versions[(owner * KEYS + number) as usize].load(Ordering::Acquire)
                                })
                                .collect();
                            let keys: Vec<_> =
                                asked.iter().map(|(owner, number)| key(*owner, *number)).collect();
                            let found = tree.multi_get(&keys).expect("multi_get");
                            for (index, (owner, _)) in asked.iter().enumerate() {
                                match &found[index] {
                                    Some(found) => assert!(check(found, &keys[index]) >= before[index]),
                                    // Nobody but its owner takes a key out.
                                    None => assert!(*owner != thread || !is_there(before[index])),
                                }
                            }
                        }
                        14..19 => {
                            // Somebody else's: never older than what was written before we looked.
                            let owner = random.below(THREADS);
                            let other = &versions[(owner * KEYS + number) as usize];
                            let (other_key, before) = (key(owner, number), other.load(Ordering::Acquire));
                            if let Some(found) = tree.get(&other_key).expect("get") {
                                assert!(check(&found, &other_key) >= before, "an older value");
                            }
                        }
                        _ => {
                            let from = random.below(KEYS);
                            let start = format!("/var/lib/data/{from:04}");
                            let range = tree.range(start.into_bytes()..);
                            let seen: Vec<Vec<u8>> = if random.below(2) == 0 {
                                range.map(|entry| entry.expect("an entry").0).collect()
                            } else {
                                let mut seen: Vec<_> =
                                    range.rev().map(|entry| entry.expect("an entry").0).collect();
                                seen.reverse();
                                seen
                            };
                            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice");
                            let stable = seen.iter().filter(|key| key.ends_with(b"owner-99")).count() as u64;
                            assert_eq!(stable, KEYS - from, "a scan that missed a key");
                            scans.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    for thread in 0..THREADS {
        for number in 0..KEYS {
            let last = versions[(thread * KEYS + number) as usize].load(Ordering::Relaxed);
            let key = key(thread, number);
            let found = store.default_tree().get(&key).expect("get");
            assert_eq!(found.map(|found| check(&found, &key)), is_there(last).then_some(last));
        }
    }
    let stats = store.stats().expect("stats");
    assert!(scans.load(Ordering::Relaxed) > 20);
    assert!(!evicts || stats.pool.evictions > 500, "the pool was too large: {stats:?}");
    assert!(stats.tree.splits > 10 && stats.tree.merges > 0, "no structure changed: {stats:?}");
    assert!(store.verify().expect("verifies").is_sound());
    store.close().expect("close");
    operations.load(Ordering::Relaxed)
}
