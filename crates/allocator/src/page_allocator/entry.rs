//! What an index page or a root says of a page below it.
//!
//! Invariant: an entry names one slot, the commit that wrote it and how many ids are in use below it; a page that does not fit all three is
//! not the page that was written there, though its checksum be right (M7).
//!
//! ```text
//!   63     62                      40 39                                       0
//!  ┌──────┬──────────────────────────┬──────────────────────────────────────────┐
//!  │ slot │ generation modulo 2^23   │ ids in use, the allocator's own with it  │
//!  └──────┴──────────────────────────┴──────────────────────────────────────────┘
//! ```
//!
//! A word of zeros names nothing: a region has ids of the allocator's own.

const USED_BITS: u32 = 40;
/// The most ids that an entry counts.
pub(super) const USED_MAX: u64 = (1 << USED_BITS) - 1;
const GENERATION: u64 = (1 << 23) - 1;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Entry(u64);

impl Entry {
    pub(super) fn new(slot: usize, generation: u64, used: u64) -> Self {
        assert!(slot < 2 && used <= USED_MAX, "no page of two slots has {used} ids below it");
        Self((slot as u64) << 63 | (generation & GENERATION) << USED_BITS | used)
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// Whether it names no page.
    pub(super) fn is_absent(self) -> bool {
        self.0 == 0
    }

    /// The slot that counts.
    pub(super) fn slot(self) -> usize {
        (self.0 >> 63) as usize
    }

    /// The slot that does not: where the next commit writes.
    pub(super) fn other_slot(self) -> usize {
        if self.is_absent() { 0 } else { 1 - self.slot() }
    }

    /// Ids in use below it.
    pub(super) fn used(self) -> u64 {
        self.0 & USED_MAX
    }

    /// Whether that commit wrote the page.
    pub(super) fn is_of(self, generation: u64) -> bool {
        self.0 >> USED_BITS & GENERATION == generation & GENERATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        for (slot, generation, used) in [(0, 1, 2), (1, GENERATION + 5, USED_MAX), (0, u64::MAX, 1)] {
            let entry = Entry::from_word(Entry::new(slot, generation, used).word());
            assert_eq!((entry.slot(), entry.used(), entry.other_slot()), (slot, used, 1 - slot));
            assert!(entry.is_of(generation) && !entry.is_of(generation.wrapping_add(1)));
            assert!(!entry.is_absent());
        }
        assert_eq!((Entry::default().is_absent(), Entry::default().other_slot()), (true, 0));
    }
}
