//! Prevents: a writer that waits for a checkpoint to end; a log beyond its budget; a page that is changed all the time and holds
//! the log for ever (L3); a change that a continuous checkpoint passed before it was in the data file (L5).

mod support;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use pagestone_direct_io::{Disk, File, OpenHow, PathKind};
use pagestone_store::{Background, Durability, Options, Store};
use pagestone_testkit::{CrashOptions, Keep, Rng, SimDisk};
use support::{DIR, Step, contents, open, small, states};

/// Calls to the data file wait here while it is closed.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: Option<Call>,
    waiting: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    Sync,
}

impl Gate {
    fn set(&self, closed: Option<Call>) {
        self.state.lock().expect("no panic").closed = closed;
        self.changed.notify_all();
    }

    fn pass(&self, call: Call) {
        let mut state = self.state.lock().expect("no panic");
        state.waiting += 1;
        while state.closed == Some(call) {
            state = self.changed.wait(state).expect("no panic");
        }
        state.waiting -= 1;
    }

    fn is_somebody_waiting(&self) -> bool {
        self.state.lock().expect("no panic").waiting > 0
    }
}

/// A simulated disk with a gate before its data file.
#[derive(Debug)]
struct GatedDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, how)?;
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("data")) {
            return Ok(file);
        }
        Ok(Arc::new(GatedFile { file, gate: Arc::clone(&self.gate) }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.disk.kind(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.gate.pass(Call::Write);
        self.file.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.gate.pass(Call::Sync);
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
    fn is_direct(&self) -> bool {
        self.file.is_direct()
    }
}

/// Everything fits the pool, so that writers need no frame and hence no write of a page.
fn resident(background: Background, durability: Durability) -> Options {
    Options {
        pool_bytes: 16 << 20,
        log_bytes: 4 << 20,
        segment_bytes: 256 << 10,
        background,
        durability,
        ..small()
    }
}

fn gated(options: Options) -> (Arc<Gate>, Store) {
    let gate = Arc::new(Gate::default());
    let disk = GatedDisk { disk: SimDisk::new(1), gate: Arc::clone(&gate) };
    (gate, Store::open_on(Arc::new(disk), Path::new(DIR), options).expect("opens"))
}

fn put(store: &Store, number: u64) {
    let key = format!("key-{:05}", number % 2000);
    store.default_tree().put(key.as_bytes(), &[number as u8; 700]).expect("put");
}

/// 600 puts of four threads: with what was written before they stay below three quarters of the budget.
fn four_writers_finish(store: &Store) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..150).for_each(|number| put(store, thread * 500 + number)));
        }
    });
}

#[test]
fn writers_go_on_while_the_checkpointer_stands_in_a_write_or_a_sync() {
    for call in [Call::Write, Call::Sync] {
        for durability in [Durability::Strict, Durability::RELAXED] {
            let (gate, store) = gated(resident(Background::Threads, durability));
            gate.set(Some(call));
            let mut number = 0;
            while !gate.is_somebody_waiting() {
                put(&store, number);
                number += 1;
            }
            four_writers_finish(&store);
            assert!(gate.is_somebody_waiting(), "{call:?}: the checkpointer had gone on");
            assert_eq!(store.stats().expect("stats").checkpoints, 0);
            gate.set(None);
            // It was not for nothing: the log comes round.
            (0..10_000).for_each(|number| put(&store, number));
            store.close().expect("close");
        }
    }
}

#[test]
fn writers_go_on_while_somebody_asked_for_a_checkpoint() {
    for call in [Call::Write, Call::Sync] {
        let (gate, store) = gated(resident(Background::Manual, Durability::Strict));
        (0..500).for_each(|number| put(&store, number));
        gate.set(Some(call));
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| store.checkpoint());
            while !gate.is_somebody_waiting() {
                std::thread::yield_now();
            }
            four_writers_finish(&store);
            assert!(!asked.is_finished(), "{call:?}");
            gate.set(None);
            asked.join().expect("no panic").expect("a checkpoint");
        });
        assert!(store.stats().expect("stats").checkpoints > 0);
        store.close().expect("close");
    }
}

/// One thread changes one page all the time, two change cold ones: nobody gets `LogFull`, nothing is beyond the budget.
#[test]
fn hot_page_and_many_cold_ones_stay_within_four_mebibytes() {
    for pool_bytes in [16 << 20, 64 * 4096] {
        let disk = SimDisk::new(1);
        let options = Options { pool_bytes, ..resident(Background::Threads, Durability::RELAXED) };
        let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options.clone()).expect("opens");
        std::thread::scope(|scope| {
            let store = &store;
            scope.spawn(move || {
                for number in 0..40_000_u64 {
                    store.default_tree().put(b"hot", &number.to_be_bytes().repeat(40)).expect("put");
                }
            });
            for thread in 0..2 {
                scope.spawn(move || {
                    let mut random = Rng::new(thread + 1);
                    (0..12_000).for_each(|_| put(store, random.below(2000)));
                });
            }
        });
        let log = store.stats().expect("stats").log;
        assert!(log.end_lsn.get() > 24 << 20, "the log never came round: {log:?}");
        assert!(log.used_max <= 4 << 20, "beyond the budget: {log:?}");
        store.sync().expect("durable");
        let cut = disk.power_cut(Keep::Synced);
        let again = Store::open_on(Arc::new(cut), Path::new(DIR), options).expect("recovers");
        let hot = again.default_tree().get(b"hot").expect("reads").expect("there");
        assert_eq!(hot, 39_999_u64.to_be_bytes().repeat(40));
    }
}

/// A tick now and then is enough: between two, the log grows by what was written and no more than that.
#[test]
fn ticks_keep_the_log_at_half_of_its_budget() {
    let options = resident(Background::Manual, Durability::RELAXED);
    let store = Store::open_on(Arc::new(SimDisk::new(1)), Path::new(DIR), options).expect("opens");
    for number in 0..20_000 {
        put(&store, number);
        store.default_tree().put(b"hot", &number.to_be_bytes()).expect("put");
        if number % 50 == 0 {
            store.tick().expect("tick");
        }
        let used = store.stats().expect("stats").log.used;
        assert!(used < (4 << 20) / 8 * 5, "{used} bytes after {number} puts");
    }
    let stats = store.stats().expect("stats");
    assert!(stats.checkpoints > 40, "{stats:?}");
    // Whoever writes nothing causes no writes.
    store.tick().expect("tick");
    let before = store.stats().expect("stats");
    for _ in 0..10 {
        store.tick().expect("tick");
    }
    let after = store.stats().expect("stats");
    assert_eq!((after.pool.write_backs, after.checkpoints), (before.pool.write_backs, before.checkpoints));
}

#[test]
fn what_was_dirty_when_a_checkpoint_was_asked_for_is_out() {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    (0..700).for_each(|number| put(&store, number));
    store.checkpoint().expect("a checkpoint");
    let expected = contents(&store).expect("reads");
    let again = open(&disk.power_cut(Keep::Synced)).expect("opens");
    assert_eq!(again.open_report().groups, 0, "something was left to the log");
    assert_eq!(contents(&again).expect("reads"), expected);
}

/// The smallest log there is, so that few changes bring rounds and publications; a tick after every few of them.
#[test]
fn continuous_checkpoints_survive_every_cut() {
    let options = Options { log_bytes: 4 * (64 << 10), pool_bytes: 40 * 4096, ..small() };
    let open = |disk: &SimDisk| Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options.clone());
    let mut random = Rng::new(3);
    let script: Vec<Step> = (0..260)
        .map(|step| {
            let key = format!("/usr/share/doc/package-{:04}/copyright", random.below(90)).into_bytes();
            if random.below(8) == 0 { Step::Remove(key) } else { Step::Put(key, vec![step as u8; 900]) }
        })
        .collect();
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    for (step, number) in script.iter().zip(1..) {
        step.run(&store).expect("a healthy disk");
        disk.note(number);
        if number % 5 == 0 {
            store.tick().expect("a healthy disk");
        }
    }
    let stats = store.stats().expect("stats");
    assert!(stats.checkpoints >= 6, "too few checkpoints for a proof: {stats:?}");
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    drop(store);
    let states = states(&script);
    let few =
        CrashOptions { exhaustive_max: 8, pairs_max: 2, splits_max: 2, random: 2, ..CrashOptions::default() }
            .page_atomic(|path| path.to_string_lossy().starts_with("/store/data"));
    let mut images = 0;
    for image in disk.crash_states(&few) {
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(legal.contains(&found), "after {acknowledged} acknowledged steps: {}", image.explain());
        images += 1;
    }
    assert!(images > 1000, "only {images} images");
}
