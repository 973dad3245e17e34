//! Prevents: a batch of which a long value is missing after a power cut, or there without the rest; pages of values that nobody has
//! any more after a cut or an error; a sync of the data file for each value of a batch (L8, L12, V1).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_btree::TreeError;
use pagestone_page_format::PageError;
use pagestone_store::{Options, Store, StoreError, StoreResult, Tree};
use pagestone_testkit::{CrashImage, CrashOptions, DiskOp, FaultPlan, Rng, SimDisk};
use support::{DIR, State, open, small};

const ENOSPC: i32 = 28;
const NAMES: [&str; 2] = ["left", "right"];

/// The change of one key in one tree.
type Change = (usize, Vec<u8>, Option<Vec<u8>>);
type States = [State; 2];

#[derive(Debug)]
enum Step {
    Batch(Vec<Change>),
    Checkpoint,
}

/// It was made under the second name, which its handle keeps.
fn is_data(path: &Path) -> bool {
    path.ends_with("data") || path.ends_with("data.new")
}

fn value(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed as u8).collect()
}

/// Few keys in both trees, values from nothing to some pages; put, replaced by long and short ones, removed.
fn script(seed: u64, steps: u64, checkpoints: bool) -> Vec<Step> {
    let mut random = Rng::new(seed);
    let mut step = |number: u64| {
        if checkpoints && random.below(5) == 0 {
            return Step::Checkpoint;
        }
        let mut change = |tree: usize, key: Vec<u8>| {
            let len = [0, 300, 1200, 4064, 4065, 9000, 20_000][random.below(7) as usize];
            let value = (random.below(5) > 0).then(|| value(number, len));
            (tree, key, value)
        };
        let mut changes: Vec<Change> = (0..4).map(|n| change(n % 2, vec![b'k', n as u8 / 2])).collect();
        changes
            .extend((0..2).map(|tree| (tree, b"both".to_vec(), Some(value(number, 5000 + number as usize)))));
        Step::Batch(changes)
    };
    (0..steps).map(&mut step).collect()
}

fn states(script: &[Step]) -> Vec<States> {
    let mut states = vec![States::default()];
    for step in script {
        let mut next = states[states.len() - 1].clone();
        if let Step::Batch(changes) = step {
            for (tree, key, value) in changes {
                match value {
                    Some(value) => drop(next[*tree].insert(key.clone(), value.clone())),
                    None => drop(next[*tree].remove(key)),
                }
            }
        }
        states.push(next);
    }
    states
}

fn trees(store: &Store) -> StoreResult<[Tree; 2]> {
    Ok([store.tree(NAMES[0])?, store.tree(NAMES[1])?])
}

fn contents(tree: &Tree) -> State {
    tree.range::<&[u8]>(..).collect::<Result<State, _>>().expect("reads")
}

fn commit(store: &Store, trees: &[Tree; 2], changes: &[Change]) -> StoreResult<()> {
    let mut batch = store.batch();
    for (tree, key, value) in changes {
        match value {
            Some(value) => batch.put(&trees[*tree], key, value)?,
            None => batch.remove(&trees[*tree], key)?,
        }
    }
    batch.commit().map(|_| ())
}

/// Runs the script: both trees are there when the first step is noted.
fn run(disk: &SimDisk, script: &[Step]) {
    let store = open(disk).expect("a healthy disk");
    let trees = trees(&store).expect("a healthy disk");
    disk.note(0);
    for (number, step) in script.iter().enumerate() {
        match step {
            Step::Batch(changes) => commit(&store, &trees, changes).expect("a healthy disk"),
            Step::Checkpoint => store.checkpoint().expect("a healthy disk"),
        }
        disk.note(number as u64 + 1);
    }
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
}

/// Both trees are as after every acknowledged step, or both as after the one under way too; nothing is leaked.
fn check(image: &CrashImage, states: &[States]) -> bool {
    let Some(acknowledged) = image.acknowledged().last().map(|last| *last as usize) else { return false };
    let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let trees = trees(&store).expect("trees");
    let found = [contents(&trees[0]), contents(&trees[1])];
    assert!(
        states[acknowledged..states.len().min(acknowledged + 2)].contains(&found),
        "after {acknowledged} acknowledged steps neither both nor none of the next: {}",
        image.explain()
    );
    let report = store.verify().expect("verifies");
    assert!(report.is_sound(), "{:?}: {}", report.findings, image.explain());
    true
}

fn enumerate(script: &[Step], options: &CrashOptions) -> usize {
    let disk = SimDisk::new(1);
    run(&disk, script);
    let states = states(script);
    disk.crash_states(options).filter(|image| check(image, &states)).count()
}

#[test]
fn torn_anywhere_while_no_other_page_is_written() {
    let options =
        CrashOptions { exhaustive_max: 8, pairs_max: 4, splits_max: 6, random: 2, ..CrashOptions::default() };
    let images = enumerate(&script(3, 14, false), &options);
    assert!(images > 500, "only {images} images");
}

#[test]
fn beside_checkpoints_that_let_the_space_be_used_again() {
    let script = script(6, 32, true);
    assert!(script.iter().filter(|step| matches!(step, Step::Checkpoint)).count() >= 4);
    let options =
        CrashOptions { exhaustive_max: 4, pairs_max: 2, splits_max: 3, random: 1, ..CrashOptions::default() };
    let images = enumerate(&script, &options);
    assert!(images > 500, "only {images} images");
}

/// Whatever call of the data file fails for want of room: nothing is changed, and every place is given back.
#[test]
fn a_full_disk_in_the_middle_leaves_no_trace() {
    let disk = SimDisk::new(1);
    let options = Options { pool_bytes: 128 * 4096, ..small() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens");
    let trees = trees(&store).expect("trees");
    let first: Vec<Change> =
        (0..6).map(|n| (n % 2, vec![n as u8], Some(value(n as u64, 9000 * (n % 3))))).collect();
    commit(&store, &trees, &first).expect("a healthy disk");
    let before = [contents(&trees[0]), contents(&trees[1])];
    // Long ones over long and short ones; each is more than the file grows by at a time.
    let second: Vec<Change> = (0..6).map(|n| (n % 2, vec![n as u8], Some(value(9, 1_300_000 + n)))).collect();
    let mut failed = [0, 0];
    for (kind, op) in [DiskOp::Reserve, DiskOp::Write].into_iter().enumerate() {
        for skip in 0.. {
            let plan = FaultPlan::errno(ENOSPC).on(op).path(is_data);
            let plan = disk.fail(plan.skip(skip).forever());
            let done = commit(&store, &trees, &second);
            let injected = disk.injected(plan);
            disk.heal();
            match done {
                Ok(()) => break,
                Err(StoreError::Tree(TreeError::Page(PageError::NoSpace { .. } | PageError::Io { .. }))) => {}
                Err(StoreError::Page(PageError::NoSpace { .. } | PageError::Io { .. })) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(injected > 0);
            failed[kind] += 1;
            assert!([contents(&trees[0]), contents(&trees[1])] == before, "{op:?} {skip}: applied in part");
            let report = store.verify().expect("verifies");
            assert!(report.is_sound(), "{op:?} {skip}: {:?}", report.findings);
        }
        // It went through once; back to what was.
        commit(&store, &trees, &first).expect("a healthy disk");
        store.checkpoint().expect("a healthy disk");
        store.checkpoint().expect("a healthy disk");
    }
    assert!(failed.iter().all(|times| *times >= 2), "{failed:?}: not in the middle");
    // What was reserved and given back was used again, time after time: the file has room for the batch twice and no more.
    let bytes = disk.contents("/store/data").expect("a data file").len();
    assert!(bytes < 3 * 6 * 1_300_000, "{bytes} bytes after {failed:?} failures");
    commit(&store, &trees, &second).expect("a healthy disk");
    drop((store, trees));
    let store = open(&disk).expect("opens");
    assert_eq!(contents(&store.tree(NAMES[1]).expect("a tree"))[&[5][..]].len(), 1_300_005);
    assert!(store.verify().expect("verifies").is_sound());
}

#[test]
fn all_values_of_a_batch_wait_for_one_sync() {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    let trees = trees(&store).expect("trees");
    let changes = |count: usize| -> Vec<Change> {
        (0..count).map(|n| (n % 2, vec![n as u8], Some(value(n as u64, 9000)))).collect()
    };
    commit(&store, &trees, &changes(2)).expect("a healthy disk");
    let mut syncs = [0, 0];
    for (count, syncs) in [1, 24].into_iter().zip(&mut syncs) {
        let before = disk.calls(DiskOp::Sync);
        commit(&store, &trees, &changes(count)).expect("a healthy disk");
        *syncs = disk.calls(DiskOp::Sync) - before;
    }
    assert_eq!(syncs, [2, 2], "the data file, and then the log");
}

/// A batch of long values goes on where space was freed: before the file grows beside it, checkpoints make it free.
#[test]
fn replaced_over_and_over_the_file_stays_small() {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    let trees = trees(&store).expect("trees");
    for round in 0..40 {
        let changes: Vec<Change> =
            (0..8).map(|n| (n % 2, vec![n as u8], Some(value(round, 200_000)))).collect();
        commit(&store, &trees, &changes).expect("a healthy disk");
    }
    assert!(store.verify().expect("verifies").is_sound());
    let bytes = disk.contents("/store/data").expect("a data file").len();
    assert!(bytes < 6 * 8 * 200_000, "{bytes} bytes for 8 values of 200 kB");
}
