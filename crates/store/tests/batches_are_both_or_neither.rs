//! Prevents: a batch over two trees of which a crash leaves a part, and a page that nobody has any more after a cut between the
//! splits that made room for a batch and the batch (R1, R2, C1 to C9).

mod support;

use std::collections::BTreeMap;

use pagestone_store::{Batch, Store, StoreError, StoreResult, Tree};
use pagestone_testkit::{CrashImage, CrashOptions, Rng, SimDisk};
use support::{State, open, space};

const NAMES: [&str; 2] = ["left", "right"];

/// The change of one key in one tree.
type Change = (usize, Vec<u8>, Option<Vec<u8>>);
type States = [State; 2];

#[derive(Debug)]
enum Step {
    Batch(Vec<Change>),
    Checkpoint,
}

fn apply(changes: &[Change], states: &mut States) {
    for (tree, key, value) in changes {
        match value {
            Some(value) => drop(states[*tree].insert(key.clone(), value.clone())),
            None => drop(states[*tree].remove(key)),
        }
    }
}

/// Batches that always change both trees: loads that divide an empty leaf at once, values that grow where they stand, removals.
fn script(seed: u64, steps: u64) -> Vec<Step> {
    let mut random = Rng::new(seed);
    let mut version = 0_u8;
    (0..steps)
        .map(|step| {
            version = version.wrapping_add(1);
            if random.below(12) == 0 {
                return Step::Checkpoint;
            }
            let load = step % 9 == 0;
            let near = random.below(40);
            let mut changes: Vec<Change> = vec![
                (0, b"/usr/count".to_vec(), Some(vec![version; 9])),
                (1, b"/usr/count".to_vec(), Some(vec![version; 9])),
            ];
            for number in 0..if load { 18 } else { 6 } {
                let key = match load {
                    true => format!("/usr/load/{step:03}/{number:02}"),
                    false => format!("/usr/share/doc/{:02}/copyright", near + random.below(3)),
                };
                let remove = !load && random.below(4) == 0;
                let len = if load { 700 } else { random.below(900) as usize };
                let value = (!remove).then(|| vec![version; len]);
                changes.push((number % 2, key.into_bytes(), value));
            }
            Step::Batch(changes)
        })
        .collect()
}

fn trees(store: &Store) -> StoreResult<[Tree; 2]> {
    Ok([store.tree(NAMES[0])?, store.tree(NAMES[1])?])
}

fn batch(store: &Store, trees: &[Tree; 2], changes: &[Change]) -> StoreResult<Batch> {
    let mut batch = store.batch();
    for (tree, key, value) in changes {
        match value {
            Some(value) => batch.put(&trees[*tree], key, value)?,
            None => batch.remove(&trees[*tree], key)?,
        }
    }
    Ok(batch)
}

/// Runs the script: both trees are there when the first step is noted.
fn run(disk: &SimDisk, script: &[Step]) -> u64 {
    let store = open(disk).expect("a healthy disk");
    let trees = trees(&store).expect("a healthy disk");
    disk.note(0);
    for (number, step) in script.iter().enumerate() {
        match step {
            Step::Batch(changes) => {
                batch(&store, &trees, changes).and_then(|mut batch| batch.commit()).expect("a healthy disk");
            }
            Step::Checkpoint => store.checkpoint().expect("a healthy disk"),
        }
        disk.note(number as u64 + 1);
    }
    store.stats().expect("stats").tree.splits
}

fn contents(tree: &Tree) -> State {
    tree.range::<&[u8]>(..).collect::<Result<BTreeMap<_, _>, _>>().expect("reads")
}

/// Both trees are as after every acknowledged step, or both as after the one under way too; nothing is leaked.
fn check(image: &CrashImage, states: &[States]) -> bool {
    let Some(acknowledged) = image.acknowledged().last().map(|last| *last as usize) else { return false };
    let disk = image.disk();
    let store = open(&disk).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let trees = trees(&store).expect("trees");
    let found = [contents(&trees[0]), contents(&trees[1])];
    let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
    assert!(
        legal.contains(&found),
        "after {acknowledged} acknowledged steps neither both nor none of the next: {}",
        image.explain()
    );
    let infos = store.trees().expect("trees");
    store.close().expect("closes");
    drop((store, trees));
    space::check(&disk, &infos);
    true
}

fn enumerate(seed: u64, steps: u64, options: &CrashOptions) -> u64 {
    let script = script(seed, steps);
    let disk = SimDisk::new(seed);
    let splits = run(&disk, &script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    assert!(splits > steps / 4, "{splits} splits made room");
    let mut states = vec![States::default()];
    for step in &script {
        let mut next = states[states.len() - 1].clone();
        if let Step::Batch(changes) = step {
            apply(changes, &mut next);
        }
        states.push(next);
    }
    disk.crash_states(options).filter(|image| check(image, &states)).count() as u64
}

/// Data pages are whole or old here: what tears in them is another promise.
fn whole_pages() -> CrashOptions {
    CrashOptions::default().page_atomic(|path| path.to_string_lossy().starts_with("/store/data"))
}

#[test]
fn at_every_cut() {
    let options = CrashOptions { exhaustive_max: 16, pairs_max: 2, splits_max: 4, ..whole_pages() };
    let images = enumerate(21, 40, &options);
    assert!(images > 500, "only {images} images");
}

#[test]
fn with_every_combination_of_few_batches() {
    let options = CrashOptions { exhaustive_max: 1024, ..whole_pages() };
    let images = enumerate(22, 8, &options);
    assert!(images > 500, "only {images} images");
}

/// A tree that is dropped under a batch refuses it, and then the other tree has nothing of it either.
#[test]
fn beside_a_drop() {
    let disk = SimDisk::new(31);
    let store = open(&disk).expect("opens");
    let left = store.tree(NAMES[0]).expect("a tree");
    let mut written = 0_u64;
    for _ in 0..40 {
        let right = store.tree(NAMES[1]).expect("a tree");
        written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_until_dropped(&store, &left, &right, written + 1));
            while right.is_empty().expect("reads") {
                std::thread::yield_now();
            }
            store.drop_tree(NAMES[1]).expect("a drop");
            writer.join().expect("the writer")
        });
        for part in 0..4 {
            let found = left.get(&[part]).expect("get");
            assert_eq!(found, Some(written.to_be_bytes().to_vec()), "part {part}");
        }
    }
    drop(left);
    let infos = store.trees().expect("trees");
    store.close().expect("closes");
    drop(store);
    space::check(&disk, &infos);
}

/// The number of the last batch that was written.
fn write_until_dropped(store: &Store, left: &Tree, right: &Tree, first: u64) -> u64 {
    for number in first.. {
        let mut batch = store.batch();
        for part in 0..4 {
            batch.put(left, &[part], &number.to_be_bytes()).expect("a tree of this store");
            batch.put(right, &[part, number as u8], &[part; 700]).expect("a tree of this store");
        }
        match batch.commit() {
            Ok(done) => assert_eq!(done.inserted + done.replaced, 8),
            Err(StoreError::TreeDropped) => return number - 1,
            Err(error) => panic!("{error}"),
        }
        if number.is_multiple_of(32) {
            store.checkpoint().expect("a checkpoint");
        }
    }
    unreachable!("the tree is dropped")
}

/// Extents of long values go with the entries that a batch replaces or removes.
#[test]
fn extents_go_with_the_values_that_a_batch_replaces_or_removes() {
    let disk = SimDisk::new(41);
    let store = open(&disk).expect("opens");
    let trees = trees(&store).expect("trees");
    for round in 0..5_u8 {
        for tree in &trees {
            for key in 0..4 {
                tree.put(&[key], &vec![round; 30_000]).expect("a long value");
            }
        }
        let mut batch = store.batch();
        for tree in &trees {
            batch.put(tree, &[0], b"short").expect("a tree of this store");
            batch.remove(tree, &[1]).expect("a tree of this store");
            batch.put(tree, &[2], &[round; 500]).expect("a tree of this store");
        }
        let done = batch.commit().expect("commits");
        assert_eq!((done.inserted, done.replaced, done.removed), (0, 4, 2));
        store.checkpoint().expect("a checkpoint");
        let report = store.verify().expect("verifies");
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!(report.entries, 6);
        assert_eq!(trees[1].get(&[3]).expect("get"), Some(vec![round; 30_000]));
    }
}
