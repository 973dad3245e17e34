//! Long random histories of one tree beside a map: every operation that there is, keys of all shapes, growth and shrinking by turns,
//! with reopening; verified after each.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use pagestone_btree::TreeError;
use pagestone_page_format::PageSize;
use pagestone_store::{CompareAndSwap, Durability, Options, Store, StoreError, Tree};
use pagestone_testkit::{Rng, SimDisk};

use super::{State, small, verified_contents};

pub fn relaxed(page: usize, frames: usize) -> Options {
    let page_size = PageSize::new(page).expect("a page size");
    Options {
        page_size,
        pool_bytes: frames * page,
        durability: Durability::RELAXED,
        log_bytes: 64 << 20,
        segment_bytes: 8 << 20,
        ..small()
    }
}

pub fn open(disk: &SimDisk, options: Options) -> Store {
    Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options).expect("opens")
}

/// Keys of all shapes: empty, short, long with shared prefixes, binary, at the limit.
fn key(random: &mut Rng, max: usize) -> Vec<u8> {
    let number = random.below(3000);
    match random.below(10) {
        0 => Vec::new(),
        1 => vec![(number % 256) as u8; (number % 7) as usize],
        2 => (number as u16).to_be_bytes().to_vec(),
        3 => [vec![b'x'; max - 2], (number as u16 % 64).to_be_bytes().to_vec()].concat(),
        4..7 => format!("/usr/share/doc/package/{number:05}").into_bytes(),
        _ => format!("/usr/lib/x86_64-linux-gnu/some/deep/path/{:03}/{number}", number / 50).into_bytes(),
    }
}

/// Gives how many pages were evicted.
pub fn agree(page: usize, frames: usize, seed: u64, steps: usize) -> u64 {
    let (mut evictions, mut height) = (0, 0);
    let disk = SimDisk::new(seed);
    let mut store = open(&disk, relaxed(page, frames));
    let mut tree = store.default_tree();
    let mut model = State::new();
    let mut random = Rng::new(seed);
    for step in 0..steps {
        let key = key(&mut random, tree.max_key_len());
        // It grows, then it shrinks, and so on.
        let puts = if (step * 6 / steps).is_multiple_of(2) { 11 } else { 5 };
        match random.below(20) {
            at if at < puts => {
                let value = value(&mut random, step, tree.max_inline_value(key.len()));
                put(&tree, &mut model, key, value, &mut random);
            }
            0..14 => {
                // The nearest key that is there, mostly, so that it shrinks.
                let near = model.range(key.clone()..).next().map(|(key, _)| key.clone());
                let key = near.filter(|_| puts < 11 && random.below(4) > 0).unwrap_or(key);
                assert_eq!(tree.remove(&key).expect("remove"), model.remove(&key).is_some());
            }
            14..18 => {
                assert_eq!(tree.get(&key).expect("get").as_ref(), model.get(&key));
                assert_eq!(tree.contains_key(&key).expect("contains"), model.contains_key(&key));
            }
            18 if step % 40 == 18 => remove_range(&tree, &mut model, key, &mut random),
            18 => walk_around(&tree, &model, &key, &mut random),
            _ if step % 7 == 0 => store.checkpoint().expect("checkpoint"),
            _ => change_on_condition(&tree, &mut model, key, step, &mut random),
        }
        if step % (steps / 4) == steps / 8 {
            let stats = store.stats().expect("stats");
            (evictions, height) = (evictions + stats.pool.evictions, stats.tree.height.max(height));
            // Half of the times closed, half of the times dropped as a crash would leave it but for the flush.
            if random.below(2) == 0 {
                store.close().expect("close");
            }
            drop((tree, store));
            store = open(&disk, relaxed(page, frames));
            tree = store.default_tree();
            assert!(verified_contents(&store).expect("scan") == model, "after reopening at step {step}");
        }
    }
    assert!(verified_contents(&store).expect("scan") == model);
    let backward: Vec<_> = tree.range::<&[u8]>(..).rev().collect::<Result<_, _>>().expect("scan");
    assert!(backward.iter().map(|(key, value)| (key, value)).eq(model.iter().rev()));
    assert_eq!(tree.len().expect("len"), model.len() as u64);
    let stats = store.stats().expect("stats");
    // It ends small: what counts is how high it once was.
    assert!(stats.tree.height.max(height) >= 2, "{stats:?}");
    evictions + stats.pool.evictions
}

/// Of all lengths: none, short, the longest that stands in its leaf, in extents.
fn value(random: &mut Rng, step: usize, max: usize) -> Vec<u8> {
    let len = match random.below(12) {
        0 => max,
        1 => 0,
        2 => max + 1 + random.below(20_000) as usize,
        _ => random.below(200.min(max as u64)) as usize,
    };
    vec![step as u8; len]
}

fn put(tree: &Tree, model: &mut State, key: Vec<u8>, value: Vec<u8>, random: &mut Rng) {
    let put = match random.below(8) {
        0 => tree.put_reader(&key, None, value.as_slice()),
        1 => tree.put_reader(&key, Some(value.len() as u64), value.as_slice()),
        _ => tree.put(&key, &value),
    };
    assert_eq!(put.expect("put").replaced, model.insert(key, value).is_some());
}

/// Insert, update or compare-and-swap.
fn change_on_condition(tree: &Tree, model: &mut State, key: Vec<u8>, step: usize, random: &mut Rng) {
    let new = value(random, step, tree.max_inline_value(key.len()));
    let before = model.get(&key).cloned();
    let after = match random.below(4) {
        0 => match tree.insert(&key, &new) {
            Err(StoreError::Tree(TreeError::KeyExists)) if before.is_some() => before,
            put => {
                assert!(!put.expect("insert").replaced && before.is_none());
                Some(new)
            }
        },
        1 => {
            let swapped = tree.compare_and_swap(&key, Some(&new), None).expect("a swap");
            let is_so = before.as_ref() == Some(&new);
            assert_eq!(matches!(swapped, CompareAndSwap::Done { .. }), is_so);
            before.filter(|_| !is_so)
        }
        2 => {
            let swapped = tree.compare_and_swap(&key, before.as_deref(), Some(&new)).expect("a swap");
            assert!(matches!(swapped, CompareAndSwap::Done { lsn: Some(_) }), "{swapped:?}");
            Some(new)
        }
        _ => {
            let made = tree.update_with(&key, |now| {
                assert_eq!(now, before.as_deref());
                now.is_none().then(|| new.clone())
            });
            assert_eq!(made.expect("an update").existed, before.is_some());
            if before.is_none() { Some(new) } else { None }
        }
    };
    match after {
        Some(value) => drop(model.insert(key, value)),
        None => drop(model.remove(&key)),
    }
}

/// From a key on, as far as some hundred entries at most, with every kind of bound.
fn remove_range(tree: &Tree, model: &mut State, key: Vec<u8>, random: &mut Rng) {
    let far = model.range(key.clone()..).nth(random.below(300) as usize).map(|(key, _)| key.clone());
    let bound = |key: Vec<u8>, random: &mut Rng| match random.below(2) {
        0 => Bound::Included(key),
        _ => Bound::Excluded(key),
    };
    let to = match far {
        Some(far) if far > key => bound(far, random),
        // One that is longer than any key.
        _ => bound([&key[..], &[0; 2000]].concat(), random),
    };
    let bounds = (bound(key, random), to);
    let gone: Vec<Vec<u8>> = model.range(bounds.clone()).map(|(key, _)| key.clone()).collect();
    assert_eq!(tree.remove_range(bounds).expect("remove_range"), gone.len() as u64);
    gone.iter().for_each(|key| drop(model.remove(key)));
}

/// A cursor and iterators from a key on, in both directions, against the model.
fn walk_around(tree: &Tree, model: &State, key: &[u8], random: &mut Rng) {
    let mut cursor = tree.cursor();
    cursor.seek(key).expect("seek");
    let mut ahead = model.range(key.to_vec()..);
    for _ in 0..random.below(80) {
        let found = cursor.next().expect("next").map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.as_ref().map(|(key, value)| (key, value)), ahead.next());
    }
    cursor.seek(key).expect("seek");
    let mut behind = model.range(..key.to_vec()).rev();
    for _ in 0..random.below(80) {
        let found = cursor.prev().expect("prev").map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.as_ref().map(|(key, value)| (key, value)), behind.next());
    }
    let other = [key, &[0xff][..]].concat();
    let bounds = (Bound::Excluded(key.to_vec()), Bound::Included(other));
    let found = tree.range(bounds.clone()).collect::<Result<BTreeMap<_, _>, _>>().expect("range");
    assert!(found.iter().eq(model.range(bounds)));
    // Many at once: what is there, what is not, some of them twice.
    let there =
        model.range(key.to_vec()..).step_by(3).take(random.below(80) as usize).map(|(key, _)| key.clone());
    let mut keys: Vec<Vec<u8>> =
        there.flat_map(|key| [[&key[..], &[0]].concat(), key.clone(), key]).collect();
    random.shuffle(&mut keys);
    let values: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
    assert_eq!(tree.multi_get(&keys).expect("multi_get"), values);
    let prefix = &key[..key.len().min(22)];
    let found: Vec<_> = tree.prefix(prefix).rev().collect::<Result<_, _>>().expect("prefix");
    let expected = model.iter().filter(|(key, _)| key.starts_with(prefix)).rev();
    assert!(found.iter().map(|(key, value)| (key, value)).eq(expected));
    // Both ends of one iterator meet without giving anything twice.
    let mut both = tree.prefix(prefix);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let forward = random.below(2) == 0;
        let Some(entry) = (if forward { both.next() } else { both.next_back() }) else { break };
        let (key, _) = entry.expect("an entry");
        if forward { front.push(key) } else { back.push(key) }
    }
    front.extend(back.into_iter().rev());
    assert!(front.iter().eq(model.keys().filter(|key| key.starts_with(prefix))));
}
