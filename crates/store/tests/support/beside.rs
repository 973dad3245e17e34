//! What goes on beside the work that a test is about: threads with keys of their own, and scans of keys that nobody touches.

use std::sync::atomic::{AtomicBool, Ordering};

use pagestone_store::Store;
use pagestone_testkit::Rng;

use super::State;

/// Keys that stay have so many bytes, and no others have.
const STAYING: usize = 16;

/// Puts and removes some of `keys` keys of its own, short values and now and then a long one, until it is done; each look-up must give what it
/// left there. Gives what it leaves at the end.
pub fn writes(store: &Store, thread: u8, keys: u64, done: &AtomicBool) -> State {
    let (tree, mut random) = (store.default_tree(), Rng::new(thread.into()));
    let mut mine = State::new();
    while !done.load(Ordering::Relaxed) {
        let number = random.below(keys).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let key = [&number.to_be_bytes()[..], &[thread; STAYING - 7]].concat();
        assert_eq!(tree.get(&key).expect("reads"), mine.get(&key).cloned());
        if random.below(2) == 0 {
            tree.remove(&key).expect("removed");
            mine.remove(&key);
        } else {
            let len = if random.below(40) == 0 { 9000 } else { random.below(300) as usize };
            let value = vec![random.next_u64() as u8; len];
            tree.put(&key, &value).expect("put");
            mine.insert(key, value);
        }
    }
    mine
}

/// A scan must find those that stay, each once and in order.
pub fn finds_what_stays(store: &Store, stays: &State, forward: bool) {
    let ours = |(key, value): (Vec<u8>, Vec<u8>)| (key.len() == STAYING).then_some((key, value));
    let range = store.default_tree().range::<&[u8]>(..).map(|entry| entry.expect("reads"));
    let mut found: Vec<_> =
        if forward { range.filter_map(ours).collect() } else { range.rev().filter_map(ours).collect() };
    if !forward {
        found.reverse();
    }
    assert!(found.iter().map(|(key, value)| (key, value)).eq(stays.iter()), "forward: {forward}");
}
