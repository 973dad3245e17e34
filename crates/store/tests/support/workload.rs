//! The workloads whose crashes are enumerated: every sequence of up to three operations on a small store, and long ones by seed.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use pagestone_store::{DurableBy, Options, Store, StoreResult, StoreStats};
use pagestone_testkit::{Keep, Rng, SimDisk};

use super::{DIR, State, Step, small};

/// What the sequences are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    PutNew,
    Overwrite,
    Delete,
    Split,
    Merge,
    Checkpoint,
    Grow,
    Sync,
}

pub const OPS: [Op; 8] =
    [Op::PutNew, Op::Overwrite, Op::Delete, Op::Split, Op::Merge, Op::Checkpoint, Op::Grow, Op::Sync];

fn key(number: u64) -> Vec<u8> {
    format!("/usr/lib/x86_64-linux-gnu/lib{number:05}.so").into_bytes()
}

/// With a log of six segments: the least that the longest sequences need, because recoveries spend their time on its buffers.
pub fn open(disk: &SimDisk, durable_by: DurableBy) -> StoreResult<Store> {
    let options = Options { log_bytes: 6 * (64 << 10), durable_by: Some(durable_by), ..small() };
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

/// A store that runs steps, and the states that it went through.
pub struct Run {
    pub disk: SimDisk,
    pub store: Store,
    /// `states[n]` is what is there after `n` steps, in the order of their LSNs.
    pub states: Vec<State>,
    pub random: Rng,
    pub durable_by: DurableBy,
}

impl Run {
    pub fn begin(disk: SimDisk, state: State, seed: u64, durable_by: DurableBy) -> Self {
        let store = open(&disk, durable_by).expect("a healthy disk");
        assert_eq!(store.stats().expect("reads").log.durable_by, durable_by);
        Self { disk, store, states: vec![state], random: Rng::new(seed), durable_by }
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

    pub fn run(&mut self, op: Op) {
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
        figure: impl Fn(&StoreStats) -> u64,
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
pub fn base() -> (SimDisk, State) {
    let disk = SimDisk::new(31);
    let mut run = Run::begin(disk.clone(), State::new(), 31, DurableBy::Fdatasync);
    for _ in 0..14 {
        run.put_new(700);
    }
    run.store.close().expect("a healthy disk");
    let state = run.now().clone();
    drop(run);
    (disk.power_cut(Keep::Everything), state)
}

/// Every sequence of one, two and three operations.
pub fn sequences() -> Vec<Vec<Op>> {
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

/// Runs one of the sequences on a copy of the base. Gives from where in the journal its last operation goes: what comes before was looked
/// at with the shorter sequence.
pub fn run_sequence(base: &(SimDisk, State), sequence: &[Op], durable_by: DurableBy) -> (Run, usize) {
    let mut run = Run::begin(base.0.power_cut(Keep::Everything), base.1.clone(), 5, durable_by);
    let (last, before) = sequence.split_last().expect("not empty");
    before.iter().for_each(|op| run.run(*op));
    let from = if before.is_empty() { 0 } else { run.disk.journal_len() };
    run.run(*last);
    (run, from)
}

/// Runs a long workload that follows from a seed, by the durable write that it names.
pub fn run_long(base: &(SimDisk, State), seed: u64) -> Run {
    let durable_by = DurableBy::ALL[seed as usize % DurableBy::ALL.len()];
    let mut run = Run::begin(base.0.power_cut(Keep::Everything), base.1.clone(), seed, durable_by);
    for _ in 0..40 {
        let op = OPS[run.random.below(OPS.len() as u64) as usize];
        run.run(op);
    }
    run
}
