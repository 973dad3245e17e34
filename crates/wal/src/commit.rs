//! Group commit: the first waiter leads, writes and syncs what has gathered, and the others sleep.
//!
//! Invariant: one batch is in flight at a time; the durable LSN rises to a batch's end after its last sync returned and
//! not before; after a failure it never rises again and nothing is tried a second time (L9).
//!
//! ```text
//!            nobody leads                in flight                     synced
//!   waiter ───────────────► lead: seal ───────────► write, sync ─────────────────► finish
//!      │                     ▲                                                     │
//!      ├─ in the batch in flight, or in the next one: sleep with its followers ◄───┤ wakes them second
//!      └─ first of the next batch: sleep as its successor ◄────────────────────────┘ wakes it first
//! ```
//!
//! There is no timer: a batch is what was appended while the one before was on its way (Group Commit Self-Clocks, arXiv
//! 2606.18187). Every waiter is woken once: followers by the number of their batch, the successor alone.

use std::io;
use std::time::Instant;

use pagestone_direct_io::{DurableBy, WriteAt, write_durable};
use pagestone_page_format::{Lsn, PageResult};
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::faults::planted;
use pagestone_sync::{MutexGuard, parking};

use crate::block::{BLOCK, PAYLOAD};
use crate::buffer::Batch;
use crate::callback::tell;
use crate::error::{WalError, WalResult};
use crate::options::CommitMode;
use crate::segment::{Segment, TAIL_SLOTS};
use crate::wal::{State, Wal};

impl Wal {
    /// Returns when everything before `lsn` is durable. An error means that it is not and will not be.
    ///
    /// Errors: `Poisoned`; `BeyondEnd` for an LSN that nothing was appended at.
    #[inline]
    pub fn wait_durable(&self, lsn: Lsn) -> WalResult<()> {
        if self.is_lsn_durable(lsn) {
            return Ok(());
        }
        self.wait_slow(lsn)
    }

    /// Commits everything that was appended before this call, by the log's [`CommitMode`], and gives the LSN at which it will be
    /// durable: strict waits for that, relaxed does not.
    ///
    /// Errors: those of [`Wal::wait_durable`].
    pub fn commit(&self) -> WalResult<Lsn> {
        let end = self.end_lsn();
        match self.options.commit {
            CommitMode::Strict => self.wait_durable(end)?,
            CommitMode::Relaxed => self.poison.check()?,
        }
        Ok(end)
    }

    /// Makes everything durable that was appended before this call.
    pub fn flush(&self) -> WalResult<()> {
        self.wait_durable(self.end_lsn())
    }

    /// Makes everything before `lsn` durable, and perhaps more. The same as [`Wal::wait_durable`], under the name that
    /// says that the caller does the work if nobody else does.
    pub fn flush_at_least(&self, lsn: Lsn) -> WalResult<()> {
        self.wait_durable(lsn)
    }

    /// Calls back, once, when everything before `lsn` is durable or never will be: at once, or from the thread that leads the
    /// batch. Nobody is made to lead by this: somebody has to wait or to flush. The callback must not wait for the log. One that
    /// panics keeps nobody else from being told; its panic goes on in whoever leads.
    ///
    /// Told to the callback: `Poisoned`; `BeyondEnd` for an LSN that nothing was appended at; `Dropped` where the log is dropped
    /// before anybody flushed that far.
    pub fn on_durable(&self, lsn: Lsn, callback: impl FnOnce(WalResult<()>) + Send + 'static) {
        let mut state = self.state.lock();
        let answer = if self.is_lsn_durable(lsn) {
            Ok(())
        } else if let Err(error) = self.poison.check() {
            Err(error.into())
        } else if lsn > state.end {
            Err(WalError::BeyondEnd { lsn, end: state.end })
        } else {
            let id = state.commit.next_callback;
            state.commit.next_callback += 1;
            state.commit.callbacks.insert((lsn, id), Box::new(callback));
            return;
        };
        drop(state);
        callback(answer);
    }

    #[cold]
    fn wait_slow(&self, lsn: Lsn) -> WalResult<()> {
        loop {
            if self.is_lsn_durable(lsn) {
                return Ok(()); // those who are woken do not meet again at the mutex
            }
            let mut state = self.state.lock();
            if self.is_lsn_durable(lsn) {
                return Ok(());
            }
            if self.poison.check().is_err() {
                drop(state);
                // Whoever poisoned the handle elsewhere does not know who waits here: from now on nobody leads, so those who are
                // to be called back are told by this (R5).
                return Err(self.fail("the handle was poisoned elsewhere"));
            }
            if lsn > state.end {
                return Err(WalError::BeyondEnd { lsn, end: state.end });
            }
            let commit = &mut state.commit;
            let next = commit.sealed + 1;
            if !commit.leading {
                commit.leading = true;
                self.lead(state)?;
            } else if commit.in_flight && lsn <= commit.sealed_end {
                drop(state);
                self.follow(next - 1, lsn);
            } else if !commit.in_flight || commit.successor {
                drop(state);
                self.follow(next, lsn);
            } else {
                commit.successor = true;
                drop(state);
                if self.await_turn(next) {
                    self.lead(self.state.lock())?;
                }
            }
        }
    }

    /// Sleeps until a batch is done. Its leader changes `durable` or `dead` before it wakes anybody.
    fn follow(&self, batch: u64, lsn: Lsn) {
        let blocked = || {
            self.durable.load(Ordering::Acquire) < lsn.get() && !self.dead.load(Ordering::Acquire)
                || planted("who follows sleeps without looking again")
        };
        parking::park(self.followers_of(batch), blocked);
    }

    /// Sleeps as a batch's leader until the one before it is done. False if the log is dead: then nobody leads.
    fn await_turn(&self, batch: u64) -> bool {
        let turn = self.turn_of(batch);
        loop {
            if self.dead.load(Ordering::Acquire) {
                return false;
            }
            if turn.load(Ordering::Acquire) == batch || planted("the next leader does not wait for its turn")
            {
                return true;
            }
            parking::park(turn, || {
                turn.load(Ordering::Acquire) != batch && !self.dead.load(Ordering::Acquire)
            });
        }
    }

    /// What a batch's successor sleeps on. Not one word for all: who woke the last one late would wake the next one early.
    fn turn_of(&self, batch: u64) -> &AtomicU64 {
        &self.turns[(batch % self.turns.len() as u64) as usize]
    }

    fn followers_of(&self, batch: u64) -> &AtomicU64 {
        &self.followers[(batch % self.followers.len() as u64) as usize]
    }

    /// Leads one batch. The caller has found or been given the lead.
    ///
    /// 1. Seal, under the mutex: from here on appends go to the other buffer.
    /// 2. If a group of the batch refers to data outside the log: make that durable (L12).
    /// 3. Write and sync, without the mutex.
    /// 4. Publish what is durable and hand over.
    fn lead(&self, state: MutexGuard<'_, State>) -> WalResult<()> {
        self.lead_and(state, |_| ())
    }

    /// The same; `sealed` sees the state between steps 1 and 2: who leads for the sake of room takes it there, and nobody waits
    /// behind them for the disk.
    pub(crate) fn lead_and(
        &self,
        state: MutexGuard<'_, State>,
        sealed: impl FnOnce(&mut State),
    ) -> WalResult<()> {
        let lead = Lead { wal: self };
        let mut state = state; // dropped before `lead`, which takes the mutex
        if let Err(error) = self.poison.check() {
            drop(state);
            drop(lead); // tells everybody
            return Err(error.into());
        }
        let after_data = std::mem::take(&mut state.commit.after_data);
        let (mut batch, slot) = self.seal(&mut state);
        let (number, end) = (state.commit.sealed, state.commit.sealed_end);
        sealed(&mut state);
        self.tell_room(state);
        if after_data && let Err(error) = self.pass_barrier() {
            std::mem::forget(lead);
            return Err(self.fail(&format!("log: the sync of what the log refers to failed: {error}")));
        }
        if planted("the durable mark rises before the sync") {
            self.durable.store(end.get(), Ordering::Release);
        }
        let began = Instant::now();
        match self.write_batch(&mut batch, slot) {
            Ok(done) => {
                self.metrics.batch_took(began, done.bytes);
                std::mem::forget(lead); // handed over by `finish_batch`
                self.finish_batch(batch, number, end, done)
            }
            Err(error) => {
                std::mem::forget(lead);
                Err(self.fail(&format!("log: a durable write failed: {error}")))
            }
        }
    }

    /// Called between sealing and writing: what the batch's groups refer to was written before they were appended, so before the
    /// batch was sealed, so before this sync begins; and no byte of them is in an earlier batch.
    fn pass_barrier(&self) -> PageResult<()> {
        self.barrier.get().map_or(Ok(()), |barrier| barrier())
    }

    /// Takes what is fresh as a batch, with the tail slot for its last block.
    fn seal(&self, state: &mut State) -> (Batch, u64) {
        let other =
            state.spare.take().expect("one batch is in flight at a time, so the other buffer is free");
        // Behind a closed block there must still be segments for what is promised.
        let promised = state.outstanding.div_ceil(PAYLOAD) as u64;
        let close = state.buffer.should_close() && state.buffer.block_behind(0) + promised <= state.ready;
        let batch = state.buffer.seal(other, close);
        let slot = state.commit.slot;
        if batch.open {
            state.commit.slot = (slot + 1) % TAIL_SLOTS;
        }
        state.commit.in_flight = true;
        state.commit.sealed += 1;
        state.commit.sealed_end = state.end;
        (batch, slot)
    }

    /// Writes a batch and syncs it, segment by segment.
    ///
    /// Final blocks go to their homes, which were never written in this generation, in one contiguous write; an open last
    /// block goes to a tail slot that holds no newest durable version. So nothing that this write could tear is needed.
    fn write_batch(&self, batch: &mut Batch, slot: u64) -> io::Result<Done> {
        let (first, homes) = (batch.first, batch.home_blocks() as u64);
        let last = first + batch.blocks as u64 - 1;
        let segments = self.segments_of(first, last + 1);
        batch.finish(&self.identity, self.durable_lsn(), |number| {
            segments.iter().find(|segment| segment.holds(number)).map_or(0, |segment| segment.blocks as u32)
        });
        let mut done = Done::default();
        for segment in &segments {
            let (from, to) = (first.max(segment.first), (first + homes).min(segment.end()));
            let run = (from < to).then(|| {
                WriteAt::new(batch.bytes((from - first) as usize, (to - from) as usize), segment.home(from))
            });
            let tail = (batch.open && segment.holds(last))
                .then(|| WriteAt::new(batch.bytes(batch.blocks - 1, 1), slot * BLOCK as u64));
            match (run, tail) {
                (Some(run), Some(tail)) => self.write_durable(segment, &mut [run, tail], &mut done)?,
                (Some(one), None) | (None, Some(one)) => {
                    self.write_durable(segment, &mut [one], &mut done)?;
                }
                (None, None) => {}
            }
        }
        // Room in ready segments was promised; a block without a home must not pass for durable.
        assert_eq!(done.bytes, (batch.blocks * BLOCK) as u64, "every block of a batch is in a ready segment");
        Ok(done)
    }

    fn write_durable(
        &self,
        segment: &Segment,
        writes: &mut [WriteAt<'_>],
        done: &mut Done,
    ) -> io::Result<()> {
        let by = self.maker.durable_by;
        write_durable(&*segment.file, writes, by)?;
        let count = writes.len() as u64;
        done.bytes += writes.iter().map(|write| write.buf.len() as u64).sum::<u64>();
        done.writes += count;
        done.syncs += if matches!(by, DurableBy::Pwritev2Dsync | DurableBy::ODsync) { count } else { 1 };
        Ok(())
    }

    /// Publishes a synced batch, hands the lead over, and wakes: the next leader, the batch's waiters, those who wait for
    /// room, callbacks.
    fn finish_batch(&self, batch: Batch, number: u64, end: Lsn, done: Done) -> WalResult<()> {
        let mut state = self.state.lock();
        if self.dead.load(Ordering::Acquire) {
            drop(state); // somebody else failed meanwhile, and has told everybody
            return Err(self.poison.poison("the log failed").into());
        }
        let end = if planted("the durable mark rises to the end of the log") { state.end } else { end };
        let publish = if planted("the durable mark is published relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.durable.store(end.get(), publish); // pairs with every Acquire load of it
        state.stats.batches += 1;
        state.stats.bytes_written += done.bytes;
        state.stats.writes += done.writes;
        state.stats.syncs += done.syncs;
        state.stats.padding += batch.padding() as u64;
        state.spare = Some(batch.into_memory());
        let commit = &mut state.commit;
        commit.in_flight = false;
        let successor =
            std::mem::take(&mut commit.successor) && !planted("the lead ends although somebody waits for it");
        commit.leading = successor;
        let due = match commit.callbacks.first_key_value() {
            Some(((first, _), _)) if *first <= end => {
                let later = commit.callbacks.split_off(&(Lsn::new(end.get() + 1), 0));
                std::mem::replace(&mut commit.callbacks, later)
            }
            _ => Default::default(),
        };
        if successor {
            self.turn_of(number + 1).store(number + 1, Ordering::Release); // pairs with the load in `await_turn`
        }
        let waiting_for_room = !state.queue.is_empty();
        drop(state);
        if successor && !planted("the next leader is not woken") {
            parking::unpark_all(self.turn_of(number + 1));
        }
        if !planted("followers are not woken") {
            parking::unpark_all(self.followers_of(number));
        }
        if planted("every batch wakes everybody") {
            self.followers.iter().for_each(parking::unpark_all);
        }
        if waiting_for_room {
            self.room.notify_all();
        }
        tell(due, |_| Ok(()));
        Ok(())
    }

    /// Ends the handle: poisons it, gives the lead up, and tells everybody who waits (R5).
    #[cold]
    pub(crate) fn fail(&self, cause: &str) -> WalError {
        let error = self.poison.poison(cause);
        self.dead.store(true, Ordering::Release); // pairs with the loads in `follow` and `await_turn`
        let mut state = self.state.lock();
        state.commit.leading = false;
        state.commit.successor = false;
        let callbacks = std::mem::take(&mut state.commit.callbacks);
        drop(state);
        if planted("a failure wakes nobody") {
            return error.into();
        }
        self.turns.iter().for_each(parking::unpark_all);
        self.followers.iter().for_each(parking::unpark_all);
        self.room.notify_all();
        self.eased.notify_all();
        tell(callbacks, |_| Err(self.poison.poison(cause).into()));
        error.into()
    }
}

impl Drop for Wal {
    /// Whoever waits for a callback is told that none will say more; nobody can wait otherwise, as waiting borrows the log.
    fn drop(&mut self) {
        let callbacks = std::mem::take(&mut self.state.lock().commit.callbacks);
        tell(callbacks, |(lsn, _)| {
            Err(self.poison.check().err().map_or(WalError::Dropped { lsn }, WalError::from))
        });
    }
}

/// What a batch cost.
#[derive(Default)]
struct Done {
    bytes: u64,
    writes: u64,
    syncs: u64,
}

/// Held by who leads. Dropped only if leading went wrong in a way that is no result, a panic among them: then nobody would
/// ever wake the others (E8).
struct Lead<'a> {
    wal: &'a Wal,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.wal.fail("the leader of a batch of the log gave up");
    }
}
