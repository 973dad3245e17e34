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
//! [`Rings::read`], [`Rings::write`] and [`Rings::write_and_sync`] borrow the batch, and so its buffers, for as long as they run; [`RingOwned`] owns
//! the buffers, and neither moves nor touches one that is under way. [`Flight`] counts the
//! entries that the kernel has taken and waits in its `drop` until each is completed, on every way out; one that is leaked leaks its buffers too. The entries name buffers of
//! that batch and the borrowed file's descriptor, and nothing else.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use io_uring::{opcode, squeue, types};
use pagestone_sync::thread;

use super::owned::Owned;
use super::ring_shelf::{DEPTH, Lent, Shelf};
use crate::{OwnedRead, OwnedWrite, ReadAt, WriteAt};

/// How often in a row the kernel may be interrupted or busy when it is entered, before the ring is given up.
const PASSING_LIMIT: u32 = 10_000;

/// Of a stream, the kernel is entered for so many bytes at least: entering it costs about what 64 KiB take on a fast disk.
const BEGIN_BYTES: usize = 64 << 10;

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
        self.write_with(file, batch, 0)
    }

    /// Writes the batch, each range whole or not at all (`RWF_ATOMIC`). False, with nothing done, where there is no ring.
    pub(super) fn write_atomic(&self, file: &File, batch: &mut [WriteAt<'_>]) -> bool {
        self.write_with(file, batch, libc::RWF_ATOMIC)
    }

    fn write_with(&self, file: &File, batch: &mut [WriteAt<'_>], flags: i32) -> bool {
        let entries = batch.iter().map(|write| write_entry(file, write, flags));
        let Some(results) = self.run(entries.collect()) else { return false };
        for (write, result) in batch.iter_mut().zip(results) {
            write.result = result;
        }
        true
    }

    /// Writes what the iterator gives, the first while it makes the next; one that may not begin, and all after the ring has failed, are left
    /// as interrupted. `None`, with nothing asked of the iterator, where there is no ring.
    pub(super) fn write_stream<'b>(
        &self,
        file: &File,
        writes: &mut dyn Iterator<Item = WriteAt<'b>>,
        may_begin: &dyn Fn(&WriteAt<'_>) -> bool,
    ) -> Option<Vec<WriteAt<'b>>> {
        let mut flight = Flight::new(self.shelf.lend()?);
        let (mut batch, mut results) = (Vec::new(), Vec::new());
        let (mut whole, mut waiting) = (true, 0);
        for write in writes {
            results.push(Err(ErrorKind::Interrupted.into()));
            if whole && may_begin(&write) {
                let entry = write_entry(file, &write, 0).user_data(batch.len() as u64);
                whole = flight.make_room(&mut into(&mut results)) && flight.push(&entry);
                waiting += write.buf.len();
            }
            batch.push(write);
            if whole && waiting >= BEGIN_BYTES {
                whole = flight.enter(0, &mut into(&mut results));
                waiting = 0;
            }
        }
        if whole {
            flight.land(&mut into(&mut results));
        }
        drop(flight);
        for (write, result) in batch.iter_mut().zip(results) {
            write.result = result;
        }
        Some(batch)
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
        let mut entries: Vec<_> = chain.iter().map(|write| link(write_entry(file, write, 0))).collect();
        let sync = opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC);
        entries.push(sync.build());
        let Some(mut results) = self.run(entries) else {
            return (!ahead.is_empty()).then_some(Ok(false)); // those of the chain are 0 bytes long as yet
        };
        let synced = results.pop()?;
        for (write, result) in chain.iter_mut().zip(results) {
            // One behind a write that came short or failed was not begun, and can be finished as any short one.
            write.result = if is_cancelled(&result) { Ok(0) } else { result };
        }
        let whole = |write: &WriteAt<'_>| matches!(write.result, Ok(took) if took == write.buf.len());
        match synced {
            cancelled if is_cancelled(&cancelled) => Some(Ok(false)),
            Err(error) => Some(Err(error)),
            Ok(_) => Some(Ok(batch.iter().all(whole))),
        }
    }

    /// Transfers that are begun one after another; `None` where there is no ring.
    pub(super) fn owned<'f, O: InRing>(&'f self, file: &'f File) -> Option<RingOwned<'f, O>> {
        let flight = Flight::new(self.shelf.lend()?);
        let slots = (0..DEPTH).map(|_| None).collect();
        Some(RingOwned {
            flight,
            slots,
            free: (0..DEPTH).rev().collect(),
            landed: Vec::new(),
            file,
            failed: false,
        })
    }

    fn run(&self, entries: Vec<squeue::Entry>) -> Option<Vec<io::Result<usize>>> {
        let mut flight = Flight::new(self.shelf.lend()?);
        // What no completion answers is done again by the caller, alone.
        let mut results: Vec<io::Result<usize>> =
            entries.iter().map(|_| Err(ErrorKind::Interrupted.into())).collect();
        flight.fly(&entries, &mut into(&mut results));
        Some(results)
    }
}

/// What is told of each entry that has completed: the place in the batch that it was given, and its result.
type Landed<'l> = dyn FnMut(usize, io::Result<usize>) + 'l;

/// Puts results into their places.
fn into(results: &mut [io::Result<usize>]) -> impl FnMut(usize, io::Result<usize>) {
    |place, result| {
        if let Some(place) = results.get_mut(place) {
            *place = result;
        }
    }
}

/// What has its buffer for itself and can go through a ring.
pub(super) trait InRing: Owned {
    /// The entry of it, which names its buffer: it may not move, nor be touched, until the entry has completed.
    fn entry(&mut self, file: types::Fd) -> squeue::Entry;
}

impl InRing for OwnedRead {
    fn entry(&mut self, file: types::Fd) -> squeue::Entry {
        let entry = opcode::Read::new(file, self.buf.as_mut_ptr(), entry_len(self.buf.len()));
        entry.offset(self.offset).build()
    }
}

impl InRing for OwnedWrite {
    fn entry(&mut self, file: types::Fd) -> squeue::Entry {
        let bytes = OwnedWrite::bytes(self);
        opcode::Write::new(file, bytes.as_ptr(), entry_len(bytes.len())).offset(self.offset).build()
    }
}

/// Transfers of one thread through a ring, each begun when it is known.
pub(super) struct RingOwned<'f, O> {
    /// Before the buffers: its drop waits for what is under way.
    flight: Flight<'f>,
    /// Those under way. Each stands in its slot, unmoved and untouched, from the push of its entry to its completion.
    slots: Box<[Option<O>]>,
    free: Vec<usize>,
    /// Those that have ended and were not given back yet.
    landed: Vec<O>,
    file: &'f File,
    failed: bool,
}

impl<O: InRing> RingOwned<'_, O> {
    /// Begins a transfer, or gives it back where the ring is full or has failed.
    pub(super) fn begin(&mut self, owned: O) -> Result<(), O> {
        if self.failed {
            return Err(owned);
        }
        let Some(slot) = self.free.pop() else { return Err(owned) };
        let owned = self.slots[slot].insert(owned);
        let entry = owned.entry(types::Fd(self.file.as_raw_fd()));
        if self.flight.push(&entry.user_data(slot as u64)) {
            return Ok(());
        }
        self.free.push(slot);
        self.slots[slot].take().map_or(Ok(()), Err)
    }

    /// Gives the kernel what was begun, without waiting for it. What has ended meanwhile is kept for the next wait.
    pub(super) fn submit(&mut self) {
        let Self { flight, slots, free, landed, failed, .. } = self;
        if !*failed {
            *failed = !flight.enter(0, &mut Self::landing(slots, free, landed));
        }
    }

    /// Waits until `least` of them have ended, or all, and appends those that have.
    pub(super) fn wait(&mut self, least: usize, ended: &mut Vec<O>) {
        let least = least.saturating_sub(self.landed.len());
        ended.append(&mut self.landed);
        let under_way = DEPTH - self.free.len();
        if under_way == 0 {
            return;
        }
        let enough = ended.len() + least.min(under_way);
        while !self.failed {
            let wait = enough.saturating_sub(ended.len());
            let mut landed = Self::landing(&mut self.slots, &mut self.free, ended);
            self.failed = !self.flight.enter(wait, &mut landed);
            drop(landed);
            if ended.len() >= enough {
                return;
            }
        }
        // What the kernel has ends; the rest never began, and is done again by the caller, alone.
        self.flight.settle(&mut Self::landing(&mut self.slots, &mut self.free, ended));
        for slot in 0..DEPTH {
            Self::landing(&mut self.slots, &mut self.free, ended)(slot, Err(ErrorKind::Interrupted.into()));
        }
    }

    /// Gives a transfer back that has completed.
    fn landing<'l>(
        slots: &'l mut [Option<O>],
        free: &'l mut Vec<usize>,
        ended: &'l mut Vec<O>,
    ) -> impl FnMut(usize, io::Result<usize>) + 'l {
        |slot, result| {
            if let Some(mut owned) = slots.get_mut(slot).and_then(Option::take) {
                *owned.result() = result;
                ended.push(owned);
                free.push(slot);
            }
        }
    }
}

/// Whether the kernel did not begin a link of a chain, because one before it came short or failed.
fn is_cancelled(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED))
}

fn write_entry(file: &File, write: &WriteAt<'_>, flags: i32) -> squeue::Entry {
    let descriptor = types::Fd(file.as_raw_fd());
    let entry = opcode::Write::new(descriptor, write.buf.as_ptr(), entry_len(write.buf.len()));
    entry.offset(write.offset).rw_flags(flags).build()
}

/// A length as an entry has it. The kernel transfers less than 2 GiB at once in any case: the rest is finished by the caller.
fn entry_len(len: usize) -> u32 {
    len.try_into().unwrap_or(1 << 30)
}

/// The entries that the kernel has and has not given back yet, and the ring that they went through.
struct Flight<'s> {
    ring: Lent<'s>,
    /// Entries put into the queue.
    queued: usize,
    /// Entries whose completion was seen.
    completed: usize,
}

impl<'s> Flight<'s> {
    fn new(ring: Lent<'s>) -> Self {
        Self { ring, queued: 0, completed: 0 }
    }

    /// Takes every entry through the ring. False if the ring failed: then some results are as they were.
    fn fly(&mut self, entries: &[squeue::Entry], landed: &mut Landed<'_>) -> bool {
        while self.completed < entries.len() {
            let room = DEPTH - (self.queued - self.completed);
            for entry in entries[self.queued..].iter().take(room) {
                if !self.push(&entry.clone().user_data(self.queued as u64)) {
                    break;
                }
            }
            let under_way = self.queued - self.completed;
            // While there is more to come, half of the ring is enough to go on with.
            let wait = if self.queued < entries.len() { under_way.div_ceil(2) } else { under_way };
            if !self.enter(wait, landed) {
                return false;
            }
        }
        true
    }

    /// Waits until the ring has room for one more. False if the ring failed.
    fn make_room(&mut self, landed: &mut Landed<'_>) -> bool {
        while self.queued - self.completed >= DEPTH {
            if !self.enter(DEPTH / 2, landed) {
                return false;
            }
        }
        true
    }

    /// Waits for all that was begun. False if the ring failed.
    fn land(&mut self, landed: &mut Landed<'_>) -> bool {
        while self.completed < self.queued {
            if !self.enter(self.queued - self.completed, landed) {
                return false;
            }
        }
        true
    }

    /// Submits what is queued, waits for so many completions, and takes those that are there. An interrupted or busy kernel is
    /// entered again. False if the ring failed.
    fn enter(&mut self, wait: usize, landed: &mut Landed<'_>) -> bool {
        for _ in 0..PASSING_LIMIT {
            let entered = self.ring.submitter().submit_and_wait(wait);
            let before = self.completed;
            self.reap(landed);
            match entered {
                Ok(_) => return true,
                Err(error) if !is_passing(&error) => return false,
                Err(_) if self.completed > before => return true,
                Err(_) => thread::yield_now(),
            }
        }
        false
    }

    /// Puts an entry into the queue; false if it is full.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry names a buffer of the batch and the descriptor of the file, both borrowed by the caller of the flight
        // until it is dropped, and the drop waits for the entry's completion.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.queued += usize::from(pushed);
        pushed
    }

    /// What was queued and is not in the queue any more, the kernel has taken.
    fn taken(&mut self) -> usize {
        self.queued - self.ring.submission().len()
    }

    fn reap(&mut self, landed: &mut Landed<'_>) {
        for completion in self.ring.completion() {
            self.completed += 1;
            let count = completion.result();
            let result = usize::try_from(count).map_err(|_| io::Error::from_raw_os_error(-count));
            landed(completion.user_data() as usize, result);
        }
    }

    /// Waits for what the kernel still has. Nothing is left unless the ring failed, something unwinds, or nobody waited.
    fn settle(&mut self, landed: &mut Landed<'_>) {
        while self.completed < self.taken() {
            // Entering the kernel is what lets it post completions; whether it can wait there does not matter.
            let _ = self.ring.submitter().submit_and_wait(1);
            self.reap(landed);
            thread::yield_now();
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.settle(&mut |_, _| {});
        self.ring.empty = self.completed == self.queued;
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}
