//! Ids that one mini-transaction frees.
//!
//! Invariant: the allocator hears of a free before the bit is cleared, and takes the id back only after the group that
//! cleared it was appended. So no load of a region can find the id free too early, and nobody can be given it twice.

use pagestone_page_format::{PageId, PageResult};

use crate::reservation::joined;
use crate::{ClearBits, PageAllocator};

/// Ids that are being freed. Dropping it forgets them: they stay in use, which is right as long as their group has not
/// been appended.
#[derive(Debug)]
#[must_use = "dropping a release leaves its ids in use"]
pub struct Release<'a> {
    allocator: &'a PageAllocator,
    /// By first id.
    runs: Vec<(PageId, u32)>,
}

impl<'a> Release<'a> {
    pub(crate) fn new(allocator: &'a PageAllocator) -> Self {
        Self { allocator, runs: Vec::new() }
    }

    /// Adds `count` ids in a row, before their bits are cleared. Never waits and does no I/O: it may be called while pages
    /// are latched.
    ///
    /// Errors, with nothing added: `AllocationState` if one of them is free or is being freed already (a double free; in a
    /// region that was not loaded yet it is [`ClearBits`] that finds it), `InvalidPageId` for a map page, a run that
    /// leaves its region, and ids that the file does not have.
    pub fn add(&mut self, first: PageId, count: u32) -> PageResult<()> {
        self.allocator.state().begin_release(first, count)?;
        let place = self.runs.partition_point(|(other, _)| *other < first);
        self.runs.insert(place, (first, count));
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The map pages of all ids, increasing, each once.
    pub fn map_pages(&self) -> impl Iterator<Item = PageId> {
        let mut last = None;
        let pages = self.runs.iter().map(|(first, _)| self.allocator.map_page_of(*first));
        pages.filter(move |page| last.replace(*page) != Some(*page))
    }

    /// The changes that mark the ids as free, each with its map page, in increasing order. Where a group sets and clears
    /// the bit of one id, it sets it first.
    pub fn clear_bits(&self) -> impl Iterator<Item = (PageId, ClearBits)> {
        joined(self.runs.iter().copied())
            .map(|(first, count)| (self.allocator.map_page_of(first), ClearBits { first, count }))
    }

    /// Makes the ids usable again. To be called after the group with [`Release::clear_bits`] was appended to the log, and
    /// after [`crate::Reservation::commit`] where the same group took ids.
    pub fn commit(mut self) {
        let runs = std::mem::take(&mut self.runs);
        let mut state = self.allocator.state();
        for (first, count) in runs {
            state.finish_release(first.get(), count.into());
        }
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let mut state = self.allocator.state();
        for (first, count) in &self.runs {
            state.forget_release(first.get(), (*count).into());
        }
    }
}
