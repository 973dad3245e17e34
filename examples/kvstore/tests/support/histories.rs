//! Threads that write, read and scan the same keys through a pool that holds a fraction of them, and a check of every answer
//! against what it may be at its instant.
//!
//! Each key has one owner, which counts its versions up: before a write it publishes the version as begun, behind it as
//! finished. Version v is a removal if 7 divides v, else a put of a value that v determines. So a read that begins when
//! version `low` is finished and ends when `high` has begun must give one of `low..=high`, and no reader may see a version
//! older than one it has seen. That is linearizability of each key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use kvstore::{Durability, KvStore, KvStoreOptions};
use pagestone_testkit::Rng;

/// How many do how much for how long.
#[derive(Debug)]
pub(crate) struct Histories {
    /// Where the store is made.
    pub(crate) dir: PathBuf,
    /// What follows from chance follows from it.
    pub(crate) seed: u64,
    /// Threads; each owns keys and reads all.
    pub(crate) threads: u64,
    /// Keys of each thread.
    pub(crate) keys: u64,
    /// Frames of the pool.
    pub(crate) frames: usize,
    /// When a write is acknowledged.
    pub(crate) durability: Durability,
    /// How long the threads run.
    pub(crate) time: Duration,
}

/// What was done, every answer checked.
#[derive(Debug, Default)]
pub(crate) struct HistoryFigures {
    /// Puts.
    pub(crate) puts: u64,
    /// Removals.
    pub(crate) dels: u64,
    /// Lookups.
    pub(crate) gets: u64,
    /// Entries that scans gave.
    pub(crate) scanned: u64,
    /// Pages evicted meanwhile.
    pub(crate) evictions: u64,
    /// Nodes split meanwhile.
    pub(crate) splits: u64,
}

impl HistoryFigures {
    /// In one line.
    pub(crate) fn to_line(&self) -> String {
        format!(
            "{} puts, {} removals, {} lookups, {} entries scanned, {} evictions, {} splits",
            self.puts, self.dels, self.gets, self.scanned, self.evictions, self.splits
        )
    }

    /// Adds what others did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.puts += other.puts;
        self.dels += other.dels;
        self.gets += other.gets;
        self.scanned += other.scanned;
        self.evictions += other.evictions;
        self.splits += other.splits;
    }
}

/// Every seventh version is a removal; version 0 is the time before the first put.
fn is_removal(version: u64) -> bool {
    version.is_multiple_of(7)
}

fn key(number: u64) -> Vec<u8> {
    format!("a/prefix/that/all/keys/share/{number:06}").into_bytes()
}

fn value(number: u64, version: u64) -> Vec<u8> {
    let filling = Rng::new(number ^ version << 20).below(220) as usize;
    let mut value = Vec::with_capacity(16 + filling);
    value.extend_from_slice(&version.to_le_bytes());
    value.extend_from_slice(&number.to_le_bytes());
    value.resize(16 + filling, version as u8);
    value
}

/// The version of a value that was read whole and unmixed.
fn version_of(number: u64, found: &[u8]) -> u64 {
    let version = found.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let version = version.unwrap_or_else(|| panic!("key {number}: a value of {} bytes", found.len()));
    assert!(
        found == value(number, version),
        "key {number}: a value that nobody put, as of version {version}"
    );
    version
}

/// What the owner of a key has told of it.
#[derive(Debug, Default)]
struct Told {
    begun: AtomicU64,
    finished: AtomicU64,
}

/// What one reader has seen of each key.
struct Seen(Vec<u64>);

impl Seen {
    /// A read gave this, which must be the state of the key at some instant between `low` and `high`, and none before what
    /// this reader has seen.
    fn check(&mut self, number: u64, low: u64, high: u64, found: Option<u64>) {
        let seen = &mut self.0[number as usize];
        let low = low.max(*seen);
        *seen = match found {
            Some(version) => {
                assert!(
                    (low..=high).contains(&version) && !is_removal(version),
                    "key {number}: version {version} was read, {low} to {high} are possible"
                );
                version
            }
            None => low.next_multiple_of(7),
        };
        assert!(
            *seen <= high,
            "key {number}: nothing was read, {low} to {high} are possible and no removal is among them"
        );
    }
}

impl Histories {
    /// Runs the threads, then holds the store against the last versions, before and after it is opened anew.
    ///
    /// Panics when an answer is one that it cannot be.
    pub(crate) fn run(&self) -> HistoryFigures {
        let options = KvStoreOptions {
            pool_bytes: self.frames * 4096,
            durability: self.durability,
            log_bytes: 16 << 20,
            segment_bytes: 1 << 20,
            create: true,
        };
        let store = KvStore::open_with(&self.dir, &options).expect("a store");
        let told: Vec<Told> = (0..self.threads * self.keys).map(|_| Told::default()).collect();
        let stop = AtomicBool::new(false);
        let mut figures = HistoryFigures::default();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads)
                .map(|owner| {
                    let (store, told, stop) = (&store, &told, &stop);
                    let worker = Worker {
                        store,
                        told,
                        owned: owner * self.keys..(owner + 1) * self.keys,
                        seen: Seen(vec![0; told.len()]),
                        rng: Rng::new(self.seed ^ (owner + 1) << 32),
                        figures: HistoryFigures::default(),
                    };
                    scope.spawn(move || worker.run(stop))
                })
                .collect();
            let began = Instant::now();
            while began.elapsed() < self.time && !workers.iter().any(|worker| worker.is_finished()) {
                thread::sleep(Duration::from_millis(10));
            }
            stop.store(true, SeqCst);
            for worker in workers {
                figures.add(&worker.join().expect("every answer was a possible one"));
            }
        });

        let stats = store.stats().expect("figures");
        (figures.evictions, figures.splits) = (stats.evictions, stats.splits);
        let last: BTreeMap<Vec<u8>, Vec<u8>> = (0..)
            .zip(&told)
            .map(|(number, told)| (number, told.finished.load(SeqCst)))
            .filter(|(_, version)| !is_removal(*version))
            .map(|(number, version)| (key(number), value(number, version)))
            .collect();
        compare(&store, &last, "before the store was closed");
        store.close().expect("closed");
        drop(store);
        let store = KvStore::open_with(&self.dir, &options).expect("the store opens again");
        compare(&store, &last, "after the store was closed");
        figures
    }
}

fn compare(store: &KvStore, last: &BTreeMap<Vec<u8>, Vec<u8>>, when: &str) {
    let found: Result<BTreeMap<_, _>, _> = store.scan_all().collect();
    let found = found.expect("scanned");
    assert!(
        found == *last,
        "the store holds {} entries and other ones than the {} put, {when}",
        found.len(),
        last.len()
    );
    assert_eq!(store.count().expect("counted"), last.len() as u64, "{when}");
}

struct Worker<'a> {
    store: &'a KvStore,
    told: &'a [Told],
    owned: std::ops::Range<u64>,
    seen: Seen,
    rng: Rng,
    figures: HistoryFigures,
}

impl Worker<'_> {
    fn run(mut self, stop: &AtomicBool) -> HistoryFigures {
        while !stop.load(SeqCst) {
            match self.rng.below(100) {
                0..45 => self.write(),
                45..90 => self.read(),
                _ => self.scan(),
            }
        }
        self.figures
    }

    fn write(&mut self) {
        let number = self.owned.start + self.rng.below(self.owned.end - self.owned.start);
        let told = &self.told[number as usize];
        let before = told.finished.load(SeqCst);
        let version = before + 1;
        told.begun.store(version, SeqCst);
        let was_there = if is_removal(version) {
            self.figures.dels += 1;
            self.store.del(key(number)).expect("removed")
        } else {
            self.figures.puts += 1;
            self.store.put(key(number), value(number, version)).expect("put").replaced
        };
        assert_eq!(was_there, !is_removal(before), "key {number}: version {version} found the wrong state");
        told.finished.store(version, SeqCst);
    }

    fn read(&mut self) {
        let number = self.rng.below(self.told.len() as u64);
        let told = &self.told[number as usize];
        let low = told.finished.load(SeqCst);
        let found = self.store.get(key(number)).expect("read");
        let high = told.begun.load(SeqCst);
        self.seen.check(number, low, high, found.map(|found| version_of(number, &found)));
        self.figures.gets += 1;
    }

    /// Every key of a stretch is given once, in order, in a state of its time; those that are there throughout are all given.
    fn scan(&mut self) {
        let from = self.rng.below(self.told.len() as u64);
        let to = (from + self.rng.below(64)).min(self.told.len() as u64);
        let stretch = from as usize..to as usize;
        let low: Vec<u64> =
            self.told[stretch.clone()].iter().map(|told| told.finished.load(SeqCst)).collect();
        let entries = self.store.scan_range(key(from)..key(to));
        let found: Result<Vec<_>, _> = if self.rng.chance(128) {
            entries.collect()
        } else {
            entries.rev().collect::<Result<Vec<_>, _>>()
        };
        let mut found = found.expect("scanned");
        self.figures.scanned += found.len() as u64;
        if found.len() > 1 && found[0].0 > found[1].0 {
            found.reverse();
        }
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "a scan out of order");
        let mut found = found.into_iter().peekable();
        for (number, low) in (from..to).zip(low) {
            let high = self.told[number as usize].begun.load(SeqCst);
            let entry = found.next_if(|(found, _)| *found == key(number));
            self.seen.check(number, low, high, entry.map(|(_, found)| version_of(number, &found)));
        }
        assert!(found.next().is_none(), "a scan gave a key outside its bounds");
    }
}
