//! Eight threads that all write and read the same keys, by every call that there is, while nodes split and merge and pages are evicted:
//! what they saw of each key must be explained by one order of the calls on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagestone_btree::TreeError;
use pagestone_store::{Background, CompareAndSwap, Durability, Options, Store, StoreError, Tree};
use pagestone_testkit::{KeyCall, Rng, Saw, SimDisk, Stamps, ThreadHistory, check_linear};

const THREADS: u64 = 8;
const KEYS: u64 = 4000;
/// Keys that all threads are at for a while; and calls until they go to the next ones.
const HOT: u64 = 40;
const STAY: u64 = 300;
/// The number in front of each value is its own; this many bits of it count the values of one thread.
const OWN: u32 = 40;

fn key(number: u64) -> Vec<u8> {
    format!("/var/lib/data/{:03}/{number:06}", number / 64).into_bytes()
}

fn value(version: u64, len: usize) -> Vec<u8> {
    [&version.to_le_bytes()[..], &vec![version as u8; len]].concat()
}

/// The number of a value that was found.
fn version(found: &[u8]) -> u64 {
    let (version, filler) = found.split_first_chunk::<8>().expect("a number");
    let version = u64::from_le_bytes(*version);
    assert!(filler.iter().all(|byte| *byte == version as u8), "a torn value");
    version
}

fn number_of(key: &[u8]) -> u64 {
    let digits = key.rsplit(|byte| *byte == b'/').next().expect("a number");
    str::from_utf8(digits).expect("digits").parse().expect("a number")
}

/// One of the threads.
struct Worker<'a> {
    tree: Tree,
    stamps: &'a Stamps,
    random: Rng,
    thread: u64,
    values: u64,
    history: ThreadHistory,
}

impl Worker<'_> {
    fn step(&mut self, step: u64) {
        let hot = step / STAY * HOT * 7 + self.random.below(HOT);
        let number = if self.random.below(4) == 0 { self.random.below(KEYS) } else { hot % KEYS };
        // The tree grows for a while and shrinks for a while.
        let puts = if (step / STAY).is_multiple_of(2) { 9 } else { 3 };
        match self.random.below(20) {
            at if at < puts => {
                let new = self.new_value();
                self.call(number, |tree, key| {
                    let put = tree.put(key, &new).expect("put");
                    (Saw::Presence(put.replaced), Some(Some(version(&new))))
                });
            }
            0..11 => self.call(number, |tree, key| {
                let removed = tree.remove(key).expect("remove");
                (Saw::Presence(removed), removed.then_some(None))
            }),
            11 => self.insert(number),
            12 => self.swap(number),
            13 => self.update(number),
            14..18 => self.call(number, |tree, key| {
                (Saw::Value(tree.get(key).expect("get").map(|found| version(&found))), None)
            }),
            18 => self.get_many(number),
            _ => self.scan(number),
        }
    }

    fn new_value(&mut self) -> Vec<u8> {
        self.values += 1;
        value(self.thread << OWN | self.values, self.random.below(300) as usize)
    }

    /// Makes a call and notes what it saw and left.
    fn call(&mut self, number: u64, call: impl FnOnce(&Tree, &[u8]) -> (Saw, Option<Option<u64>>)) {
        let key = key(number);
        let began = self.stamps.next();
        let (saw, left) = call(&self.tree, &key);
        self.history.push(number, KeyCall { began, ended: self.stamps.next(), saw, left });
    }

    fn insert(&mut self, number: u64) {
        let new = self.new_value();
        self.call(number, |tree, key| match tree.insert(key, &new) {
            Ok(_) => (Saw::Value(None), Some(Some(version(&new)))),
            Err(StoreError::Tree(TreeError::KeyExists)) => (Saw::Presence(true), None),
            Err(error) => panic!("insert: {error}"),
        });
    }

    /// What was there a moment ago against something new, or nothing.
    fn swap(&mut self, number: u64) {
        let now = self.tree.get(&key(number)).expect("get");
        let new = (self.random.below(4) > 0).then(|| self.new_value());
        self.call(number, |tree, key| {
            match tree.compare_and_swap(key, now.as_deref(), new.as_deref()).expect("a swap") {
                CompareAndSwap::Done { .. } => {
                    (Saw::Value(now.as_deref().map(version)), Some(new.as_deref().map(version)))
                }
                CompareAndSwap::Differs { current } => (Saw::Value(current.as_deref().map(version)), None),
            }
        });
    }

    fn update(&mut self, number: u64) {
        let new = self.new_value();
        self.call(number, |tree, key| {
            let mut seen = None;
            let updated = tree.update_with(key, |now| {
                seen = now.map(version);
                Some(new.clone())
            });
            assert_eq!(updated.expect("an update").existed, seen.is_some());
            (Saw::Value(seen), Some(Some(version(&new))))
        });
    }

    /// Keys far from each other, each once.
    fn get_many(&mut self, number: u64) {
        let numbers: Vec<u64> = (0..16).map(|index| (number + index * 61) % KEYS).collect();
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        let began = self.stamps.next();
        let found = self.tree.multi_get(&keys).expect("multi_get");
        let ended = self.stamps.next();
        for (number, found) in numbers.into_iter().zip(found) {
            let saw = Saw::Value(found.map(|found| version(&found)));
            self.history.push(number, KeyCall { began, ended, saw, left: None });
        }
    }

    /// Each key of a range, in one direction or the other: those that are not given were not there at some instant of the scan.
    fn scan(&mut self, number: u64) {
        let numbers = number..(number + 100).min(KEYS);
        let range = key(numbers.start)..key(numbers.end);
        let began = self.stamps.next();
        let range = self.tree.range::<Vec<u8>>(range);
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = if self.random.below(2) == 0 {
            range.collect::<Result<_, _>>().expect("a scan")
        } else {
            let mut entries: Vec<_> = range.rev().collect::<Result<_, _>>().expect("a scan");
            entries.reverse();
            entries
        };
        let ended = self.stamps.next();
        assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order or twice");
        let mut entries = entries.drain(..).peekable();
        for number in numbers {
            let found = entries.next_if(|(key, _)| number_of(key) == number);
            let saw = Saw::Value(found.map(|(_, value)| version(&value)));
            self.history.push(number, KeyCall { began, ended, saw, left: None });
        }
        assert!(entries.next().is_none(), "a key that nobody puts");
    }
}

/// Gives how many calls there were. With few frames it proves that pages were evicted meanwhile.
pub fn linear(seed: u64, steps: u64, frames: usize, evicts: bool) -> u64 {
    let options = Options {
        pool_bytes: frames * 4096,
        durability: Durability::RELAXED,
        background: Background::Threads,
        log_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        ..super::small()
    };
    let store = Store::open_on(Arc::new(SimDisk::new(seed)), Path::new("/store"), options).expect("opens");
    let (stamps, ended) = (Stamps::default(), AtomicBool::new(false));
    let mut histories: Vec<ThreadHistory> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mut worker = Worker {
                    tree: store.default_tree(),
                    stamps: &stamps,
                    random: Rng::new(seed.wrapping_mul(THREADS).wrapping_add(thread)),
                    thread,
                    values: 0,
                    history: ThreadHistory::new(),
                };
                scope.spawn(move || {
                    (0..steps).for_each(|step| worker.step(step));
                    worker.history
                })
            })
            .collect();
        let (verifier, ended) = (store.clone(), &ended);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let report = verifier.verify().expect("verify");
                assert!(report.is_sound(), "nothing is wrong: {:?}", report.findings);
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended.store(true, Ordering::Relaxed);
        results.into_iter().map(|result| result.expect("no panic")).collect()
    });
    // And what is there when all is over.
    let mut last = Worker {
        tree: store.default_tree(),
        stamps: &stamps,
        random: Rng::new(seed),
        thread: THREADS,
        values: 0,
        history: ThreadHistory::new(),
    };
    (0..KEYS).step_by(100).for_each(|number| last.scan(number));
    histories.push(last.history);
    let stats = store.stats().expect("stats");
    assert!(!evicts || stats.pool.evictions > 200, "the pool was too large: {stats:?}");
    assert!(stats.tree.splits > 10 && stats.tree.merges > 0, "no structure changed: {stats:?}");
    assert!(store.verify().expect("verifies").is_sound());
    check_linear(&histories).unwrap_or_else(|told| panic!("seed {seed}: {:?}: {told:#?}", key(told.key)))
}
