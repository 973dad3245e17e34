//! Prevents: a tree found under another's name, an entry of another tree, a name that two have; a page that no tree has and nobody
//! can use, after any order of creating, renaming and dropping.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pagestone_btree::TreeError;
use pagestone_store::{Durability, MAX_TREE_NAME, Options, Store, StoreError};
use pagestone_testkit::{Rng, SimDisk};
use support::{State, small, space};

fn open_with(disk: &SimDisk, frames: usize) -> Store {
    let options = Options {
        pool_bytes: frames * 4096,
        durability: Durability::RELAXED,
        log_bytes: 64 << 20,
        segment_bytes: 8 << 20,
        ..small()
    };
    Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options).expect("opens")
}

fn is_not_found<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::TreeNotFound { .. }))
}

fn is_dropped<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::TreeDropped))
}

fn all(tree: &pagestone_store::Tree) -> State {
    tree.range::<&[u8]>(..).collect::<Result<State, _>>().expect("scan")
}

fn agree(store: &Store, model: &BTreeMap<Vec<u8>, State>) {
    let names: Vec<Vec<u8>> = store.trees().expect("trees").into_iter().map(|tree| tree.name).collect();
    assert!(names.iter().eq(model.keys()), "{names:?}");
    for (name, state) in model {
        assert!(all(&store.tree(name).expect("tree")) == *state, "{}", name.escape_ascii());
    }
}

fn run(seed: u64, frames: usize, steps: u64) {
    let disk = SimDisk::new(seed);
    let mut store = open_with(&disk, frames);
    let mut model: BTreeMap<Vec<u8>, State> = BTreeMap::new();
    let mut random = Rng::new(seed);
    let mut drops = 0;
    for step in 0..steps {
        let name = |random: &mut Rng| vec![b'a' + random.below(9) as u8; 1 + random.below(2) as usize * 190];
        let (one, other) = (name(&mut random), name(&mut random));
        match random.below(300) {
            0..3 => {
                let dropped = store.drop_tree(&one);
                match model.remove(&one) {
                    Some(_) => dropped.expect("dropped"),
                    None => assert!(is_not_found(dropped)),
                }
                drops += 1;
            }
            3..6 => match (model.contains_key(&one), model.contains_key(&other)) {
                (false, _) => assert!(is_not_found(store.rename_tree(&one, &other))),
                (true, true) => {
                    let error = store.rename_tree(&one, &other).expect_err("taken");
                    assert!(matches!(error, StoreError::TreeExists { .. }), "{error}");
                }
                (true, false) => {
                    let handle = store.tree(&one).expect("tree");
                    store.rename_tree(&one, &other).expect("renamed");
                    let state = model.remove(&one).expect("it is there");
                    assert_eq!(handle.id(), store.tree(&other).expect("tree").id());
                    assert_eq!(handle.len().expect("len"), state.len() as u64, "the handle stays good");
                    model.insert(other, state);
                }
            },
            6 => {
                if random.below(2) == 0 {
                    store.close().expect("close");
                }
                drop(store);
                store = open_with(&disk, frames);
                agree(&store, &model);
            }
            7 => store.checkpoint().expect("checkpoint"),
            8..200 => {
                let tree = store.tree(&one).expect("tree");
                let state = model.entry(one).or_default();
                // Long keys make high trees of few entries.
                let len = if random.below(3) == 0 { 480 } else { 10 };
                let key = format!("{:0>len$}", random.below(2000)).into_bytes();
                let value = vec![step as u8; random.below(300) as usize];
                let put = tree.put(&key, &value).expect("put");
                assert_eq!(put.replaced, state.insert(key, value).is_some());
            }
            _ => {
                let key = format!("{:0>10}", random.below(2000)).into_bytes();
                if let Some(state) = model.get_mut(&one) {
                    let tree = store.tree(&one).expect("tree");
                    assert_eq!(tree.get(&key).expect("get").as_ref(), state.get(&key));
                    assert_eq!(tree.remove(&key).expect("remove"), state.remove(&key).is_some());
                }
            }
        }
    }
    agree(&store, &model);
    assert!(store.default_tree().is_empty().expect("reads"), "nobody touched the default tree");
    assert!(drops > 50, "{drops}");
    store.close().expect("close");
    drop(store);
    let store = open_with(&disk, frames);
    agree(&store, &model);
    let trees = store.trees().expect("trees");
    store.close().expect("close");
    space::check(&disk, &trees);
}

#[test]
fn on_the_least_pool() {
    run(1, 32, 40_000);
}

#[test]
fn all_resident() {
    run(2, 4096, 40_000);
}

/// A tree of four levels goes whole, with every page, and its space is used again.
#[test]
fn dropped_tree_gives_all_of_its_pages_back() {
    let disk = SimDisk::new(3);
    let store = open_with(&disk, 64);
    for round in 0..3 {
        let tree = store.tree("tall").expect("tree");
        for number in 0..3000u32 {
            let key = format!("{:0>500}", number.wrapping_mul(2_654_435_761));
            tree.put(key.as_bytes(), &[7; 100]).expect("put");
        }
        let other = store.tree("other").expect("tree");
        other.put(&[round], &[round]).expect("put");
        let mut cursor = tree.cursor();
        assert!(cursor.next().expect("next").is_some());
        store.drop_tree("tall").expect("dropped");
        assert!(
            is_dropped(tree.put(b"key", b"value"))
                && is_dropped(tree.get(b"key"))
                && is_dropped(tree.remove(b"key"))
        );
        assert!(is_dropped(tree.len()) && is_dropped(tree.contains_key(b"key")));
        assert!(matches!(tree.range::<&[u8]>(..).next(), Some(Err(TreeError::Dropped))));
        assert!(matches!(cursor.next(), Err(TreeError::Dropped)), "a cursor ends with an error");
        assert!(matches!(cursor.seek(b""), Err(TreeError::Dropped)));
        assert!(is_not_found(store.drop_tree("tall")));
    }
    let pages = store.stats().expect("stats").data_pages;
    assert!(pages < 2 * 800, "three times the same tree, once its pages: {pages}");
    let trees = store.trees().expect("trees");
    store.close().expect("close");
    let used = space::check(&disk, &trees);
    assert_eq!(used, 4, "map, default tree, catalog, the other tree");
}

#[test]
fn handles_are_clones_of_one_tree() {
    let store = open_with(&SimDisk::new(1), 64);
    let (one, two) = (store.tree("name").expect("tree"), store.tree("name").expect("tree"));
    let cursor = one.cursor();
    drop(one);
    store.rename_tree("name", "new").expect("renamed");
    let three = store.tree("new").expect("tree");
    let fresh = store.tree("name").expect("a new tree");
    assert_ne!(fresh.id(), two.id());
    two.put(b"key", b"two").expect("put");
    fresh.put(b"key", b"fresh").expect("put");
    assert_eq!(three.get(b"key").expect("get").as_deref(), Some(&b"two"[..]));
    drop((two, three));
    // Only a cursor uses the tree now, and it is told.
    store.drop_tree("new").expect("dropped");
    let mut cursor = cursor;
    assert!(matches!(cursor.next(), Err(TreeError::Dropped)));
    assert_eq!(fresh.get(b"key").expect("get").as_deref(), Some(&b"fresh"[..]));
}

#[test]
fn two_thousand_names_split_the_catalog() {
    let disk = SimDisk::new(1);
    let store = open_with(&disk, 64);
    let name = |number: u32| format!("{:0>150}", number.wrapping_mul(2_654_435_761));
    for number in 0..2000 {
        store.tree(name(number)).expect("tree").put(b"number", &number.to_le_bytes()).expect("put");
    }
    for number in (0..2000).step_by(3) {
        store.rename_tree(name(number), format!("renamed-{number}")).expect("renamed");
    }
    for number in (1..2000).step_by(3) {
        store.drop_tree(name(number)).expect("dropped");
    }
    drop(store);
    let store = open_with(&disk, 64);
    let trees = store.trees().expect("trees");
    assert!(trees.is_sorted_by(|a, b| a.name < b.name));
    assert_eq!(trees.len(), 2000 - 667);
    for number in (0..2000).filter(|number| number % 3 != 1) {
        let name = if number % 3 == 0 { format!("renamed-{number}") } else { name(number) };
        let found = store.tree(name).expect("tree").get(b"number").expect("get");
        assert_eq!(found, Some(number.to_le_bytes().to_vec()));
    }
    assert_eq!(store.trees().expect("trees").len(), trees.len(), "none was made anew");
    store.close().expect("close");
    space::check(&disk, &trees);
}

#[test]
fn names_of_every_length_and_byte() {
    let disk = SimDisk::new(1);
    let store = open_with(&disk, 64);
    let names: Vec<Vec<u8>> = (0..=255u8)
        .map(|byte| vec![byte])
        .chain((1..=MAX_TREE_NAME).step_by(7).map(|len| vec![b'n'; len]))
        .chain([vec![0; MAX_TREE_NAME], vec![0xff; MAX_TREE_NAME]])
        .collect();
    for name in &names {
        store.tree(name).expect("tree").put(b"name", name).expect("put");
    }
    for name in &names {
        assert_eq!(store.tree(name).expect("tree").get(b"name").expect("get").as_ref(), Some(name));
    }
    for name in [&b""[..], &[b'n'; MAX_TREE_NAME + 1]] {
        let errors = [
            store.tree(name).map(drop),
            store.drop_tree(name),
            store.rename_tree(name, "good"),
            store.rename_tree("n", name),
        ];
        for error in errors {
            let error = error.expect_err("no name");
            assert!(matches!(error, StoreError::TreeName { .. }), "{error}");
        }
    }
    let error = store.drop_tree(b"\x00\xff\n").expect_err("not there").to_string();
    assert_eq!(error, "no tree \"\\x00\\xff\\n\"");
    assert!(matches!(store.rename_tree("n", "n"), Err(StoreError::TreeExists { .. })));
    store.close().expect("close");
    assert!(matches!(store.tree("n"), Err(StoreError::Closed)));
    assert!(matches!(store.trees(), Err(StoreError::Closed)));
    assert!(matches!(store.drop_tree("n"), Err(StoreError::Closed)));
    assert!(matches!(store.rename_tree("n", "m"), Err(StoreError::Closed)));
}

/// Trees made for a day, and dropped when it has passed: their names rise and never come back.
#[test]
fn catalog_of_trees_that_come_and_go_takes_no_more_space_than_those_that_are_there() {
    let disk = SimDisk::new(2);
    let store = open_with(&disk, 64);
    let name = |number: u32| format!("{number:06}{}", "n".repeat(180));
    let leaves = |live: u32| {
        let report = store.verify().expect("verified");
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!(report.trees, u64::from(live) + 1);
        report.leaves - report.trees
    };
    for number in 0..600 {
        store.tree(name(number)).expect("tree");
        if number >= 60 {
            store.drop_tree(name(number - 60)).expect("dropped");
        }
        assert!(number % 60 > 0 || leaves((number + 1).min(60)) < 12, "{} leaves", leaves(60));
    }
    // By renames, too.
    for number in 600..1200 {
        store.rename_tree(name(number - 60), name(number)).expect("renamed");
        assert!(number % 60 > 0 || leaves(60) < 12, "{} leaves", leaves(60));
    }
    for number in 1140..1200 {
        store.drop_tree(name(number)).expect("dropped");
    }
    assert_eq!(leaves(0), 1, "the catalog's root");
    store.close().expect("close");
    assert_eq!(space::check(&disk, &[]), 3);
}

#[test]
fn empty_store_is_at_most_64_kib_and_its_catalog_empty() {
    let disk = SimDisk::new(1);
    let store = open_with(&disk, 64);
    assert_eq!(store.trees().expect("trees"), []);
    store.close().expect("close");
    assert!(disk.contents("/store/data").expect("read").len() <= 64 << 10);
    assert_eq!(space::check(&disk, &[]), 3);
}
