//! Prevents: an increment that another one overwrites, an insert that replaces, a swap of what nobody compared; in memory, under
//! eviction, and where the value is long.

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_btree::TreeError;
use pagestone_store::{Background, CompareAndSwap, Durability, Options, Store, StoreError, Tree};
use pagestone_testkit::{Rng, SimDisk};
use support::{State, contents, small, verified_contents};

fn open(frames: usize, background: Background) -> Store {
    let options = Options {
        pool_bytes: frames * 4096,
        durability: Durability::RELAXED,
        background,
        log_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        ..small()
    };
    Store::open_on(Arc::new(SimDisk::new(3)), Path::new("/store"), options).expect("opens")
}

/// Of all lengths: none, short, at the limit of its leaf, in extents.
fn value(random: &mut Rng, max: usize) -> Vec<u8> {
    let len = match random.below(10) {
        0 => 0,
        1 => max,
        2 => max + 1 + random.below(9000) as usize,
        _ => random.below(120) as usize,
    };
    vec![random.below(256) as u8; len]
}

#[test]
fn each_does_what_it_says_and_nothing_else() {
    let store = open(32, Background::Manual);
    let (tree, mut model, mut random) = (store.default_tree(), State::new(), Rng::new(1));
    for step in 0..12_000 {
        let key = format!("/srv/objects/{:04}", random.below(600)).into_bytes();
        let new = value(&mut random, tree.max_inline_value(key.len()));
        let before = model.get(&key).cloned();
        match random.below(8) {
            0..2 => match tree.insert(&key, &new) {
                Ok(put) => {
                    assert!(!put.replaced && before.is_none());
                    model.insert(key, new);
                }
                Err(StoreError::Tree(TreeError::KeyExists)) => assert!(before.is_some()),
                Err(error) => panic!("{error}"),
            },
            2..4 => {
                let removes = random.below(3) == 0;
                let updated = tree.update_with(&key, |now| {
                    assert_eq!(now, before.as_deref());
                    (!removes).then(|| new.clone())
                });
                let updated = updated.expect("an update");
                assert_eq!(updated.existed, before.is_some());
                assert_eq!(updated.lsn.is_none(), removes && before.is_none());
                assert_eq!(updated.value, (!removes).then(|| new.clone()));
                if removes {
                    model.remove(&key)
                } else {
                    model.insert(key, new)
                };
            }
            4..7 => {
                let expected = if random.below(3) == 0 { Some(new.clone()) } else { before.clone() };
                let put = (random.below(3) > 0).then_some(&new[..]);
                let swapped = tree.compare_and_swap(&key, expected.as_deref(), put).expect("a swap");
                if expected != before {
                    assert_eq!(swapped, CompareAndSwap::Differs { current: before });
                    continue;
                }
                let CompareAndSwap::Done { lsn } = swapped else { panic!("{swapped:?}") };
                assert_eq!(lsn.is_none(), before.is_none() && put.is_none());
                match put {
                    Some(put) => drop(model.insert(key, put.to_vec())),
                    None => drop(model.remove(&key)),
                }
            }
            _ => {
                assert_eq!(tree.get_with(&key, <[u8]>::to_vec).expect("get"), before);
                let own = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
                assert_eq!(tree.first().expect("first"), model.first_key_value().map(own));
                assert_eq!(tree.last().expect("last"), model.last_key_value().map(own));
            }
        }
        if step % 3000 == 2999 {
            store.checkpoint().expect("checkpoint");
            assert!(verified_contents(&store).expect("reads") == model, "at step {step}");
        }
    }
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let store = open(64, Background::Manual);
    let (tree, key) = (store.default_tree(), vec![1; 4096]);
    let refused = |error: StoreError| {
        assert!(matches!(error, StoreError::Tree(TreeError::KeyTooLong { .. })), "{error}");
    };
    refused(tree.insert(&key, b"").expect_err("too long"));
    refused(tree.compare_and_swap(&key, None, None).expect_err("too long"));
    refused(tree.update_with(&key, |_| panic!("there is nothing to update")).expect_err("too long"));
    assert!(contents(&store).expect("reads").is_empty());
    assert_eq!((tree.first().expect("first"), tree.last().expect("last")), (None, None));
}

/// A counter at the beginning of a value whose length changes all the time.
fn increment(tree: &Tree, key: &[u8], len: usize) -> u64 {
    let updated = tree.update_with(key, |now| {
        let count = now.map_or(0, count) + 1;
        let mut value = vec![count as u8; 8 + len];
        value[..8].copy_from_slice(&count.to_le_bytes());
        Some(value)
    });
    count(&updated.expect("an update").value.expect("a value"))
}

fn count(value: &[u8]) -> u64 {
    let (count, rest) = value.split_first_chunk::<8>().expect("a count");
    let count = u64::from_le_bytes(*count);
    assert!(rest.iter().all(|byte| *byte == count as u8), "a value of another count");
    count
}

#[test]
fn eight_threads_lose_no_increment_and_insert_each_key_once() {
    const COUNTERS: u64 = 40;
    const TURNS: u64 = 400;
    for frames in [32, 512] {
        let store = open(frames, Background::Threads);
        let inserted = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (tree, inserted) = (store.default_tree(), &inserted);
                scope.spawn(move || {
                    let mut random = Rng::new(thread + 1);
                    for turn in 0..TURNS {
                        let key = (turn % COUNTERS).to_be_bytes();
                        let len = if random.below(20) == 0 { 6000 } else { random.below(500) as usize };
                        increment(&tree, &key, len);
                        // By compare-and-swap, the long way.
                        loop {
                            let now = tree.get(b"swapped").expect("get");
                            let next = now.as_deref().map_or(0, count) + 1;
                            let new = [&next.to_le_bytes()[..], &[next as u8; 40]].concat();
                            let swapped = tree.compare_and_swap(b"swapped", now.as_deref(), Some(&new));
                            if matches!(swapped.expect("a swap"), CompareAndSwap::Done { .. }) {
                                break;
                            }
                        }
                        let name = format!("one of all: {turn:05}");
                        match tree.insert(name.as_bytes(), &thread.to_le_bytes()) {
                            Ok(_) => inserted.lock().expect("no panic").push((name, thread)),
                            Err(StoreError::Tree(TreeError::KeyExists)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        let (tree, inserted) = (store.default_tree(), inserted.into_inner().expect("no panic"));
        for counter in 0..COUNTERS {
            let found = tree.get_with(&counter.to_be_bytes(), count).expect("get");
            assert_eq!(found, Some(8 * TURNS / COUNTERS), "a lost increment");
        }
        assert_eq!(tree.get_with(b"swapped", count).expect("get"), Some(8 * TURNS), "a lost swap");
        assert_eq!(inserted.len() as u64, TURNS, "inserted twice, or not at all");
        for (name, thread) in inserted {
            assert_eq!(
                tree.get(name.as_bytes()).expect("get"),
                Some(thread.to_le_bytes().to_vec()),
                "{name}"
            );
        }
        verified_contents(&store).expect("reads");
    }
}
