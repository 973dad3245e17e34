//! The hot path: from a swip to its page, without writing a shared line.
//!
//! Invariant (P7): the page that held the swip is validated by the caller after this returned; that alone catches an id
//! that was freed and used again in the same frame.

use pagestone_page_format::{FrameIndex, PageId};
use pagestone_swip::SwipWord;

use crate::frame::COOL;
use crate::table::Entry;
use crate::{BufferPool, ExclusivePage, OptimisticPage, Restart, SharedPage};

impl BufferPool {
    /// Finds the page that a swip names.
    ///
    /// Hot hint: the frame's header is sampled and says the same id. Otherwise the table; otherwise
    /// [`Restart::Fault`]. The answer's [`OptimisticPage::frame`] differs from the hint when the hint is worth a repair.
    /// Waits only while the very page is held exclusively: the caller may hold latches above it in latch order, none below.
    #[inline]
    pub fn resolve(&self, swip: SwipWord) -> Result<OptimisticPage<'_>, Restart> {
        if let Some(index) = swip.hint()
            && let Some(page) = self.sample(index, swip.page_id())?
        {
            return Ok(page);
        }
        self.resolve_by_table(swip.page_id())
    }

    /// As [`BufferPool::resolve`], then waits for the page shared. The caller may hold latches above it in latch order.
    pub fn resolve_shared(&self, swip: SwipWord) -> Result<SharedPage<'_>, Restart> {
        let OptimisticPage { index, id, .. } = self.resolve(swip)?;
        let frame = &self.frames[index.index()];
        let latch = frame.latch.lock_shared().map_err(|_| Restart::Fault(id))?;
        // Evicted while we waited?
        if !frame.holds(id) {
            return Err(Restart::Conflict);
        }
        Ok(SharedPage { pool: self, index, id, latch })
    }

    /// As [`BufferPool::resolve`], then waits for the page exclusively. The caller may hold latches above it in latch order.
    pub fn resolve_exclusive(&self, swip: SwipWord) -> Result<ExclusivePage<'_>, Restart> {
        let OptimisticPage { index, id, .. } = self.resolve(swip)?;
        let frame = &self.frames[index.index()];
        let latch = frame.latch.lock_exclusive().map_err(|_| Restart::Fault(id))?;
        if !frame.holds(id) {
            latch.unlock_unchanged();
            return Err(Restart::Conflict);
        }
        Ok(ExclusivePage { pool: self, index, id, latch })
    }

    #[inline]
    fn sample(&self, index: FrameIndex, id: PageId) -> Result<Option<OptimisticPage<'_>>, Restart> {
        let Some(frame) = self.frames.get(index.index()) else { return Ok(None) };
        if !frame.holds(id) {
            return Ok(None);
        }
        // A poisoned latch is told as an error by `fault`, the one place that gives errors.
        let latch = frame.latch.optimistic_spin().map_err(|_| Restart::Fault(id))?;
        if !frame.holds(id) {
            return Ok(None);
        }
        if latch.tag(COOL) {
            frame.latch.clear_tag(COOL); // the second touch warms
        }
        Ok(Some(OptimisticPage { pool: self, index, id, latch }))
    }

    #[cold]
    fn resolve_by_table(&self, id: PageId) -> Result<OptimisticPage<'_>, Restart> {
        match self.table.get(id) {
            Entry::Resident(index) => {
                self.counters.table_hits.add(1);
                // The frame may have been evicted since the table was read: look again.
                self.sample(index, id)?.ok_or(Restart::Conflict)
            }
            Entry::Absent | Entry::Loading => Err(Restart::Fault(id)),
        }
    }
}
