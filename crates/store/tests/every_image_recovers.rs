//! Prevents: what only a rare mixture of changes, checkpoints and a power cut takes away (R1, R2, R6, C1 to C12).
//!
//! Every sequence of up to three operations on a small store, then long ones by seed; a power cut after every write, sync,
//! rename and truncation; every state that it can leave where they are few, else a covering set of them, torn at 512 bytes.
//! Each is opened, compared with the states that it may be in, and verified; of some the recovery is cut again.

mod support;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pagestone_store::Store;
use pagestone_testkit::{CrashImage, CrashOptions, Keep, Rng, SimDisk};
use support::{State, Step, contents, open};

/// Distinct images that this test looks at, at least.
const IMAGES: usize = 300_000;
/// Of so many images the recovery of one is cut again, everywhere.
const CUT_AGAIN: u64 = 256;

/// What the sequences are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    PutNew,
    Overwrite,
    Delete,
    Split,
    Merge,
    Checkpoint,
    Grow,
    Sync,
}

const OPS: [Op; 8] =
    [Op::PutNew, Op::Overwrite, Op::Delete, Op::Split, Op::Merge, Op::Checkpoint, Op::Grow, Op::Sync];

fn key(number: u64) -> Vec<u8> {
    format!("/usr/lib/x86_64-linux-gnu/lib{number:05}.so").into_bytes()
}

/// A store that runs steps, and the states that it went through.
struct Run {
    disk: SimDisk,
    store: Store,
    states: Vec<State>,
    random: Rng,
}

impl Run {
    fn begin(disk: SimDisk, state: State, seed: u64) -> Self {
        let store = open(&disk).expect("a healthy disk");
        Self { disk, store, states: vec![state], random: Rng::new(seed) }
    }

    fn now(&self) -> &State {
        self.states.last().expect("never empty")
    }

    /// Runs a step; once it is acknowledged, says so to the disk.
    fn step(&mut self, step: Step) {
        step.run(&self.store).expect("a healthy disk");
        let mut state = self.now().clone();
        step.apply(&mut state);
        self.states.push(state);
        self.disk.note(self.states.len() as u64 - 1);
    }

    fn value(&mut self, max: u64) -> Vec<u8> {
        let len = self.random.below(max) as usize;
        (0..len).map(|at| (at as u64 * 7 + self.states.len() as u64) as u8).collect()
    }

    fn put_new(&mut self, len: u64) {
        let mut number = self.random.below(50_000);
        while self.now().contains_key(&key(number)) {
            number = self.random.below(50_000);
        }
        let value = self.value(len);
        self.step(Step::Put(key(number), value));
    }

    fn some_key(&mut self) -> Option<Vec<u8>> {
        let at = self.random.below(self.now().len().max(1) as u64) as usize;
        self.now().keys().nth(at).cloned()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::PutNew => self.put_new(600),
            Op::Overwrite => {
                let value = self.value(600);
                self.some_key().into_iter().for_each(|key| self.step(Step::Put(key, value.clone())));
            }
            Op::Delete => self.some_key().into_iter().for_each(|key| self.step(Step::Remove(key))),
            Op::Split => self.until(
                |stats| stats.tree.splits,
                |run| {
                    run.put_new(900);
                    ControlFlow::Continue(())
                },
            ),
            Op::Merge => self.until(
                |stats| stats.tree.merges,
                |run| match run.some_key() {
                    Some(key) => {
                        run.step(Step::Remove(key));
                        ControlFlow::Continue(())
                    }
                    None => ControlFlow::Break(()),
                },
            ),
            Op::Checkpoint => self.step(Step::Checkpoint),
            Op::Grow => self.put_new(40_000),
            Op::Sync => self.step(Step::Sync),
        }
    }

    /// Does something until this figure rises.
    fn until(
        &mut self,
        figure: impl Fn(&pagestone_store::StoreStats) -> u64,
        mut step: impl FnMut(&mut Self) -> ControlFlow<()>,
    ) {
        let before = figure(&self.store.stats().expect("reads"));
        while figure(&self.store.stats().expect("reads")) == before {
            if step(self).is_break() {
                break;
            }
        }
    }
}

/// A small store of a few leaves on a disk where all of it is durable.
fn base() -> (SimDisk, State) {
    let disk = SimDisk::new(31);
    let mut run = Run::begin(disk.clone(), State::new(), 31);
    for _ in 0..14 {
        run.put_new(700);
    }
    run.store.close().expect("a healthy disk");
    let state = run.now().clone();
    drop(run);
    (disk.power_cut(Keep::Everything), state)
}

/// Every sequence of one, two and three operations.
fn sequences() -> Vec<Vec<Op>> {
    let mut all: Vec<Vec<Op>> = vec![Vec::new()];
    let mut of_this_length = all.clone();
    for _ in 0..3 {
        of_this_length = of_this_length
            .iter()
            .flat_map(|sequence| OPS.map(|op| sequence.iter().copied().chain([op]).collect()))
            .collect();
        all.extend(of_this_length.iter().cloned());
    }
    all.remove(0);
    all
}

/// What all threads share.
#[derive(Default)]
struct Lane {
    seen: Mutex<HashSet<u64>>,
    cut_again: AtomicUsize,
}

impl Lane {
    fn count(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    /// Looks at what a power cut can leave of this run, from this point of its journal on.
    fn look(&self, run: &Run, from: usize, options: &CrashOptions, what: &dyn Fn() -> String) {
        assert_eq!(run.disk.audit(), [], "the disk saw a broken rule: {}", what());
        let options = CrashOptions { cuts: from..usize::MAX, ..options.clone() };
        for image in run.disk.crash_states(&options) {
            let fingerprint = image.fingerprint() ^ image.acknowledged().len() as u64;
            if self.seen.lock().expect("no panic").insert(fingerprint) {
                self.check(&image, &run.states, fingerprint, what);
            }
        }
    }

    fn check(&self, image: &CrashImage, states: &[State], fingerprint: u64, what: &dyn Fn() -> String) {
        let context = || format!("{}: {}", what(), image.explain());
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let disk = image.disk();
        let found = recovered(&disk, &context);
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(
            legal.contains(&found),
            "after {acknowledged} acknowledged steps {} entries, {} expected: {}",
            found.len(),
            legal[0].len(),
            context()
        );
        if fingerprint.is_multiple_of(CUT_AGAIN) {
            self.cut_again.fetch_add(1, Ordering::Relaxed);
            let few = CrashOptions {
                exhaustive_max: 8,
                pairs_max: 0,
                splits_max: 4,
                random: 1,
                ..CrashOptions::default()
            };
            for again in disk.crash_states(&few) {
                if !self.seen.lock().expect("no panic").insert(again.fingerprint()) {
                    continue;
                }
                let context = || format!("{} after {}", again.explain(), context());
                assert!(recovered(&again.disk(), &context) == found, "R6: {}", context());
            }
        }
    }
}

/// What is in the store after a crash.
fn recovered(disk: &SimDisk, context: &dyn Fn() -> String) -> State {
    let store = open(disk).unwrap_or_else(|error| panic!("{error}: {}", context()));
    let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", context()));
    let report = store.verify().unwrap_or_else(|error| panic!("{error}: {}", context()));
    assert!(report.is_sound(), "{:?}: {}", report.findings, context());
    found
}

#[test]
fn three_hundred_thousand_images_recover() {
    let (lane, base, sequences) = (Arc::new(Lane::default()), base(), sequences());
    assert_eq!(sequences.len(), 584);
    let options = CrashOptions {
        exhaustive_max: 64,
        pairs_max: 16,
        splits_max: 8,
        random: 4,
        ..CrashOptions::default()
    };
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(sequence) = sequences.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut run = Run::begin(base.0.power_cut(Keep::Everything), base.1.clone(), 5);
                    let (last, before) = sequence.split_last().expect("not empty");
                    before.iter().for_each(|op| run.run(*op));
                    // What comes before the last operation was looked at with the shorter sequence.
                    let from = if before.is_empty() { 0 } else { run.disk.journal_len() };
                    run.run(*last);
                    lane.look(&run, from, &options, &|| format!("{sequence:?}"));
                }
                // By seed, from another store each time, until there are enough.
                while lane.count() < IMAGES {
                    let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                    let mut run = Run::begin(base.0.power_cut(Keep::Everything), base.1.clone(), seed);
                    for _ in 0..40 {
                        let op = OPS[run.random.below(OPS.len() as u64) as usize];
                        run.run(op);
                    }
                    lane.look(&run, 0, &options, &|| format!("seed {seed}"));
                }
            });
        }
    });
    let (images, again) = (lane.count(), lane.cut_again.load(Ordering::Relaxed));
    println!("{images} distinct images, the recovery of {again} cut again");
    assert!(images >= IMAGES && again >= IMAGES / CUT_AGAIN as usize / 2);
}
