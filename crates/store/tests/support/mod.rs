//! What the promises share: small stores on a simulated disk, a script of changes, and the states that its prefixes leave.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each promise uses its part")]

pub mod beside;
pub mod census;
pub mod churn;
pub mod damaged;
pub mod hammer;
pub mod histories;
pub mod images;
pub mod linear;
pub mod space;
pub mod workload;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pagestone_store::{Background, Durability, Options, Store, StoreResult};
use pagestone_testkit::{Rng, SimDisk};

pub const DIR: &str = "/store";

/// A store so small that a few dozen changes split nodes, evict pages and cross log segments.
pub fn small() -> Options {
    Options {
        pool_bytes: 32 * 4096,
        log_bytes: 16 * (64 << 10),
        segment_bytes: 64 << 10,
        durability: Durability::Strict,
        background: Background::Manual,
        ..Options::default()
    }
}

pub fn open(disk: &SimDisk) -> StoreResult<Store> {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), small())
}

pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    /// From the first key on, up to the second, which stays.
    RemoveRange(Vec<u8>, Vec<u8>),
    Checkpoint,
    Sync,
}

impl Step {
    pub fn run(&self, store: &Store) -> StoreResult<()> {
        let tree = store.default_tree();
        match self {
            Self::Put(key, value) => tree.put(key, value).map(|_| ()),
            Self::Remove(key) => tree.remove(key).map(|_| ()),
            Self::RemoveRange(from, to) => tree.remove_range::<Vec<u8>>(from.clone()..to.clone()).map(|_| ()),
            Self::Checkpoint => store.checkpoint(),
            Self::Sync => store.sync(),
        }
    }

    pub fn apply(&self, state: &mut State) {
        match self {
            Self::Put(key, value) => drop(state.insert(key.clone(), value.clone())),
            Self::Remove(key) => drop(state.remove(key)),
            Self::RemoveRange(from, to) => state.retain(|key, _| key < from || key >= to),
            Self::Checkpoint | Self::Sync => {}
        }
    }
}

/// Paths with long shared prefixes and values of all lengths, put, overwritten and removed, with a checkpoint now and then.
pub fn script(seed: u64, steps: usize, checkpoint_every: u64) -> Vec<Step> {
    let mut random = Rng::new(seed);
    (0..steps)
        .map(|step| {
            let key =
                format!("/usr/share/doc/package-{:04}/copyright", random.below(steps as u64)).into_bytes();
            match random.below(checkpoint_every) {
                0 => Step::Checkpoint,
                1..3 => Step::Remove(key),
                _ => {
                    let len = random.below(900) as usize;
                    Step::Put(
                        key,
                        format!("{step}:").into_bytes().into_iter().chain(vec![step as u8; len]).collect(),
                    )
                }
            }
        })
        .collect()
}

/// `states[n]` is what the first `n` steps leave.
pub fn states(script: &[Step]) -> Vec<State> {
    let mut state = State::new();
    let mut all = vec![state.clone()];
    for step in script {
        step.apply(&mut state);
        all.push(state.clone());
    }
    all
}

/// Everything in the store, by a scan.
pub fn contents(store: &Store) -> StoreResult<State> {
    let all = store.default_tree().range::<&[u8]>(..).collect::<Result<State, _>>();
    Ok(all?)
}

/// Everything in the store, once verification has found nothing wrong with it.
pub fn verified_contents(store: &Store) -> StoreResult<State> {
    let moment = || store.stats().map(|stats| (stats.auto_compact, stats.data_pages));
    let before = moment()?;
    let report = store.verify()?;
    assert!(report.is_sound(), "{:#?}", report.findings);
    // The sum is of one moment only if nobody moved pages, or cut the file, meanwhile.
    let after = moment()?;
    if before == after && !after.0.under_way {
        let told = report.map_pages + report.nodes + report.leaves + report.value_pages + report.free_pages;
        assert_eq!(report.pages, told, "{report:?}");
    }
    let contents = contents(store)?;
    assert_eq!(report.entries, contents.len() as u64);
    Ok(contents)
}

/// Runs the script, noting each step once it is acknowledged.
pub fn run(disk: &SimDisk, script: &[Step]) {
    let store = open(disk).expect("a healthy disk");
    for (number, step) in script.iter().enumerate() {
        step.run(&store).expect("a healthy disk");
        disk.note(number as u64 + 1);
    }
}
