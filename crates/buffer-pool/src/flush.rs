//! Flushing: dirty pages go out because somebody asks for it, not because a frame is wanted.
//!
//! Invariant: when a flush returns without an error, what it names is in storage, as it was when the flush began or newer;
//! nothing is durable before [`BufferPool::sync`].
//!
//! ```text
//!   flush(id)               one page
//!   flush_all()             what was dirty at the call            before closing, before dropping the cache
//!   flush_below(lsn, n)     the n pages with the least rec LSN     continuous checkpoints (L5)
//!   write_out(lsn)          piece by piece, in the file's order     whole checkpoints: `write_out.rs`
//! ```
//!
//! A flush may wait for a latch that somebody holds, and for a write that somebody else began; both are short, and nobody
//! waits for a flush: pages are copied under validation and written from the copy. Batches go in the order of page ids, which is
//! their order in the file. A batch is bounded by a quarter of the pool too, since a page that is being written cannot leave
//! its frame.

use std::collections::BinaryHeap;
use std::time::Duration;

use pagestone_page_format::{FrameIndex, Lsn, PageId, PageResult};

use crate::BufferPool;
use crate::write_back::WhenLatched;

/// Pages, and bytes, that a flush writes at once at most. So many pages are one region of a double-write.
const BATCH_PAGES: usize = 251;
const BATCH_BYTES: usize = 4 << 20;
/// How long a flush waits for a write that somebody else began before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What [`BufferPool::flush_below`] did and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// Dirty pages that it took on.
    pub taken: usize,
    /// The least rec LSN of the pages that it left dirty, or found dirty again; none if there are no such pages. What somebody
    /// changed after the flush began counts with that change's own group or not at all, so for a checkpoint ask the log for its
    /// end, and for the groups in progress, before the flush (L5).
    pub oldest: Option<Lsn>,
}

/// A dirty page, ordered by age: the greatest is the youngest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Dirty {
    rec_lsn: Lsn,
    id: PageId,
    index: FrameIndex,
}

impl BufferPool {
    /// Writes the page if it is resident and dirty. The caller holds no latch.
    pub fn flush(&self, id: PageId) -> PageResult<()> {
        let Some(index) = self.frame_of(id) else { return Ok(()) };
        let changes = self.frames[index.index()].changes();
        self.flush_frame(index, id, changes)
    }

    /// Writes every page that was dirty when this was called. It may run beside writers; the caller holds no latch, no
    /// [`crate::PageMut`] among them.
    pub fn flush_all(&self) -> PageResult<()> {
        let mut dirty: Vec<_> = (0..self.frames.len())
            .filter(|index| self.frames[*index].is_dirty())
            .filter_map(|index| {
                let frame = &self.frames[index];
                Some((frame.page()?, FrameIndex::new(index as u32), frame.changes()))
            })
            .collect();
        dirty.sort_unstable();
        let order: Vec<FrameIndex> = dirty.iter().map(|(_, index, _)| *index).collect();
        self.flush_in_batches(&order)?;
        // Another thread may be writing one of them, or it was changed again before our copy: both are waited for.
        dirty.into_iter().try_for_each(|(id, index, changes)| self.flush_frame(index, id, changes))
    }

    /// Writes the pages whose rec LSN is below `lsn`, the oldest first and at most `at_most` of them. It may run beside
    /// writers; the caller holds no latch.
    ///
    /// Costs one look at every frame's header, 64 bytes each, and memory for `at_most` entries of 24 bytes. A page that is
    /// changed while it is written is dirty again, but younger (L3): a hot page holds nothing back.
    ///
    /// Errors: as of storage and log; every page that was not written is still dirty.
    pub fn flush_below(&self, lsn: Lsn, at_most: usize) -> PageResult<Flushed> {
        // 1. Which, in one scan.
        let mut take: BinaryHeap<Dirty> = BinaryHeap::new();
        let mut left = None;
        for (index, frame) in self.frames.iter().enumerate() {
            let (Some(rec_lsn), Some(id)) = (frame.rec_lsn_if_dirty(), frame.page()) else { continue };
            let mut leave = Some(rec_lsn);
            if rec_lsn < lsn {
                take.push(Dirty { rec_lsn, id, index: FrameIndex::new(index as u32) });
                leave = if take.len() > at_most { take.pop().map(|youngest| youngest.rec_lsn) } else { None };
            }
            left = least(left, leave);
        }
        // 2. Out, in the order of the file.
        let mut take = take.into_vec();
        take.sort_unstable_by_key(|dirty| dirty.id);
        let order: Vec<FrameIndex> = take.iter().map(|dirty| dirty.index).collect();
        self.flush_in_batches(&order)?;
        // 3. What is dirty all the same: changed meanwhile, or another thread is writing it.
        for dirty in &take {
            let frame = &self.frames[dirty.index.index()];
            if frame.is_writing() {
                self.frame_freed.wait_briefly(LOOK_AGAIN, || !frame.is_writing());
            }
            left = least(left, frame.rec_lsn_if_dirty());
        }
        Ok(Flushed { taken: take.len(), oldest: left })
    }

    /// Makes everything written so far durable. A failure poisons the handle: a failed sync is never tried again (L9, I9).
    pub fn sync(&self) -> PageResult<()> {
        self.poison.check()?;
        self.store.sync().map_err(|error| self.poison.poison(format_args!("syncing the data file: {error}")))
    }

    /// [`BufferPool::flush_all`], then [`BufferPool::sync`].
    pub fn checkpoint(&self) -> PageResult<()> {
        self.flush_all()?;
        self.sync()
    }

    pub(crate) fn flush_in_batches(&self, frames: &[FrameIndex]) -> PageResult<()> {
        let batch = BATCH_PAGES.min(BATCH_BYTES / self.size.get()).min(self.capacity() / 4).max(1);
        frames.chunks(batch).try_for_each(|batch| self.write_back(batch, WhenLatched::Wait))
    }

    /// Writes until no change of the page up to the count `changes` is in memory alone.
    fn flush_frame(&self, index: FrameIndex, id: PageId, changes: u64) -> PageResult<()> {
        let frame = &self.frames[index.index()];
        while frame.holds(id) && frame.is_unwritten_since(changes) {
            self.write_back(&[index], WhenLatched::Wait)?;
            if frame.is_writing() {
                self.frame_freed.wait_briefly(LOOK_AGAIN, || !frame.is_writing());
            }
        }
        Ok(())
    }
}

fn least(a: Option<Lsn>, b: Option<Lsn>) -> Option<Lsn> {
    [a, b].into_iter().flatten().min()
}
