//! One word of a map, of which one cache hands out ids and takes them back.
//!
//! Invariant: what is free here is free nowhere else, and what was taken here is in use, though the region does not say so before the
//! lease is settled. Both change under the lock of the cache that has the lease, and of neither does the disk know (A2).
//!
//! ```text
//!            take             settle: once for all
//!      free ──────► taken ─────────────────────────► the region's bit
//!        ▲            │                                    │
//!        └────────────┘ take_back                          └──► freed as any other id
//! ```
//!
//! So an id that is allocated and freed while its word is leased costs no atomic operation of its own, whoever frees it. A word may be
//! leased twice, to two caches: of other ids each.

use pagestone_sync::Arc;
use pagestone_sync::faults::planted;

use super::region::Region;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) region: Arc<Region>,
    /// The word, in the region's map.
    pub(super) word: usize,
    /// The id of its first bit.
    pub(super) first: u64,
    pub(super) free: u64,
    taken: u64,
}

impl Lease {
    /// Of ids that are free, and from now on free nowhere else.
    pub(super) fn new(region: Arc<Region>, word: usize, first: u64, free: u64) -> Self {
        Self { region, word, first, free, taken: 0 }
    }

    /// Hands out the lowest id.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let bit = self.free & self.free.wrapping_neg();
        let id = self.first + u64::from(bit.trailing_zeros());
        if !planted("an id stays in the cache that hands it out") {
            self.free ^= bit;
        }
        assert!(self.taken & bit == 0, "A2: id {id} is handed out and has an owner");
        self.taken |= bit;
        Some(id)
    }

    /// Takes an id back. False if it was not handed out here, or the region says of it that it is in use.
    #[inline]
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        let mut out = self.bit(id) & self.taken;
        if planted("who frees an id of a lease does not look whether it is out") {
            out = self.bit(id);
        }
        self.taken &= !out;
        self.free |= out;
        out != 0
    }

    /// How many were handed out.
    pub(super) fn out(&self) -> u32 {
        self.taken.count_ones()
    }

    /// The region's bits say what was handed out: gives how many they were.
    pub(super) fn settle(&mut self) -> u32 {
        let taken = std::mem::take(&mut self.taken);
        if taken == 0 {
            return 0;
        }
        let before = self.region.in_use.set(self.word, taken);
        assert!(
            before == 0,
            "A2: ids of the word at {} were handed out and have owners: {before:#x}",
            self.first
        );
        taken.count_ones()
    }

    /// How many ids right below this one are free here.
    pub(super) fn free_below(&self, id: u64) -> u64 {
        match id.wrapping_sub(self.first + 1) {
            last @ 0..64 => u64::from((self.free << (63 - last)).leading_ones()),
            _ => 0,
        }
    }

    /// The bit of an id; none for one of another word.
    fn bit(&self, id: u64) -> u64 {
        match id.wrapping_sub(self.first) {
            at @ 0..64 => 1 << at,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(free: u64) -> Lease {
        Lease::new(Arc::new(Region::new(0, &[0, !free])), 1, 64, free)
    }

    #[test]
    fn an_id_goes_out_and_comes_back_and_the_region_does_not_notice() {
        let mut lease = lease(0b1_0110);
        assert_eq!([lease.take(), lease.take()], [Some(65), Some(66)]);
        assert!(lease.take_back(65) && !lease.take_back(65), "a double free");
        assert!(
            !lease.take_back(68) && !lease.take_back(64) && !lease.take_back(63) && !lease.take_back(130)
        );
        assert_eq!((lease.region.in_use.get(1), lease.out()), (!0b1_0110, 1));
        assert_eq!([lease.take(), lease.take(), lease.take()], [Some(65), Some(68), None]);
    }

    #[test]
    fn what_was_settled_is_the_regions() {
        let mut lease = lease(0b1_0110);
        assert_eq!((lease.settle(), lease.take(), lease.settle(), lease.settle()), (0, Some(65), 1, 0));
        assert_eq!(lease.region.in_use.get(1), !0b1_0100);
        assert!(!lease.take_back(65), "it is freed as any other");
        assert_eq!(lease.take(), Some(66));
    }

    #[test]
    fn free_ids_below_one_are_those_of_the_word() {
        let mut lease = lease(0b1_0110);
        let below: Vec<u64> = [0, 64, 65, 66, 67, 68, 69, 128, 129].map(|id| lease.free_below(id)).to_vec();
        assert_eq!(below, [0, 0, 0, 1, 2, 0, 1, 0, 0]);
        lease.free = u64::MAX;
        assert_eq!([64, 65, 128, 129].map(|id| lease.free_below(id)), [0, 1, 64, 0]);
    }
}
