//! Ids that one mini-transaction may use.
//!
//! Invariant: an id of a reservation is free for nobody else until the reservation is dropped.

use pagestone_page_format::PageId;

use crate::{LoggedAllocator, SetBits};

/// Ids reserved for one mini-transaction: enough for the worst case; what is not taken goes back.
///
/// Dropping it forfeits all of them, taken or not: that is right as long as their group has not been appended.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its ids back"]
pub struct Reservation<'a> {
    allocator: &'a LoggedAllocator,
    ids: Vec<PageId>,
    taken: usize,
}

impl<'a> Reservation<'a> {
    pub(crate) fn new(allocator: &'a LoggedAllocator, runs: &[(u64, u64)]) -> Self {
        let ids = runs.iter().flat_map(|(start, len)| (*start..start + len).map(PageId::new)).collect();
        Self { allocator, ids, taken: 0 }
    }

    /// All ids, increasing.
    pub fn ids(&self) -> &[PageId] {
        &self.ids
    }

    /// The ids taken so far, increasing.
    pub fn taken(&self) -> &[PageId] {
        &self.ids[..self.taken]
    }

    /// Takes the lowest id that is left for use.
    pub fn take(&mut self) -> Option<PageId> {
        let id = *self.ids.get(self.taken)?;
        self.taken += 1;
        Some(id)
    }

    /// The map pages of all ids, increasing, each once: what to pin before the first change.
    pub fn map_pages(&self) -> impl Iterator<Item = PageId> {
        let mut last = None;
        self.ids
            .iter()
            .map(|id| self.allocator.map_page_of(*id))
            .filter(move |page| last.replace(*page) != Some(*page))
    }

    /// The changes that mark the ids taken so far as in use, each with its map page, in increasing order: the order in
    /// which map pages are latched. To be in the group that puts the ids to use.
    pub fn set_bits(&self) -> impl Iterator<Item = (PageId, SetBits)> {
        joined(self.taken().iter().map(|id| (*id, 1)))
            .map(|(first, count)| (self.allocator.map_page_of(first), SetBits { first, count }))
    }

    /// Keeps the ids taken and gives back the others. To be called after the group with [`Reservation::set_bits`] was
    /// appended to the log, and before anybody can see the pages, and free them.
    pub fn commit(mut self) {
        self.give_back(self.taken);
    }

    /// Gives back the ids from index `from` on; the rest are in use now.
    fn give_back(&mut self, from: usize) {
        let ids = std::mem::take(&mut self.ids);
        if ids.is_empty() {
            return;
        }
        let mut state = self.allocator.state();
        for (first, count) in joined(ids[..from].iter().map(|id| (*id, 1))) {
            state.put_to_use(first.get(), count.into());
        }
        for (first, count) in joined(ids[from..].iter().map(|id| (*id, 1))) {
            state.forfeit(first.get(), count.into());
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.give_back(0);
    }
}

/// Joins runs that touch. No run reaches over a region's end, because the map page there is in none.
pub(crate) fn joined(runs: impl Iterator<Item = (PageId, u32)>) -> impl Iterator<Item = (PageId, u32)> {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let (first, mut count) = runs.next()?;
        while let Some((_, more)) = runs.next_if(|(next, _)| next.get() == first.get() + u64::from(count)) {
            count += more;
        }
        Some((first, count))
    })
}
