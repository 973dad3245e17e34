//! The write-out of a whole checkpoint: what is dirty at one moment, in the order of the file.
//!
//! Invariant: it only writes dirty pages, as any flush does; how far a checkpoint has come is said by [`BufferPool::flush_below`] alone,
//! after it (L5).
//!
//! ```text
//!   oldest first   ■□□■□□□□■□■□□□■□   a round of 1024 of them is scattered over the file
//!   in its order   ■■■■■■■■■■■■■■■■   neighbours go together: a few long writes a batch
//! ```
//!
//! Where every dirty page has to go out, nothing is gained by taking the oldest first, and the pool would be scanned once a round. So
//! the pool is scanned once, and the pages are written piece by piece: between two of them whoever makes the checkpoint can see how
//! full the log is.

use pagestone_page_format::{FrameIndex, Lsn, PageId, PageResult};

use crate::BufferPool;

/// Pages to be written, made by [`BufferPool::write_out`].
#[derive(Debug)]
pub struct WriteOut<'p> {
    pool: &'p BufferPool,
    /// In the order of the file.
    frames: Vec<FrameIndex>,
    written: usize,
}

impl BufferPool {
    /// Finds the pages that are dirty now with a rec LSN below `lsn`; writes nothing yet. Costs one look at every frame's header, 64
    /// bytes each, and memory for 16 bytes a page that it finds.
    pub fn write_out(&self, lsn: Lsn) -> WriteOut<'_> {
        let is_old = |rec_lsn: Option<Lsn>| rec_lsn.is_some_and(|rec_lsn| rec_lsn < lsn);
        let old = self.frames.iter().enumerate().filter(|(_, frame)| is_old(frame.rec_lsn_if_dirty()));
        let mut dirty: Vec<(PageId, FrameIndex)> =
            old.filter_map(|(index, frame)| Some((frame.page()?, FrameIndex::new(index as u32)))).collect();
        dirty.sort_unstable();
        WriteOut { pool: self, frames: dirty.into_iter().map(|(_, index)| index).collect(), written: 0 }
    }
}

impl WriteOut<'_> {
    /// Pages that are still to be written; some may have been by others.
    pub fn left(&self) -> usize {
        self.frames.len() - self.written
    }

    /// Writes the next pages, `at_most` of them; those that somebody else wrote or is writing are passed over. It may run beside writers;
    /// the caller holds no latch. Nothing is durable before [`BufferPool::sync`].
    ///
    /// Errors: as of storage and log; every page that was not written is still dirty, and the next call goes on behind this piece.
    pub fn write(&mut self, at_most: usize) -> PageResult<()> {
        let from = self.written;
        self.written = self.frames.len().min(from + at_most);
        self.pool.flush_in_batches(&self.frames[from..self.written])
    }
}
