//! Prevents: a removal that was done and is reported as failed because the merge behind it met a damaged page; a handle that such a
//! page poisons; a merge of nodes that are not what they claim to be (E4, I6).

mod support;

use pagestone_allocator::ClearBits;
use pagestone_page_format::{PageError, PageId, PageOp};
use pagestone_store::{Store, StoreError};
use pagestone_testkit::SimDisk;
use support::damaged::{Damaged, PAGE};
use support::{State, contents, open};

const ROOT: u64 = 1;

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// A closed store of some leaves under one root, and the keys of a leaf in the middle, with that leaf's index.
fn sample() -> (SimDisk, State, usize, std::ops::Range<u64>) {
    let disk = SimDisk::new(3);
    let store = open(&disk).expect("a store");
    for number in 0..400 {
        store.default_tree().put(&key(number), &[number as u8; 90]).expect("put");
    }
    let state = contents(&store).expect("reads");
    store.close().expect("closed");
    drop(store);
    let whole = Damaged::copy_of(&disk);
    let leaves = whole.children(ROOT);
    let counts: Vec<u64> =
        leaves.iter().map(|leaf| whole.area(*leaf, |area| area.count().expect("cells") as u64)).collect();
    let middle = leaves.len() / 2;
    assert!(middle >= 2, "a leaf between others");
    let first = counts[..middle].iter().sum();
    (disk, state, middle, first..first + counts[middle])
}

/// Removes all keys of the leaf; the merges that this asks for fail, and nothing else does.
fn empty_the_leaf(damaged: &Damaged, state: &mut State, keys: std::ops::Range<u64>) -> Store {
    let store = open(&damaged.disk).expect("opens");
    let tree = store.default_tree();
    for number in keys.clone() {
        assert!(tree.remove(&key(number)).expect("it was done"));
        state.remove(&key(number));
    }
    let stats = store.stats().expect("stats").tree;
    assert!(stats.merges == 0 && stats.merges_given_up > 0, "{stats:?}");
    // Not poisoned: writes go on, in that very leaf.
    tree.put(&key(keys.start), b"goes on").expect("put");
    state.insert(key(keys.start), b"goes on".to_vec());
    assert_eq!(tree.get(&key(keys.start)).expect("reads").as_deref(), Some(&b"goes on"[..]));
    store
}

#[test]
fn siblings_that_cannot_be_read() {
    let (sound, mut state, middle, keys) = sample();
    let damaged = Damaged::copy_of(&sound);
    let leaves = damaged.children(ROOT);
    for sibling in [leaves[middle - 1], leaves[middle + 1]] {
        damaged.flip(2 * PAGE + sibling as usize * PAGE + 300);
    }
    let store = empty_the_leaf(&damaged, &mut state, keys.clone());
    // Whoever needs those pages is told.
    for number in [keys.start - 1, keys.end] {
        let error = store.default_tree().get(&key(number)).expect_err("the page is damaged");
        assert!(matches!(&error, StoreError::Page(PageError::ChecksumMismatch { .. })), "{error}");
    }
}

#[test]
fn pages_that_the_map_says_are_free() {
    let (sound, mut state, _, keys) = sample();
    let damaged = Damaged::copy_of(&sound);
    for leaf in damaged.children(ROOT) {
        damaged.rewrite(0, |map| ClearBits { first: PageId::new(leaf), count: 1 }.apply(map).expect("used"));
    }
    let store = empty_the_leaf(&damaged, &mut state, keys);
    assert!(contents(&store).expect("reads") == state);
}

#[test]
fn siblings_that_do_not_meet() {
    let (sound, mut state, middle, keys) = sample();
    let damaged = Damaged::copy_of(&sound);
    let leaves = damaged.children(ROOT);
    damaged.set_link(leaves[middle - 1], 0, leaves[middle + 1]);
    damaged.set_link(leaves[middle], 0, leaves[middle - 1]);
    let store = empty_the_leaf(&damaged, &mut state, keys);
    assert!(contents(&store).expect("reads") == state);
}
