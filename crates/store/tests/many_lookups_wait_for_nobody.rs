//! Prevents: lookups of one call that hang because a page is wanted that only the waiting thread can bring: by the caller's code, by two
//! threads of each other; and answers that are lost, mixed up or given twice where the data is larger than the pool.

use std::path::Path;

use pagestone_store::{Durability, Options, Store, Tree};
use pagestone_testkit::Rng;

const ROWS: u64 = 60_000;

fn open(dir: &Path, frames: usize) -> Store {
    let options =
        Options { pool_bytes: frames * 4096, durability: Durability::RELAXED, ..Options::default() };
    Store::open(dir, options).expect("opens")
}

fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Mostly short; now and then one that stands in pages of its own.
fn value(number: u64) -> Vec<u8> {
    let len = if number.is_multiple_of(500) { 9000 } else { 60 + number as usize % 80 };
    [&number.to_le_bytes()[..], &vec![number as u8; len]].concat()
}

fn filled(dir: &Path) {
    let store = open(dir, 4096);
    let tree = store.default_tree();
    for number in 0..ROWS {
        tree.put(&key(number), &value(number)).expect("put");
    }
    store.close().expect("closes");
}

/// Looks these up by one call, and some of them again, by themselves, while it answers.
fn look_up(tree: &Tree, numbers: &[u64]) {
    let keys: Vec<[u8; 8]> = numbers.iter().map(|number| key(*number)).collect();
    let mut answered = vec![0; keys.len()];
    let (mut again, mut calls) = (Vec::new(), 0);
    tree.multi_get_with(&keys, |at, found| {
        answered[at] += 1;
        let expected = (numbers[at] < ROWS).then(|| value(numbers[at]));
        assert!(found.map(<[u8]>::to_vec) == expected, "row {}", numbers[at]);
        calls += 1;
        if calls % 7 == 0 {
            let other = numbers[(at + 3) % numbers.len()];
            assert_eq!(tree.get_into(&key(other), &mut again).expect("get"), other < ROWS);
        }
    })
    .expect("multi_get");
    assert!(answered.iter().all(|times| *times == 1), "each key has one answer");
}

#[test]
fn each_key_is_answered_once_whatever_the_pool_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path());
    for frames in [64, 200, 1024, 8192] {
        let store = open(dir.path(), frames);
        let tree = store.default_tree();
        let mut rng = Rng::new(frames as u64);
        for count in [0, 1, 2, 31, 32, 33, 64, 65, 200, 3000, 7000] {
            // One in 50 is not there; many come twice.
            let numbers: Vec<u64> = (0..count).map(|_| rng.below(ROWS + ROWS / 50)).collect();
            look_up(&tree, &numbers);
            look_up(&tree, &vec![numbers.first().copied().unwrap_or(0); count]);
        }
        drop(tree);
        store.close().expect("closes");
    }
}

#[test]
fn threads_that_look_the_same_keys_up_do_not_wait_for_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path());
    for frames in [128, 1024] {
        let store = open(dir.path(), frames);
        let numbers: Vec<u64> = (0..2000).map(|at| at * 17 % ROWS).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (tree, mut numbers) = (store.default_tree(), numbers.clone());
                scope.spawn(move || {
                    for round in 0..4 {
                        numbers.rotate_left(thread * 100 + round);
                        if thread % 2 == 1 {
                            numbers.reverse();
                        }
                        look_up(&tree, &numbers);
                    }
                });
            }
            let tree = store.default_tree();
            scope.spawn(move || {
                for number in (0..ROWS).step_by(11) {
                    tree.put(&key(number), &value(number)).expect("put");
                }
            });
        });
        store.close().expect("closes");
    }
}
