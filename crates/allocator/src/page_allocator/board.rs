//! Which cache leases which word: where else to look for an id that its region does not say is in use.
//!
//! Invariant: a word stands on the board before an id of its lease is handed out, and leaves it once the region says what the lease has
//! handed out. So an id that is neither in its region, nor there after what is leased of its word was settled, was free meanwhile.
//!
//! ```text
//!   an id in use is in   a lease on the board ── settle ──► its region ── freed ──► neither
//!   who looks for it         2, and settles it              1, then 3
//! ```
//!
//! It goes from a lease to its region and never back, but that it is freed between. So the first look alone could miss it; and between the
//! last two it can go nowhere but where the last one finds it. The leases of one place of all caches lie beside each other, and a
//! word is leased at one place: some lines of a processor's cache are read, which seldom change.

use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::faults::planted;

use super::variant::{CACHES, LEASES};

/// No id is the first of this word.
const NONE: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Board {
    /// The first ids of the words that are leased, by place and cache.
    firsts: Vec<AtomicU64>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { firsts: (0..LEASES * CACHES).map(|_| AtomicU64::new(NONE)).collect() }
    }

    /// The place of a word, by any id of it.
    #[inline]
    pub(super) fn place(id: u64) -> usize {
        (id / 64) as usize % LEASES
    }

    /// A cache leases this word, instead of the one that was at its place.
    pub(super) fn put(&self, cache: usize, first: u64) {
        // Pairs with the acquire of who looks and finds the word before gone: it finds the bits of the region.
        self.firsts[Self::place(first) * CACHES + cache].store(first, Ordering::Release);
    }

    /// The caches that lease the word of this id.
    pub(super) fn caches_of(&self, id: u64) -> impl Iterator<Item = usize> {
        let row = &self.firsts[Self::place(id) * CACHES..][..CACHES];
        let acquire = if planted("who looks at the board acquires nothing") {
            Ordering::Relaxed
        } else {
            Ordering::Acquire // pairs with `put`
        };
        let leases = move |first: &AtomicU64| first.load(acquire) == id - id % 64;
        row.iter().enumerate().filter(move |(_, first)| leases(first)).map(|(cache, _)| cache)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_by_any_of_its_ids_until_another_takes_its_place() {
        let board = Board::new();
        let caches = |id| board.caches_of(id).collect::<Vec<_>>();
        let next = 64 * LEASES as u64;
        assert_eq!(caches(0), []);
        board.put(3, 0);
        board.put(5, 64);
        board.put(7, 0);
        assert_eq!(
            [caches(0), caches(63), caches(64), caches(next)],
            [vec![3, 7], vec![3, 7], vec![5], vec![]]
        );
        board.put(3, next);
        assert_eq!([caches(1), caches(next + 1)], [vec![7], vec![3]]);
    }
}
