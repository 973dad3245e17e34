//! Prevents: a batch that loses, invents or misplaces a change, that counts wrongly, or that is applied in part when it is refused.

mod support;

use std::collections::BTreeMap;

use pagestone_btree::{BatchChange, BatchDone, BatchOp, TreeError, apply_batch};
use pagestone_testkit::Rng;
use support::{Change, State, contents, environment, ops, trees};

/// Keys of all shapes: empty, short, long with shared prefixes, binary, at the limit.
fn key(random: &mut Rng, max: usize, near: u64) -> Vec<u8> {
    let number = (near + random.below(300)) % 3000;
    match random.below(10) {
        0 => Vec::new(),
        1 => vec![(number % 256) as u8; (number % 7) as usize],
        2 => (number as u16).to_be_bytes().to_vec(),
        3 => [vec![b'x'; max - 2], (number as u16 % 64).to_be_bytes().to_vec()].concat(),
        4..7 => format!("/usr/share/doc/package/{number:05}").into_bytes(),
        _ => format!("/usr/lib/x86_64-linux-gnu/some/deep/path/{:03}/{number}", number / 50).into_bytes(),
    }
}

/// A value of which no two pages are alike.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + seed) as u8).collect()
}

/// What the changes do to the maps, and what is to be told of it.
fn apply(states: &mut [State], changes: &[Change]) -> BatchDone {
    let last: BTreeMap<_, _> =
        changes.iter().map(|(tree, key, value)| ((*tree, key.clone()), value.clone())).collect();
    let mut done = BatchDone::default();
    for ((tree, key), value) in last {
        let was = match value {
            Some(value) => states[tree].insert(key, value).map(|_| true),
            None => states[tree].remove(&key).map(|_| false),
        };
        match was {
            Some(true) => done.replaced += 1,
            Some(false) => done.removed += 1,
            None => {}
        }
    }
    done
}

fn agree(page: usize, frames: usize, seed: u64, batches: usize, most: u64) {
    let env = environment(page, frames);
    let trees = trees(&env, 3);
    let mut states = vec![State::new(); 3];
    let mut random = Rng::new(seed);
    let mut refused = 0;
    for batch in 0..batches {
        let len = random.below(most) as usize;
        let near = random.below(3000);
        let changes: Vec<Change> = (0..len)
            .map(|index| {
                let tree = random.below(3) as usize;
                let key = key(&mut random, trees[0].max_key_len(), near);
                if random.below(4) == 0 || batch % 7 == 6 {
                    return (tree, key, None);
                }
                let max = trees[0].max_inline_value(key.len());
                let len = match random.below(14) {
                    0 => max,
                    1 => 0,
                    // In extents.
                    2 => max + 1,
                    3 => (page << random.below(4)) + random.below(page as u64) as usize,
                    _ => random.below(200.min(max as u64)) as usize,
                };
                (tree, key, Some(bytes(batch + index, len)))
            })
            .collect();
        let before: Vec<usize> = states.iter().map(State::len).collect();
        match apply_batch(&env, &ops(&trees, &changes)) {
            Ok(done) => {
                let expected = apply(&mut states, &changes);
                assert_eq!((done.replaced, done.removed), (expected.replaced, expected.removed));
                let grown: usize = states
                    .iter()
                    .zip(&before)
                    .map(|(state, before)| state.len().wrapping_sub(*before))
                    .fold(0, usize::wrapping_add);
                assert_eq!(done.inserted.wrapping_sub(done.removed), grown);
                assert_eq!(done.lsn.is_some(), done.inserted + done.replaced + done.removed > 0);
            }
            Err(TreeError::BatchTooLarge { what: "leaves", found, max }) => {
                assert!(max == frames / 4 && found > max && len > max, "{found} {max} {len}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        // Single changes in between, so that a batch meets what they leave.
        for _ in 0..5 {
            let (tree, key) = (random.below(3) as usize, key(&mut random, trees[0].max_key_len(), near));
            if random.below(2) == 0 {
                let value = bytes(batch, if random.below(8) == 0 { 2 * page } else { 60 });
                let replaced = trees[tree].put(&key, &value).expect("put").replaced;
                assert_eq!(replaced, states[tree].insert(key, value).is_some());
            } else {
                let removed = trees[tree].remove(&key).expect("remove").is_some();
                assert_eq!(removed, states[tree].remove(&key).is_some());
            }
        }
        if batch % (batches / 8) == 0 || batch + 1 == batches {
            for (tree, state) in trees.iter().zip(&states) {
                assert!(contents(tree) == *state, "after batch {batch}");
            }
        }
    }
    assert!(refused < batches * 3 / 4, "{refused} of {batches} were refused");
    let stats: Vec<_> = trees.iter().map(|tree| tree.stats().expect("stats")).collect();
    assert!(
        stats.iter().all(|stats| stats.splits > 0) && stats.iter().any(|stats| stats.merges > 0),
        "{stats:?}"
    );
}

#[test]
fn on_4_kib_pages_all_resident() {
    agree(4096, 4096, 1, 600, 200);
}

#[test]
fn on_4_kib_pages_with_the_least_pool() {
    agree(4096, 32, 2, 1500, 10);
}

#[test]
fn on_4_kib_pages_at_the_bound() {
    agree(4096, 128, 3, 600, 120);
}

#[test]
fn on_64_kib_pages_with_the_least_pool() {
    agree(65_536, 32, 4, 400, 14);
}

/// One batch into an empty tree: leaves are filled, whatever their number.
#[test]
fn a_load_into_an_empty_tree_fills_its_leaves() {
    let env = environment(4096, 2048);
    let trees = trees(&env, 1);
    let mut state = State::new();
    for load in 0..3u64 {
        let changes: Vec<Change> = (0..5000u64)
            .map(|number| (0, format!("key-{load}-{number:012}").into_bytes(), Some(vec![load as u8; 100])))
            .collect();
        let done = apply_batch(&env, &ops(&trees, &changes)).expect("a batch");
        assert_eq!((done.inserted, done.replaced, done.removed), (5000, 0, 0));
        state.extend(changes.into_iter().filter_map(|(_, key, value)| Some((key, value?))));
    }
    assert!(contents(&trees[0]) == state);
    let bytes: usize = state.iter().map(|(key, value)| key.len() + value.len()).sum();
    let pages = trees[0].stats().expect("stats").splits as usize + 1;
    assert!(pages * 4096 < bytes * 115 / 100, "{pages} pages for {bytes} bytes");
}

/// Values at their limit, keys at theirs, into leaves that are full of small ones.
#[test]
fn the_largest_cells_find_room_between_the_smallest() {
    let env = environment(4096, 1024);
    let trees = trees(&env, 2);
    let max = trees[0].max_key_len();
    let mut states = vec![State::new(); 2];
    let small: Vec<Change> = (0..2000u32)
        .map(|number| ((number % 2) as usize, number.to_be_bytes().to_vec(), Some(vec![1; 8])))
        .collect();
    apply(&mut states, &small);
    apply_batch(&env, &ops(&trees, &small)).expect("a batch");
    for (round, key_len) in [(0, 5), (1, max), (2, max / 2)] {
        let large: Vec<Change> = (0..100u32)
            .map(|number| {
                let mut key = (number * 19 + round).to_be_bytes().to_vec();
                key.resize(key_len, 0xee);
                let value = vec![2; trees[0].max_inline_value(key_len)];
                ((number % 2) as usize, key, Some(value))
            })
            .collect();
        apply(&mut states, &large);
        apply_batch(&env, &ops(&trees, &large)).expect("a batch");
        assert!(trees.iter().zip(&states).all(|(tree, state)| contents(tree) == *state), "round {round}");
    }
    // Every value shrinks in one batch, and grows again in another.
    for len in [0, 200] {
        let value = |key: &Vec<u8>| vec![3; trees[1].max_inline_value(key.len()).min(len)];
        let changes: Vec<Change> = states[1].keys().map(|key| (1, key.clone(), Some(value(key)))).collect();
        let done = apply_batch(&env, &ops(&trees, &changes)).expect("a batch");
        assert_eq!((done.inserted, done.replaced), (0, changes.len()));
        apply(&mut states, &changes);
        assert!(contents(&trees[1]) == states[1], "values of {len}");
    }
}

#[test]
fn what_is_too_large_is_refused_and_changes_nothing() {
    let env = environment(4096, 64);
    let trees = trees(&env, 2);
    let put = |tree, number: u32, len| (tree, number.to_be_bytes().to_vec(), Some(vec![9; len]));
    let first: Vec<Change> = (0..15).map(|number| put(number as usize % 2, number, 900)).collect();
    apply_batch(&env, &ops(&trees, &first)).expect("fits");
    let (before, split) = (trees.iter().map(contents).collect::<Vec<_>>(), splits(&trees));
    let refused = |changes: &[Change]| {
        let error = apply_batch(&env, &ops(&trees, changes)).expect_err("too large");
        assert_eq!(trees.iter().map(contents).collect::<Vec<_>>(), before, "{error}");
        error
    };
    // One leaf more than a quarter of the frames.
    let many: Vec<Change> = (100..180).map(|number| put(0, number, 900)).collect();
    let error = refused(&many);
    assert!(matches!(error, TreeError::BatchTooLarge { what: "leaves", max: 16, .. }), "{error}");
    assert_eq!(splits(&trees), split, "room was made for a batch that was refused");
    // More bytes than a group of the log has.
    let long: Vec<Change> = (0..6000).map(|_| put(0, 1, 900)).collect();
    assert!(apply_batch(&env, &ops(&trees, &long)).is_ok(), "six thousand changes of one key are one");
    let before = trees.iter().map(contents).collect::<Vec<_>>();
    let long: Vec<Change> = (0..6000).map(|number| put(0, number, 900)).collect();
    let error = apply_batch(&env, &ops(&trees, &long)).expect_err("too large");
    assert!(matches!(error, TreeError::BatchTooLarge { what: "log bytes", .. }), "{error}");
    // One entry that is refused by itself.
    let bad = (1, vec![1; 4096], Some(vec![]));
    let error =
        apply_batch(&env, &ops(&trees, &[put(0, 1, 5), put(0, 2, 50_000), bad])).expect_err("too long");
    assert!(matches!(error, TreeError::KeyTooLong { .. }), "{error}");
    // A tree of another store.
    let other = support::trees(&environment(4096, 64), 1);
    let change = [put(0, 1, 5)];
    let foreign = [ops(&trees, &change), ops(&other, &change)].concat();
    let error = apply_batch(&env, &foreign).expect_err("another store");
    assert!(matches!(error, TreeError::ForeignTree { tree_id: 1 }), "{error}");
    assert_eq!(trees.iter().map(contents).collect::<Vec<_>>(), before);
    // Nothing at all, and the removal of what is nowhere, change nothing and are durable at once.
    assert_eq!(apply_batch(&env, &[]).expect("empty"), BatchDone::default());
    let nowhere = [(0, vec![7; 5000], None), (1, vec![7], None)];
    assert_eq!(apply_batch(&env, &ops(&trees, &nowhere)).expect("nothing to do"), BatchDone::default());
}

#[test]
fn more_long_values_than_the_log_has_room_for_take_no_space() {
    let env = environment(4096, 64);
    let tree = &trees(&env, 1)[0];
    let before = env.pool().store().len().expect("a length");
    let (keys, value) = ((0..100_000_u32).map(u32::to_be_bytes).collect::<Vec<_>>(), vec![1; 5000]);
    let put = |key| BatchOp { tree, key, change: BatchChange::Put(&value) };
    let batch: Vec<BatchOp<'_>> = keys.iter().map(|key| put(&key[..])).collect();
    let error = apply_batch(&env, &batch).expect_err("too large");
    assert!(matches!(error, TreeError::BatchTooLarge { what: "log bytes", .. }), "{error}");
    assert_eq!(
        env.pool().store().len().expect("a length"),
        before,
        "the file grew for a batch that was refused"
    );
}

/// Values under more map pages than a batch may hold: refused before the first one is written.
#[test]
fn values_in_too_many_regions_are_refused_and_give_their_places_back() {
    let env = environment(4096, 32);
    let trees = trees(&env, 2);
    // Nearly a region each.
    let value = vec![0; 125 << 20];
    let put = |tree: usize, key: &'static [u8]| BatchOp {
        tree: &trees[tree],
        key,
        change: BatchChange::Put(&value),
    };
    let in_use = || env.allocator().high_water().expect("a region") - env.allocator().free_count();
    let before = in_use();
    let keys: [&[u8]; 9] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"];
    let batch: Vec<BatchOp<'_>> = keys.iter().enumerate().map(|(number, key)| put(number % 2, key)).collect();
    let error = apply_batch(&env, &batch).expect_err("nine map pages");
    assert!(matches!(error, TreeError::BatchTooLarge { what: "map pages", found: 9, max: 8 }), "{error}");
    assert!(trees.iter().all(|tree| tree.is_empty().expect("reads")));
    assert_eq!(in_use(), before + 8, "beside the map pages all places are free again");
}

/// What a batch empties goes back, as after single removals.
#[test]
fn leaves_that_a_batch_leaves_sparse_are_merged() {
    let env = environment(4096, 1024);
    let trees = trees(&env, 2);
    let all = |value: Option<Vec<u8>>| -> Vec<Change> {
        let change = |number: u32| ((number % 2) as usize, number.to_be_bytes().to_vec(), value.clone());
        (0..4000).map(change).collect()
    };
    for _ in 0..3 {
        let done = apply_batch(&env, &ops(&trees, &all(Some(vec![1; 100])))).expect("a batch");
        assert_eq!(done.inserted, 4000);
        let done = apply_batch(&env, &ops(&trees, &all(None))).expect("a batch");
        assert_eq!(done.removed, 4000);
        for tree in &trees {
            assert!(tree.is_empty().expect("reads"));
            assert_eq!(tree.stats().expect("stats").height, 1, "{:?}", tree.stats());
        }
    }
}

fn splits(trees: &[pagestone_btree::BTree]) -> u64 {
    trees.iter().map(|tree| tree.stats().expect("stats").splits).sum()
}
