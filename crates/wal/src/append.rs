//! Appending: everything that can be waited for first, then a copy that cannot fail.
//!
//! Invariant: buffer, ready segments and budget have room for every outstanding reservation at every moment; so
//! [`Wal::append`] neither waits nor fails, and callers may hold latches over it.
//!
//! Sealing keeps this: it moves on to a buffer of the same size with no more in it than before. Closing a block, which
//! moves the stream ahead, is done only when the segments leave room for it.

use std::time::{Duration, Instant};

use pagestone_page_format::{Lsn, OpKind, PageId};
use pagestone_sync::MutexGuard;
use pagestone_sync::faults::planted;

use crate::error::{WalError, WalResult};
use crate::group::GroupBuilder;
use crate::progress::InProgress;
use crate::wal::{State, Wal};

/// Room in the log for one group; given back when dropped.
#[derive(Debug)]
#[must_use = "room that is dropped is given back"]
pub struct LogSpace<'a> {
    wal: &'a Wal,
    bytes: usize,
}

impl LogSpace<'_> {
    /// Bytes that the group may have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for LogSpace<'_> {
    fn drop(&mut self) {
        let mut state = self.wal.state.lock();
        state.give_back(self.bytes);
        self.wal.tell_room(state);
    }
}

/// Where a group came to lie.
#[derive(Debug)]
pub struct Appended<'a> {
    /// LSN of its first byte: a `rec_lsn` (L3).
    pub start: Lsn,
    /// LSN behind its last byte: the page LSN of what it changed (L1), and what to wait for.
    pub end: Lsn,
    /// Drop it once every page that the group changed is stamped: until then checkpoints stay before it (L5).
    pub in_progress: InProgress<'a>,
}

/// How long a writer that waits for room sleeps before it looks for a failure elsewhere.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a reservation lacks.
pub(crate) enum Short {
    Buffer,
    Segments { behind: u64 },
    Budget,
}

impl Wal {
    /// Obtains room for a group of at most `bytes` bytes ([`GroupBuilder::bound`], [`GroupBuilder::encoded_len`]).
    ///
    /// Everything that an append could wait for is waited for here: room in the buffer, the next segment, the budget; and from
    /// three quarters of the budget on a delay that grows with its use, [`crate::WalOptions::delay_max`] at most. It may do I/O. Call it before taking any latch, and hold one reservation at a time: waiting for room while holding
    /// some can only end by the time limit.
    ///
    /// Errors, with nothing visible: `GroupTooLarge`; `LogFull` when no checkpoint freed room within
    /// [`crate::WalOptions::full_wait`]; `NoSpace` when the disk has no room for another segment; `Poisoned`.
    pub fn reserve(&self, bytes: usize) -> WalResult<LogSpace<'_>> {
        let max = self.max_group_bytes();
        if bytes > max {
            return Err(WalError::GroupTooLarge { bytes, max });
        }
        self.poison.check()?;
        if self.take_prepaid(bytes) {
            return Ok(LogSpace { wal: self, bytes });
        }
        let mut state = self.state.lock();
        if self.is_pressed(&state, bytes) {
            self.take_back_prepaid(&mut state);
            state = self.slow_down(state, bytes)?;
        }
        if self.short(&state, bytes).is_some() {
            self.take_back_prepaid(&mut state);
        }
        if state.queue.is_empty() && self.short(&state, bytes).is_none() {
            state.outstanding += bytes;
            self.prepay(&mut state);
            let top_up = self.wants_segment(&state);
            drop(state);
            let space = LogSpace { wal: self, bytes };
            if top_up {
                self.top_up()?;
            }
            return Ok(space);
        }
        self.reserve_slow(state, bytes)
    }

    /// Appends a group: one copy, under the mutex. Gives its LSNs. Never waits, never fails.
    ///
    /// Panics if the group is larger than the room that was reserved for it, or refers to data ([`GroupBuilder::refer_to_data`])
    /// in a log without a write barrier; both are bugs of the caller's.
    pub fn append<'a>(&'a self, space: LogSpace<'a>, group: &mut GroupBuilder) -> Appended<'a> {
        assert!(group.encoded_len() <= space.bytes, "a group is no larger than its reservation");
        debug_assert!(std::ptr::eq(space.wal, self), "room in one log is none in another");
        let after_data = group.is_after_data();
        assert!(
            !after_data || self.barrier.get().is_some(),
            "L12: a group refers to data, and nothing would sync it"
        );
        let bytes = group.finish();
        let claim = self.progress.claim();
        let mut state = self.state.lock();
        state.give_back(space.bytes);
        std::mem::forget(space); // the room is used: nothing to give back, and it owns nothing
        let (start, end) = state.buffer.append(bytes);
        state.end = end;
        if after_data {
            state.commit.after_data = true;
        }
        state.counts.used_max = state.counts.used_max.max(state.used());
        self.progress.began(&claim, start, &mut state.without_place);
        state.counts.groups += 1;
        state.counts.group_bytes += bytes.len() as u64;
        self.tell_room(state);
        Appended { start, end, in_progress: InProgress::new(self, start, claim) }
    }

    /// Appends one record of an engine's own as a group, and gives the LSN to wait for.
    pub fn append_logical(&self, kind: OpKind, payload: &[u8]) -> WalResult<Lsn> {
        self.append_one(|group| group.push_logical(kind, payload))
    }

    /// Appends all bytes of a page as a group, and gives the LSN to wait for.
    pub fn append_page_image(&self, page: PageId, image: &[u8]) -> WalResult<Lsn> {
        self.append_one(|group| group.push_page_image(page, image))
    }

    /// Appends some bytes of a page as a group, and gives the LSN to wait for.
    pub fn append_page_patch(&self, page: PageId, offset: u32, bytes: &[u8]) -> WalResult<Lsn> {
        self.append_one(|group| group.push_page_patch(page, offset, bytes))
    }

    fn append_one(&self, push: impl FnOnce(&mut GroupBuilder)) -> WalResult<Lsn> {
        let mut group = GroupBuilder::new();
        push(&mut group);
        let space = self.reserve(group.encoded_len())?;
        Ok(self.append(space, &mut group).end)
    }

    /// What is missing for `bytes` more.
    pub(crate) fn short(&self, state: &State, bytes: usize) -> Option<Short> {
        let more = state.outstanding + bytes;
        let behind = state.buffer.block_behind(more);
        if self.use_with(state, bytes) > self.options.log_bytes {
            Some(Short::Budget)
        } else if state.buffer.filled() + more > state.buffer.capacity() {
            Some(Short::Buffer)
        } else if behind > state.ready {
            Some(Short::Segments { behind })
        } else {
            None
        }
    }

    /// Waits its turn, and then for what is missing.
    #[cold]
    fn reserve_slow<'a>(&'a self, mut state: MutexGuard<'a, State>, bytes: usize) -> WalResult<LogSpace<'a>> {
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        self.take_back_prepaid(&mut state); // and while somebody is in the queue nobody reserves ahead
        state.stats.reserve_waits += 1;
        state.queue.push_back(ticket);
        drop(state);
        let result = self.wait_for_room(ticket, bytes);
        let mut state = self.state.lock();
        state.queue.retain(|other| *other != ticket);
        self.tell_room(state);
        result.map(|()| LogSpace { wal: self, bytes })
    }

    /// Takes the room when this is the first in the queue and lacks nothing.
    fn wait_for_room(&self, ticket: u64, bytes: usize) -> WalResult<()> {
        let deadline = Instant::now() + self.options.full_wait;
        let mut state = self.state.lock();
        loop {
            self.poison.check()?;
            if state.queue.front() == Some(&ticket) {
                match self.short(&state, bytes) {
                    None => {
                        state.outstanding += bytes;
                        return Ok(());
                    }
                    Some(Short::Segments { behind }) => {
                        drop(state);
                        self.make_ready(behind)?;
                        state = self.state.lock();
                        continue;
                    }
                    Some(Short::Buffer)
                        if state.buffer.fresh() > 0
                            && !state.commit.leading
                            && !planted("who waits for room does not lead") =>
                    {
                        if self.lead_for_room(state, bytes)? {
                            return Ok(());
                        }
                        state = self.state.lock();
                        continue;
                    }
                    Some(Short::Buffer | Short::Budget) => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (used, budget) = (state.used(), self.options.log_bytes);
                return Err(WalError::LogFull { needed: bytes as u64, used, budget });
            }
            // In slices: whoever poisons the handle elsewhere does not know that somebody waits here (R5).
            state = self.room.wait_for(state, left.min(LOOK_AGAIN)).0;
        }
    }

    /// Leads a batch. Takes the room that sealing made, if that is enough, and leaves the queue before the write: the next ones fill
    /// the other buffer meanwhile. Tells whether it did.
    fn lead_for_room(&self, mut state: MutexGuard<'_, State>, bytes: usize) -> WalResult<bool> {
        state.commit.leading = true;
        let mut taken = false;
        let led = self.lead_and(state, |state| {
            taken = self.short(state, bytes).is_none();
            if taken {
                state.outstanding += bytes;
                state.queue.pop_front();
            }
        });
        if led.is_err() && taken {
            self.state.lock().outstanding -= bytes; // a dead log: nobody waits for it any more
        }
        led.map(|()| taken)
    }

    /// Releases the mutex and wakes those who wait for room, if there are any.
    pub(crate) fn tell_room(&self, state: MutexGuard<'_, State>) {
        let waiting = !state.queue.is_empty();
        drop(state);
        if waiting {
            self.room.notify_all();
        }
    }
}
