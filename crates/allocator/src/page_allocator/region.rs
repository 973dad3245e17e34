//! The ids of one region, and the table of the regions that are known.
//!
//! Invariant: two bits say what an id is, but for what a lease has handed out and not settled; they are turned under the lock of some cache,
//! `known` by commits alone.
//!
//! ```text
//!   in use  known                                                            known: in use as far as the disk knows,
//!     0       0     free, in the space or in one cache; or out from a lease  or will once a commit under way is durable
//!     1       0     somebody's, since the last commit began
//!     1       1     somebody's
//!     0       1     held: given back, and given out again after a commit in which it is free (A2)
//!
//!               settle                  begin                 free                commit
//!       free ─────────────► 1 0 ──────────────────► 1 1 ─────────────► held ─────────────► free
//!         ▲       free       │
//!         └──────────────────┘
//! ```
//!
//! The table is a tree of arrays that are made once and never move, so a region is found without a lock.

use std::sync::OnceLock;

use pagestone_sync::Arc;
use pagestone_sync::atomic::{AtomicBool, Ordering};
use pagestone_sync::faults::planted;

use super::bits::Bits;

/// The ids of a region of which it is known which are in use.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) number: u64,
    pub(super) in_use: Bits,
    pub(super) known: Bits,
    /// Since the last commit began; then it stands in the list of one cache.
    changed: AtomicBool,
}

impl Region {
    /// As the disk has it.
    pub(super) fn new(number: u64, words: &[u64]) -> Self {
        Self { number, in_use: Bits::new(words), known: Bits::new(words), changed: AtomicBool::new(false) }
    }

    /// Whether this is the first change since the last commit began: then the region has to be listed.
    pub(super) fn change(&self) -> bool {
        !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::Relaxed)
    }

    /// Begins a commit, while nobody changes anything: what is in use, and from now on known to be.
    pub(super) fn begin(&self) -> Vec<u64> {
        let words = self.in_use.to_words();
        if !planted("a commit forgets what it makes known") {
            let known = words.iter().enumerate();
            known.for_each(|(word, in_use)| self.known.put(word, self.known.get(word) | in_use));
        }
        self.changed.store(false, Ordering::Relaxed);
        words
    }

    /// The commit of these words is durable: gives what was held when it began, and is free now.
    pub(super) fn commit(&self, words: &[u64]) -> Vec<u64> {
        let settle = |(word, in_use): (usize, &u64)| {
            let freed = self.known.get(word) & !in_use;
            self.known.put(word, *in_use);
            freed
        };
        words.iter().enumerate().map(settle).collect()
    }
}

const ARRAY: u64 = 512;

type Array<T> = Box<[OnceLock<T>]>;

fn array<T>() -> Array<T> {
    (0..ARRAY).map(|_| OnceLock::new()).collect()
}

/// The regions that are known, by their numbers.
#[derive(Debug)]
pub(super) struct Regions {
    top: Array<Array<Array<Arc<Region>>>>,
}

impl Regions {
    pub(super) fn new() -> Self {
        Self { top: array() }
    }

    pub(super) fn get(&self, number: u64) -> Option<&Arc<Region>> {
        let [top, middle, leaf] = Self::place(number);
        self.top.get(top)?.get()?[middle].get()?[leaf].get()
    }

    /// Adds a region that is not there.
    pub(super) fn add(&self, region: Arc<Region>) {
        let [top, middle, leaf] = Self::place(region.number);
        let place = &self.top[top].get_or_init(array)[middle].get_or_init(array)[leaf];
        assert!(place.set(region).is_ok(), "a region is made known once");
    }

    /// How many ids right below this one nobody has, at most to the next multiple of 64; none where the region is not known.
    pub(super) fn free_below(&self, id: u64, bits: u64) -> u64 {
        let last = id - 1;
        let Some(region) = self.get(last / bits) else { return 0 };
        let (word, bit) = ((last % bits / 64) as usize, last % 64);
        u64::from((region.in_use.get(word) << (63 - bit)).leading_zeros()).min(bit + 1)
    }

    fn place(number: u64) -> [usize; 3] {
        [number / (ARRAY * ARRAY), number / ARRAY % ARRAY, number % ARRAY].map(|at| at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_where_they_were_added() {
        let regions = Regions::new();
        let numbers = [0, 1, ARRAY - 1, ARRAY, ARRAY * ARRAY, ARRAY * ARRAY * ARRAY - 1];
        for number in numbers {
            regions.add(Arc::new(Region::new(number, &[1])));
        }
        for number in 0..2 * ARRAY {
            assert_eq!(regions.get(number).is_some(), numbers.contains(&number), "{number}");
        }
        for number in numbers {
            assert_eq!(regions.get(number).map(|region| region.number), Some(number));
        }
        assert!(regions.get(u64::MAX).is_none());
    }

    #[test]
    fn free_ids_below_one_are_counted_to_the_start_of_their_word() {
        let regions = Regions::new();
        regions.add(Arc::new(Region::new(0, &[0b1001, 0])));
        let below: Vec<u64> = [1, 2, 4, 5, 64, 65, 100, 128].map(|id| regions.free_below(id, 128)).to_vec();
        assert_eq!(below, [0, 1, 0, 1, 60, 1, 36, 64]);
        assert_eq!(regions.free_below(129, 128), 0, "nobody knows");
    }

    #[test]
    fn an_id_that_a_commit_under_way_makes_known_is_held_by_it() {
        let region = Region::new(0, &[0b1]);
        assert_eq!((region.in_use.set(0, 0b110), region.change(), region.change()), (0, true, false));
        let begun = region.begin();
        assert_eq!((begun[0], region.known.get(0), region.change()), (0b111, 0b111, true));
        assert_eq!(region.in_use.clear(0, 0b010), 0);
        assert_eq!(region.commit(&begun), [0], "it is in use in this commit");
        assert_eq!(region.known.get(0), 0b111);
        let begun = region.begin();
        assert_eq!(region.commit(&begun), [0b010]);
        assert_eq!(region.known.get(0), 0b101);
    }

    #[test]
    fn what_a_commit_that_failed_made_known_is_held_until_another() {
        let region = Region::new(0, &[0]);
        region.in_use.set(0, 0b1);
        drop(region.begin()); // and it failed
        region.in_use.clear(0, 0b1);
        assert_eq!(region.known.get(0), 0b1, "nobody knows what the disk has");
        let begun = region.begin();
        assert_eq!(region.commit(&begun), [0b1]);
    }
}
