//! Writes of a file that go on beside each other, each begun when it is known.
//!
//! Invariant: a buffer belongs to the writes from its beginning to its end, so that nobody can change, move or free it meanwhile; every write
//! that was begun is given back once, with its own result.
//!
//! ```text
//!   stream     fill 16 ─── wait for all 16 ─── fill 16 ─── wait for all 16        the disk is idle at the end of each
//!   writes     fill ─ begin ─ fill ─ begin ─ ... ─ wait for one ─ fill ─ begin    the disk always has something to do
//! ```

use std::io;

use pagestone_page_format::AlignedBuf;

use crate::{File, WriteAt};

/// A write that has its buffer for itself.
#[derive(Debug)]
pub struct OwnedWrite {
    /// The bytes, and anything behind them.
    pub buf: AlignedBuf,
    /// How many of them are written.
    pub len: usize,
    /// Where they shall stand in the file.
    pub offset: u64,
    /// What came of it: the bytes taken, as from [`File::write_at`]. Nothing yet is 0.
    pub result: io::Result<usize>,
}

impl OwnedWrite {
    /// A write of the first `len` bytes of a buffer to be done. Panics if it is shorter.
    pub fn new(buf: AlignedBuf, len: usize, offset: u64) -> Self {
        assert!(len <= buf.len(), "a buffer of {} bytes has no {len} to write", buf.len());
        Self { buf, len, offset, result: Ok(0) }
    }

    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len.min(self.buf.len())]
    }
}

/// Writes of one file by one thread, made by [`File::writes`]. No two that are under way overlap. Dropping it waits for those that are; one
/// that could not go on by itself may not have been begun.
pub trait Writes {
    /// Begins a write, at the latest with the next [`Writes::wait`].
    fn begin(&mut self, write: OwnedWrite);

    /// Waits until `least` of those that were begun have ended, or all of them where fewer were begun, and appends those that have ended, in any
    /// order. Raw, as [`File::write_at`] is; [`crate::wait_all`] is what to call.
    fn wait(&mut self, least: usize, ended: &mut Vec<OwnedWrite>);
}

/// Where nothing goes on by itself: all that were begun are written in one batch, once somebody waits.
#[derive(Debug)]
pub(crate) struct BatchedWrites<'f, F: ?Sized> {
    file: &'f F,
    begun: Vec<OwnedWrite>,
}

impl<'f, F: File + ?Sized> BatchedWrites<'f, F> {
    pub(crate) fn new(file: &'f F) -> Self {
        Self { file, begun: Vec::new() }
    }
}

impl<F: File + ?Sized> Writes for BatchedWrites<'_, F> {
    fn begin(&mut self, write: OwnedWrite) {
        self.begun.push(write);
    }

    fn wait(&mut self, _least: usize, ended: &mut Vec<OwnedWrite>) {
        let mut batch: Vec<WriteAt<'_>> =
            self.begun.iter().map(|write| WriteAt::new(write.bytes(), write.offset)).collect();
        self.file.write_batch(&mut batch);
        let results: Vec<_> = batch.into_iter().map(|write| write.result).collect();
        for (write, result) in self.begun.iter_mut().zip(results) {
            write.result = result;
        }
        ended.append(&mut self.begun);
    }
}
