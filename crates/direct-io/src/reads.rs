//! Reads of a file that go on beside each other, each begun when it is known.
//!
//! Invariant: a buffer belongs to the reads from its beginning to its end, so that nobody can look at it, move it or free it meanwhile; every read
//! that was begun is given back once, with its own result.
//!
//! ```text
//!   batch      begin 32 ─── wait for all 32 ─── begin 32 ─── wait for all 32      the slowest of each holds up the next
//!   reads      begin 32 ─── wait for 8 ─── begin 8 ─── wait for 8 ─── begin 8     the disk always has something to do
//! ```

use std::io;

use pagestone_page_format::AlignedBuf;

use crate::{File, ReadAt};

/// A read that has its buffer for itself.
#[derive(Debug)]
pub struct OwnedRead {
    /// Where to put the bytes, and how many are wanted.
    pub buf: AlignedBuf,
    /// Where they stand in the file.
    pub offset: u64,
    /// The caller's: it comes back as it was.
    pub tag: u64,
    /// What came of it: the bytes got, as from [`File::read_at`]. Nothing yet is 0.
    pub result: io::Result<usize>,
}

impl OwnedRead {
    /// A read to be done.
    pub fn new(buf: AlignedBuf, offset: u64, tag: u64) -> Self {
        Self { buf, offset, tag, result: Ok(0) }
    }
}

/// Reads of one file by one thread, made by [`File::reads`]. Dropping it waits for those that are under way.
pub trait Reads {
    /// Begins a read, at the latest with the next [`Reads::wait`].
    fn begin(&mut self, read: OwnedRead);

    /// Waits until `least` of those that were begun have ended, or all of them where fewer were begun, and appends those that have ended, in any
    /// order. Raw, as [`File::read_at`] is; [`crate::wait_exact`] is what to call.
    fn wait(&mut self, least: usize, ended: &mut Vec<OwnedRead>);
}

/// Where nothing goes on by itself: all that were begun are read in one batch, once somebody waits.
#[derive(Debug)]
pub(crate) struct BatchedReads<'f, F: ?Sized> {
    file: &'f F,
    begun: Vec<OwnedRead>,
}

impl<'f, F: File + ?Sized> BatchedReads<'f, F> {
    pub(crate) fn new(file: &'f F) -> Self {
        Self { file, begun: Vec::new() }
    }
}

impl<F: File + ?Sized> Reads for BatchedReads<'_, F> {
    fn begin(&mut self, read: OwnedRead) {
        self.begun.push(read);
    }

    fn wait(&mut self, _least: usize, ended: &mut Vec<OwnedRead>) {
        let mut batch: Vec<ReadAt<'_>> =
            self.begun.iter_mut().map(|read| ReadAt::new(&mut read.buf, read.offset)).collect();
        self.file.read_batch(&mut batch);
        let results: Vec<_> = batch.into_iter().map(|read| read.result).collect();
        for (read, result) in self.begun.iter_mut().zip(results) {
            read.result = result;
        }
        ended.append(&mut self.begun);
    }
}
