//! Prevents: a bulk load that loses or misplaces an entry, leaves pages half empty, or is there by halves after a crash; an error in one
//! that costs a page, or leaves an entry.

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_btree::TreeError;
use pagestone_page_format::PageSize;
use pagestone_store::{Durability, Options, Store, StoreError};
use pagestone_testkit::{CrashOptions, Rng, SimDisk};
use support::{State, open, small, verified_contents};

fn store(page: usize, frames: usize) -> Store {
    let options = Options {
        page_size: PageSize::new(page).expect("a page size"),
        pool_bytes: frames * page,
        durability: Durability::RELAXED,
        log_bytes: 64 << 20,
        segment_bytes: 8 << 20,
        ..small()
    };
    Store::open_on(Arc::new(SimDisk::new(1)), Path::new(support::DIR), options).expect("opens")
}

/// Entries of all shapes: keys that share prefixes, empty, at the limit; values of all lengths, some in extents.
fn entries(random: &mut Rng, count: u64, max_key: usize, max_value: impl Fn(usize) -> usize) -> State {
    (0..count)
        .map(|_| {
            let number = random.below(1 << 20);
            let key = match random.below(8) {
                0 => vec![(number % 251) as u8; (number % 9) as usize],
                1 => [vec![b'x'; max_key - 4], (number as u32).to_be_bytes().to_vec()].concat(),
                2 => number.to_be_bytes().to_vec(),
                _ => format!("/usr/lib/x86_64-linux-gnu/{:03}/{number:07}", number % 200).into_bytes(),
            };
            let max = max_value(key.len());
            let len = match random.below(60) {
                0 => max,
                1 => max + 1 + random.below(30_000) as usize,
                _ => random.below(300.min(max as u64)) as usize,
            };
            (key, vec![number as u8; len])
        })
        .collect()
}

#[test]
fn what_was_loaded_is_there_and_the_tree_goes_on() {
    for (page, frames, counts) in [
        (4096, 64, vec![0, 1, 2, 7, 60, 900, 12_000]),
        (8192, 64, vec![5000]),
        (16_384, 64, vec![5000]),
        (32_768, 64, vec![5000]),
        (65_536, 48, vec![1, 300, 20_000]),
    ] {
        for count in counts {
            let store = store(page, frames);
            let tree = store.tree("loaded").expect("a tree");
            let mut random = Rng::new(count + page as u64);
            let mut model = entries(&mut random, count, tree.max_key_len(), |key| tree.max_inline_value(key));
            let loaded = tree.bulk_load(&model).expect("loads");
            assert_eq!(loaded.entries, model.len() as u64);
            let read = || tree.range::<&[u8]>(..).collect::<Result<State, _>>().expect("a scan");
            assert!(read() == model, "{page}, {count}");
            assert!(
                tree.range::<&[u8]>(..)
                    .rev()
                    .map(|entry| entry.expect("an entry"))
                    .eq(model.iter().rev().map(|(key, value)| (key.clone(), value.clone())))
            );
            let report = store.verify().expect("verifies");
            assert!(report.is_sound(), "{page}, {count}: {:#?}", report.findings);
            // It goes on as any other.
            for (key, value) in
                entries(&mut random, 400, tree.max_key_len(), |key| tree.max_inline_value(key))
            {
                assert_eq!(tree.put(&key, &value).expect("put").replaced, model.insert(key, value).is_some());
            }
            let gone: Vec<Vec<u8>> = model.keys().step_by(3).cloned().collect();
            for key in gone {
                assert!(tree.remove(&key).expect("remove"));
                model.remove(&key);
            }
            assert!(read() == model, "{page}, {count}");
            let report = store.verify().expect("verifies");
            assert!(report.is_sound(), "{page}, {count}: {:#?}", report.findings);
            store.close().expect("closes");
        }
    }
}

#[test]
fn pages_are_over_ninety_percent_full() {
    for page in [4096, 16_384, 65_536] {
        let store = store(page, 64);
        let tree = store.default_tree();
        let rows = (0..60_000u64).map(|number| (format!("key-{number:012}"), [number as u8; 100]));
        let loaded = tree.bulk_load(rows).expect("loads");
        let (bytes, pages) = (60_000.0 * 116.0, (loaded.pages * page as u64) as f64);
        assert!(bytes / pages > 0.85, "{bytes} bytes of rows in {pages} bytes of pages of {page}");
        let stats = tree.shape().expect("reads");
        assert!(stats.leaf_fill() > 0.9, "{page}: {stats:?}");
    }
}

/// Each has an extent of its own; one group of the log has room for the space map's part of all of them all the same.
#[test]
fn long_values_are_bounded_by_space_alone() {
    let disk = SimDisk::new(3);
    let store = open(&disk).expect("opens");
    let tree = store.default_tree();
    let value = |number: u32| vec![number as u8; 1100 + number as usize % 6000];
    let loaded =
        tree.bulk_load((0..6000_u32).map(|number| (number.to_be_bytes(), value(number)))).expect("loads");
    assert_eq!(loaded.entries, 6000);
    for number in (0..6000_u32).step_by(97) {
        assert_eq!(tree.get(&number.to_be_bytes()).expect("get"), Some(value(number)));
    }
    let report = store.verify().expect("verifies");
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert!(report.value_pages >= 6000);
}

#[test]
fn an_error_leaves_an_empty_tree_and_no_page() {
    let store = store(4096, 64);
    let tree = store.default_tree();
    let free = || {
        let report = store.verify().expect("verifies");
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!(report.entries, 0);
        (report.leaves, report.nodes, report.value_pages)
    };
    let before = free();
    let row =
        |number: u32| (number.to_be_bytes().to_vec(), vec![1; if number % 500 == 7 { 5000 } else { 90 }]);
    let not_sorted = (0..9000).map(row).chain([row(8999)]);
    let error = tree.bulk_load(not_sorted).expect_err("a key twice");
    assert!(matches!(error, StoreError::Tree(TreeError::NotSorted { entry: 9000 })), "{error}");
    let too_long = (0..9000).map(row).chain([(vec![0xff; 5000], Vec::new())]);
    let error = tree.bulk_load(too_long).expect_err("a key that fits nowhere");
    assert!(matches!(error, StoreError::Tree(TreeError::KeyTooLong { .. })), "{error}");
    assert_eq!(free(), before);
    // Somebody puts an entry while the load is under way.
    let beside = (0..9000).map(row).inspect(|(key, _)| {
        if key == &8000u32.to_be_bytes() {
            tree.put(b"beside", b"value").expect("put");
        }
    });
    let error = tree.bulk_load(beside).expect_err("not empty any more");
    assert!(matches!(error, StoreError::Tree(TreeError::NotEmpty)), "{error}");
    assert_eq!(tree.len().expect("len"), 1);
    let error = tree.bulk_load((0..9).map(row)).expect_err("not empty");
    assert!(matches!(error, StoreError::Tree(TreeError::NotEmpty)), "{error}");
    assert!(tree.remove(b"beside").expect("remove"));
    assert_eq!(free(), before);
    assert_eq!(tree.bulk_load((0..9000).map(row)).expect("loads").entries, 9000);
}

#[test]
fn all_of_it_or_nothing_after_any_cut() {
    let disk = SimDisk::new(7);
    let model: State = (0..700u32)
        .map(|number| {
            (
                format!("/srv/{number:05}").into_bytes(),
                vec![number as u8; if number == 99 { 20_000 } else { 90 }],
            )
        })
        .collect();
    let store = open(&disk).expect("opens");
    // Ids that were something else before.
    for number in 0..300u32 {
        store.default_tree().put(&number.to_be_bytes(), &[7; 400]).expect("put");
    }
    assert_eq!(store.default_tree().remove_range::<&[u8]>(..).expect("removed"), 300);
    store.checkpoint().expect("checkpoint");
    store.checkpoint().expect("checkpoint");
    let from = disk.journal_len();
    store.default_tree().bulk_load(&model).expect("loads");
    disk.note(1);
    store.default_tree().put(b"/srv/00010", b"later").expect("put");
    disk.note(2);
    store.checkpoint().expect("checkpoint");
    drop(store);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let mut later = model.clone();
    later.insert(b"/srv/00010".to_vec(), b"later".to_vec());
    let states = [State::new(), model, later];
    let options = CrashOptions {
        exhaustive_max: 16,
        pairs_max: 4,
        splits_max: 8,
        random: 4,
        cuts: from..usize::MAX,
        ..CrashOptions::default()
    };
    let mut seen = [0_u32; 3];
    for image in disk.crash_states(&options) {
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let state = states.iter().position(|state| *state == found);
        let state = state.unwrap_or_else(|| panic!("{} entries: {}", found.len(), image.explain()));
        assert!((acknowledged..=acknowledged + 1).contains(&state), "{state}: {}", image.explain());
        seen[state] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 0) && seen.iter().sum::<u32>() > 300, "{seen:?}");
}
