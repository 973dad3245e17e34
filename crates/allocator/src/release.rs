//! Ids that one mini-transaction frees.
//!
//! Invariant: the allocator hears of a free before the bit is cleared, and takes the id back only after the group that
//! cleared it was appended. So no load of a region can find the id free too early, and nobody can be given it twice.

use pagestone_page_format::{Lsn, PageId, PageResult};
use pagestone_sync::faults::planted;

use crate::reservation::joined;
use crate::{ClearBits, LoggedAllocator};

/// Ids that are being freed. Dropping it forgets them: they stay in use, which is right as long as their group has not
/// been appended.
#[derive(Debug)]
#[must_use = "dropping a release leaves its ids in use"]
pub struct Release<'a> {
    allocator: &'a LoggedAllocator,
    /// By first id.
    runs: Vec<Freed>,
}

#[derive(Clone, Copy, Debug)]
struct Freed {
    first: PageId,
    count: u32,
    /// Read past the pool by whoever has a reference and a [`crate::ReadGuard`].
    extent: bool,
}

impl<'a> Release<'a> {
    pub(crate) fn new(allocator: &'a LoggedAllocator) -> Self {
        Self { allocator, runs: Vec::new() }
    }

    /// Adds `count` ids of pages in a row, before their bits are cleared. Never waits and does no I/O: it may be called while
    /// pages are latched.
    ///
    /// Errors, with nothing added: `AllocationState` if one of them is free or is being freed already (a double free; in a
    /// region that was not loaded yet it is [`ClearBits`] that finds it), `InvalidPageId` for a map page, a run that
    /// leaves its region, and ids that the file does not have.
    pub fn add(&mut self, first: PageId, count: u32) -> PageResult<()> {
        self.push(Freed { first, count, extent: false })
    }

    /// Adds an extent, or a part of one: as [`Release::add`], but the ids stay out of use until every
    /// [`crate::ReadGuard`] is gone that there is at the commit (L8).
    pub fn add_extent(&mut self, first: PageId, count: u32) -> PageResult<()> {
        self.push(Freed { first, count, extent: true })
    }

    fn push(&mut self, freed: Freed) -> PageResult<()> {
        self.allocator.state().begin_release(freed.first, freed.count)?;
        let place = self.runs.partition_point(|other| other.first < freed.first);
        self.runs.insert(place, freed);
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The map pages of all ids, increasing, each once.
    pub fn map_pages(&self) -> impl Iterator<Item = PageId> {
        let mut last = None;
        let pages = self.runs.iter().map(|run| self.allocator.map_page_of(run.first));
        pages.filter(move |page| last.replace(*page) != Some(*page))
    }

    /// The changes that mark the ids as free, each with its map page, in increasing order. Where a group sets and clears
    /// the bit of one id, it sets it first.
    pub fn clear_bits(&self) -> impl Iterator<Item = (PageId, ClearBits)> {
        joined(self.runs.iter().map(|run| (run.first, run.count)))
            .map(|(first, count)| (self.allocator.map_page_of(first), ClearBits { first, count }))
    }

    /// Makes the ids usable again: as pages at once, or when they are read no more; as extents when a checkpoint has passed
    /// `lsn` ([`LoggedAllocator::checkpoint_passed`]). To be called after the group with [`Release::clear_bits`] was appended to
    /// the log, with the group's end; after its pages were let go; and after [`crate::Reservation::commit`] where the
    /// same group took ids.
    pub fn commit(mut self, lsn: Lsn) {
        let runs = std::mem::take(&mut self.runs);
        if runs.is_empty() {
            return;
        }
        let mut state = self.allocator.state();
        // Under the state's mutex, so that marks do not fall.
        let mark = self.allocator.readers().mark().filter(|_| !planted("a free does not ask who reads"));
        for Freed { first, count, extent } in runs {
            state.finish_release(lsn, first.get(), count.into(), mark.filter(|_| extent));
        }
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let mut state = self.allocator.state();
        for run in &self.runs {
            state.forget_release(run.first.get(), run.count.into());
        }
    }
}
