//! Batches of transfers through io_uring: all of a batch is under way at once.
//!
//! Invariant: nothing returns, and nothing unwinds, while the kernel may still touch a buffer of the batch; and every transfer gets
//! exactly one result, which is its own.
//!
//! ```text
//!   batch ──► submission queue ──► kernel ──► completion queue ──► results
//!              at most DEPTH           user data = place in the batch
//! ```
//!
//! A ring belongs to one batch at a time; a file keeps a few (`ring_shelf.rs`). Where there is none to be had for a batch (no
//! descriptors: I16), the batch is not touched and the caller does it one by one. The file is not registered and neither are buffers:
//! [decision 007](../../../../docs/decisions/007-what-a-ring-registers.md).
//!
//! # Safety
//!
//! The kernel reads and writes the buffers of a batch from the call that submits an entry until that entry's completion is seen.
//! [`Rings::read`], [`Rings::write`] and [`Rings::write_and_sync`] borrow the batch, and so its buffers, for as long as they run; [`Flight`] counts the
//! entries that the kernel has taken and waits in its `drop` until each is completed, on every way out. The entries name buffers of
//! that batch and the borrowed file's descriptor, and nothing else.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use pagestone_sync::thread;

use super::ring_shelf::{DEPTH, Shelf};
use crate::{ReadAt, WriteAt};

/// How often in a row the kernel may be interrupted or busy when it is entered, before the ring is given up.
const PASSING_LIMIT: u32 = 10_000;

/// The rings of one file.
#[derive(Debug)]
pub(super) struct Rings {
    shelf: Shelf,
}

impl Rings {
    /// With a first ring, or the reason why there is none.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { shelf: Shelf::new()? })
    }

    /// Reads the batch. False, with nothing done, where there is no ring.
    pub(super) fn read(&self, file: &File, batch: &mut [ReadAt<'_>]) -> bool {
        let descriptor = types::Fd(file.as_raw_fd());
        let entries = batch.iter_mut().map(|read| {
            let entry = opcode::Read::new(descriptor, read.buf.as_mut_ptr(), entry_len(read.buf.len()));
            entry.offset(read.offset).build()
        });
        let Some(results) = self.run(entries.collect()) else { return false };
        for (read, result) in batch.iter_mut().zip(results) {
            read.result = result;
        }
        true
    }

    /// Writes the batch. False, with nothing done, where there is no ring.
    pub(super) fn write(&self, file: &File, batch: &mut [WriteAt<'_>]) -> bool {
        let Some(results) = self.run(write_entries(file, batch)) else { return false };
        for (write, result) in batch.iter_mut().zip(results) {
            write.result = result;
        }
        true
    }

    /// Writes the batch, and syncs the file behind all of it. `None`, with nothing done, where there is no ring. Else whether it was synced, or
    /// the error of the sync; it was not tried if a write came short or failed.
    ///
    /// Linked, each begins when the one before it has succeeded. A drained sync would do with less order; but a ring that defers completions
    /// waits for all of them at once, and never sees the one that the drain waits for.
    pub(super) fn write_and_sync(&self, file: &File, batch: &mut [WriteAt<'_>]) -> Option<io::Result<bool>> {
        // A chain is submitted at once: what is more than a ring holds goes ahead of it.
        let (ahead, chain) = batch.split_at_mut(batch.len().saturating_sub(DEPTH - 1));
        if !ahead.is_empty() && !self.write(file, ahead) {
            return None;
        }
        let link = |entry: squeue::Entry| entry.flags(squeue::Flags::IO_LINK);
        let mut entries: Vec<_> = write_entries(file, chain).into_iter().map(link).collect();
        let sync = opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC);
        entries.push(sync.build());
        let Some(mut results) = self.run(entries) else {
            return (!ahead.is_empty()).then_some(Ok(false)); // those of the chain are 0 bytes long as yet
        };
        let synced = results.pop()?;
        for (write, result) in chain.iter_mut().zip(results) {
            write.result = result;
        }
        let whole = |write: &WriteAt<'_>| matches!(write.result, Ok(took) if took == write.buf.len());
        match synced {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Some(Ok(false)),
            Err(error) => Some(Err(error)),
            Ok(_) => Some(Ok(batch.iter().all(whole))),
        }
    }

    fn run(&self, entries: Vec<squeue::Entry>) -> Option<Vec<io::Result<usize>>> {
        let mut ring = self.shelf.take()?;
        // What no completion answers is done again by the caller, alone.
        let mut results: Vec<io::Result<usize>> =
            entries.iter().map(|_| Err(ErrorKind::Interrupted.into())).collect();
        let whole = Flight { ring: &mut ring.ring, queued: 0, completed: 0 }.fly(&entries, &mut results);
        if whole {
            self.shelf.put_back(ring);
        } else {
            self.shelf.close(ring); // it may hold entries that were never submitted
        }
        Some(results)
    }
}

fn write_entries(file: &File, batch: &[WriteAt<'_>]) -> Vec<squeue::Entry> {
    let descriptor = types::Fd(file.as_raw_fd());
    let entry = |write: &WriteAt<'_>| {
        let entry = opcode::Write::new(descriptor, write.buf.as_ptr(), entry_len(write.buf.len()));
        entry.offset(write.offset).build()
    };
    batch.iter().map(entry).collect()
}

/// A length as an entry has it. The kernel transfers less than 2 GiB at once in any case: the rest is finished by the caller.
fn entry_len(len: usize) -> u32 {
    len.try_into().unwrap_or(1 << 30)
}

/// The entries of one batch that the kernel has and has not given back yet.
struct Flight<'r> {
    ring: &'r mut IoUring,
    /// Entries put into the queue.
    queued: usize,
    /// Entries whose completion was seen.
    completed: usize,
}

impl Flight<'_> {
    /// Takes every entry through the ring. False if the ring failed: then some results are as they were.
    fn fly(&mut self, entries: &[squeue::Entry], results: &mut [io::Result<usize>]) -> bool {
        let mut passing = 0;
        while self.completed < entries.len() {
            self.queue(entries);
            let under_way = self.queued - self.completed;
            // While there is more to come, half of the ring is enough to go on with.
            let wait = if self.queued < entries.len() { under_way.div_ceil(2) } else { under_way };
            let entered = self.ring.submitter().submit_and_wait(wait);
            self.reap(results);
            match entered {
                Ok(_) => passing = 0,
                Err(error) if is_passing(&error) && passing < PASSING_LIMIT => {
                    passing += 1;
                    thread::yield_now();
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Puts the next entries into the queue, as many as the ring may have under way.
    fn queue(&mut self, entries: &[squeue::Entry]) {
        let room = DEPTH - (self.queued - self.completed);
        let mut queue = self.ring.submission();
        for entry in entries[self.queued..].iter().take(room) {
            let entry = entry.clone().user_data(self.queued as u64);
            // SAFETY: the entry names a buffer of the batch and the descriptor of the file, both borrowed by the caller of `run`
            // until this flight is dropped, and the drop waits for the entry's completion.
            if unsafe { queue.push(&entry) }.is_err() {
                break;
            }
            self.queued += 1;
        }
    }

    /// What was queued and is not in the queue any more, the kernel has taken.
    fn taken(&mut self) -> usize {
        self.queued - self.ring.submission().len()
    }

    fn reap(&mut self, results: &mut [io::Result<usize>]) {
        for completion in self.ring.completion() {
            self.completed += 1;
            if let Some(result) = results.get_mut(completion.user_data() as usize) {
                let count = completion.result();
                *result = usize::try_from(count).map_err(|_| io::Error::from_raw_os_error(-count));
            }
        }
    }
}

impl Drop for Flight<'_> {
    /// Waits for what the kernel still has. Nothing is left unless the ring failed or something unwinds.
    fn drop(&mut self) {
        while self.completed < self.taken() {
            // Entering the kernel is what lets it post completions; whether it can wait there does not matter.
            let _ = self.ring.submitter().submit_and_wait(1);
            self.completed += self.ring.completion().count();
            thread::yield_now();
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}
