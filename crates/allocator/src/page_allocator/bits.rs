//! One bit for each id of a region, changed by many threads at once.
//!
//! Invariant: a word is changed by one atomic operation, so of two threads that turn the same bit one sees that it was turned.
//!
//! ```text
//!   word of the map    0   1   2  …  31   32  33 …
//!   stands at          0   S   2S …  31S   1  S+1 …        S: words in a row, at least two lines of a processor's cache
//! ```
//!
//! Threads work in words of their own, and neighbours at that; words that are neighbours stand on lines that are not, so the threads do
//! not meet there either.

use pagestone_sync::atomic::{AtomicU64, Ordering};

const ROWS: usize = 32;

#[derive(Debug)]
pub(super) struct Bits {
    words: Vec<AtomicU64>,
    /// Words of the map.
    len: usize,
}

impl Bits {
    pub(super) fn new(words: &[u64]) -> Self {
        let row = words.len().div_ceil(ROWS);
        let at = |place: usize| words.get(place % row * ROWS + place / row).copied().unwrap_or(0);
        Self { words: (0..row * ROWS).map(|place| AtomicU64::new(at(place))).collect(), len: words.len() }
    }

    fn at(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < self.len);
        &self.words[word % ROWS * (self.words.len() / ROWS) + word / ROWS]
    }

    pub(super) fn get(&self, word: usize) -> u64 {
        self.at(word).load(Ordering::Relaxed)
    }

    /// Sets bits; gives those that were set before.
    pub(super) fn set(&self, word: usize, mask: u64) -> u64 {
        self.at(word).fetch_or(mask, Ordering::Relaxed) & mask
    }

    /// Clears bits; gives those that were clear before.
    pub(super) fn clear(&self, word: usize, mask: u64) -> u64 {
        !self.at(word).fetch_and(!mask, Ordering::Relaxed) & mask
    }

    /// Writes a word, by the only thread that writes this map's.
    pub(super) fn put(&self, word: usize, value: u64) {
        self.at(word).store(value, Ordering::Relaxed);
    }

    /// All words, in the order of the map.
    pub(super) fn to_words(&self) -> Vec<u64> {
        (0..self.len).map(|word| self.get(word)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bit_runs::masks;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_where_they_were_put(words in proptest::collection::vec(any::<u64>(), 1..600), from in 0u64..30_000, len in 1u64..200) {
            let bits = Bits::new(&words);
            prop_assert_eq!(&bits.to_words(), &words);
            let (from, len) = (from % (words.len() as u64 * 64), len);
            let len = len.min(words.len() as u64 * 64 - from);
            let mut model = words.clone();
            for (word, mask) in masks(from, len) {
                prop_assert_eq!(bits.set(word, mask), words[word] & mask);
                prop_assert_eq!(bits.clear(word, mask), 0);
                prop_assert_eq!(bits.clear(word, mask), mask);
                model[word] &= !mask;
            }
            prop_assert_eq!(bits.to_words(), model);
        }
    }
}
