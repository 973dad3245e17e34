//! Which slots of which pages are in use, and by whom.
//!
//! Invariant: a page is known as long as a slot of it is in use, and is among those with room as long as one is free.

use std::collections::{BTreeMap, BTreeSet};

/// A slot of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Found {
    pub(super) page: u64,
    pub(super) slot: usize,
}

/// Pages, and a bit for each of their slots that is in use.
pub(super) type Used = BTreeMap<u64, Vec<u64>>;

#[derive(Debug)]
struct Parent {
    /// Which allocation has each slot; 0 is nobody.
    allocations: Box<[u64]>,
    used: usize,
}

/// All slots in use.
#[derive(Debug)]
pub(super) struct Slots {
    per_page: usize,
    parents: BTreeMap<u64, Parent>,
    with_room: BTreeSet<u64>,
    last_allocation: u64,
}

impl Slots {
    pub(super) fn new(per_page: usize) -> Self {
        Self { per_page, parents: BTreeMap::new(), with_room: BTreeSet::new(), last_allocation: 0 }
    }

    /// Which allocation has a slot; 0 for one that nobody has or that does not exist.
    pub(super) fn allocation(&self, found: Found) -> u64 {
        let parent = self.parents.get(&found.page);
        parent.and_then(|parent| parent.allocations.get(found.slot)).copied().unwrap_or(0)
    }

    /// Slots that are free, of pages that are known: so many, or all there are.
    pub(super) fn find(&self, count: usize) -> Vec<Found> {
        let free = |page: &u64| {
            let (page, parent) = (*page, &self.parents[page]);
            let slots = parent.allocations.iter().enumerate().filter(|(_, allocation)| **allocation == 0);
            slots.map(move |(slot, _)| Found { page, slot })
        };
        self.with_room.iter().flat_map(free).take(count).collect()
    }

    /// What will be in use of the pages of these slots once they are.
    pub(super) fn with(&self, found: &[Found]) -> Used {
        self.changed(found, |word, bit| *word |= bit)
    }

    /// What will be in use of the pages of these slots once they are not.
    pub(super) fn without(&self, found: &[Found]) -> Used {
        self.changed(found, |word, bit| *word &= !bit)
    }

    fn changed(&self, found: &[Found], change: impl Fn(&mut u64, u64)) -> Used {
        let mut used = Used::new();
        for Found { page, slot } in found {
            let words = used.entry(*page).or_insert_with(|| self.used(*page));
            change(&mut words[slot / 64], 1 << (slot % 64));
        }
        used
    }

    fn used(&self, page: u64) -> Vec<u64> {
        let mut words = vec![0; self.per_page.div_ceil(64)];
        let slots = self.parents.get(&page).map_or(&[][..], |parent| &parent.allocations);
        for (slot, _) in slots.iter().enumerate().filter(|(_, allocation)| **allocation != 0) {
            words[slot / 64] |= 1 << (slot % 64);
        }
        words
    }

    /// Takes a slot that is free; gives the number of the allocation.
    pub(super) fn take(&mut self, found: Found) -> u64 {
        let empty = || Parent { allocations: vec![0; self.per_page].into_boxed_slice(), used: 0 };
        let parent = self.parents.entry(found.page).or_insert_with(empty);
        self.last_allocation += 1;
        parent.allocations[found.slot] = self.last_allocation;
        parent.used += 1;
        if parent.used == self.per_page {
            self.with_room.remove(&found.page);
        } else {
            self.with_room.insert(found.page);
        }
        self.last_allocation
    }

    /// Gives a slot back that is in use.
    pub(super) fn give(&mut self, found: Found) {
        let Some(parent) = self.parents.get_mut(&found.page) else { return };
        parent.allocations[found.slot] = 0;
        parent.used -= 1;
        if parent.used == 0 {
            self.parents.remove(&found.page);
            self.with_room.remove(&found.page);
        } else {
            self.with_room.insert(found.page);
        }
    }

    /// All slots in use, and which allocation has each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Found, u64)> + '_ {
        self.parents.iter().flat_map(|(page, parent)| {
            let slots = parent.allocations.iter().enumerate().filter(|(_, allocation)| **allocation != 0);
            slots.map(|(slot, allocation)| (Found { page: *page, slot }, *allocation))
        })
    }
}
