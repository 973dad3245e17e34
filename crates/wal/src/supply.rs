//! The next segments: made ready before they are needed, taken from what no recovery needs any more.
//!
//! Invariant: a segment is in `segments` only while its name is durable, so nothing is acknowledged in a file that a
//! power cut could take away; and it is recycled only when it lies wholly below the keep LSN and another follows it, so
//! the log is never without a file at its end.

use std::sync::Arc;

use crate::block::BLOCK;
use crate::error::{WalError, WalResult};
use crate::segment::{self, MakeError, Segment};
use crate::wal::{State, Wal};
use pagestone_page_format::Lsn;
use pagestone_sync::MutexGuard;
use pagestone_sync::faults::planted;

/// What [`Wal::prepare`] keeps ready at most of segments that are smaller.
const SMALL_AHEAD_BYTES: u64 = 16 << 20;

impl Wal {
    /// Whether less than half a segment is ready beyond what is promised.
    pub(crate) fn wants_segment(&self, state: &State) -> bool {
        let ahead = state.ready.saturating_sub(state.buffer.block_behind(state.outstanding));
        !state.no_space && ahead < self.segment_blocks() / 2
    }

    fn segment_blocks(&self) -> u64 {
        segment::blocks_of(self.options.segment_bytes)
    }

    /// Makes the next segments ready: at least three quarters of one beyond what is promised, and of small ones an eighth of
    /// the budget. For a background thread or an idle moment, so that no writer has to: [`Wal::reserve`] does it when less
    /// than half of one is left.
    ///
    /// Errors: `NoSpace` and `Io` leave the log as it is; `Poisoned` if something failed half way.
    pub fn prepare(&self) -> WalResult<()> {
        self.poison.check()?;
        let small = (self.options.log_bytes / 8).min(SMALL_AHEAD_BYTES) / BLOCK as u64;
        let aim = small.max(self.segment_blocks() / 4 * 3);
        let behind = |state: &State| state.buffer.block_behind(state.outstanding) + aim;
        let state = self.state.lock();
        if behind(&state) <= state.ready {
            return Ok(());
        }
        drop(state);
        let making = self.making.lock();
        // Recycling, which was waited for here, may have made some meanwhile.
        let wanted = behind(&self.state.lock());
        self.make_until(making, wanted)
    }

    /// As [`Wal::prepare`], unless somebody is at it; a full disk is no error yet.
    #[cold]
    pub(crate) fn top_up(&self) -> WalResult<()> {
        let Some(making) = self.making.try_lock() else { return Ok(()) };
        let wanted = {
            let state = self.state.lock();
            if !self.wants_segment(&state) {
                return Ok(());
            }
            state.ready + 1
        };
        match self.make_until(making, wanted) {
            Err(error @ WalError::Poisoned { .. }) => Err(error),
            Err(_) => {
                self.state.lock().no_space = true;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Makes segments ready up to a block.
    pub(crate) fn make_ready(&self, behind: u64) -> WalResult<()> {
        self.make_until(self.making.lock(), behind)
    }

    fn make_until(&self, _making: MutexGuard<'_, ()>, behind: u64) -> WalResult<()> {
        loop {
            let first = self.state.lock().ready;
            if first >= behind {
                return Ok(());
            }
            let made = self.maker.make(first).and_then(|made| {
                if planted("a segment is ready before its name is durable") {
                    return Ok(made);
                }
                self.maker.sync_dir().map(|()| made)
            });
            let segment = made.map_err(|error| self.make_failed(error))?;
            self.add(vec![segment], 1, 0);
        }
    }

    /// Takes ready segments in.
    fn add(&self, made: Vec<Segment>, created: u64, recycled: u64) {
        let mut segments = self.segments.lock();
        segments.extend(made.into_iter().map(Arc::new));
        let behind = segments.back().map(|segment| segment.end());
        drop(segments);
        let mut state = self.state.lock();
        state.ready = behind.unwrap_or(state.ready);
        state.no_space = false;
        state.stats.segments_created += created;
        state.stats.segments_recycled += recycled;
        self.tell_room(state);
    }

    fn make_failed(&self, error: MakeError) -> WalError {
        match error {
            MakeError::Refused(error) => error,
            MakeError::Failed(operation, error) => self.fail(&format!("log: {operation} failed: {error}")),
        }
    }

    /// Says that no recovery will start before `lsn`: the checkpoint of the **older** superblock copy (L6). Segments
    /// wholly below are renamed to future ones, or removed where the budget has enough of them.
    ///
    /// A log alone keeps the two copies itself ([`Wal::open`]): then `lsn` is the start or end of a group from which everything is
    /// needed, it is made durable first, and what lies below the `lsn` of the call before is given back.
    ///
    /// Errors: `Poisoned` if a rename, a removal or the directory's sync failed.
    pub fn recycle_below(&self, lsn: Lsn) -> WalResult<()> {
        self.poison.check()?;
        let lsn = match &self.alone {
            None => lsn,
            Some(alone) => alone.passed(lsn.min(self.durable_lsn()), &self.poison)?,
        };
        let _making =
            (!planted("recycling does not wait for who makes segments")).then(|| self.making.lock());
        let keep = {
            let mut state = self.state.lock();
            let durable =
                if planted("the keep LSN passes the durable mark") { lsn } else { self.durable_lsn() };
            state.keep = state.keep.max(lsn.min(durable));
            let keep = state.keep;
            // At once: renaming takes a while, and who waits for the budget may have a ready segment.
            self.ease(state);
            keep
        };
        let (victims, mut first, mut count) = {
            let mut segments = self.segments.lock();
            let mut victims = Vec::new();
            while segments.len() > 1 && segments[0].end_lsn() <= keep {
                victims.extend(segments.pop_front());
            }
            (victims, segments.back().map_or(0, |last| last.end()), segments.len())
        };
        if victims.is_empty() {
            return Ok(());
        }
        let recycled =
            self.recycle(&victims, &mut first, &mut count).map_err(|error| self.make_failed(error))?;
        let number = recycled.len() as u64;
        self.add(recycled, 0, number);
        Ok(())
    }

    fn recycle(
        &self,
        victims: &[Arc<Segment>],
        first: &mut u64,
        count: &mut usize,
    ) -> Result<Vec<Segment>, MakeError> {
        let mut recycled = Vec::new();
        for victim in victims {
            if victim.bytes() == self.options.segment_bytes && *count < self.options.max_segments() {
                let segment = self.maker.recycle(victim, *first)?;
                *first = segment.end();
                *count += 1;
                recycled.push(segment);
            } else {
                self.maker.remove(&victim.path)?;
            }
        }
        self.maker.sync_dir()?;
        Ok(recycled)
    }

    /// The ready segments that hold the blocks from `first` to before `behind`.
    pub(crate) fn segments_of(&self, first: u64, behind: u64) -> Vec<Arc<Segment>> {
        let segments = self.segments.lock();
        segments
            .iter()
            .filter(|segment| segment.first < behind && first < segment.end())
            .map(Arc::clone)
            .collect()
    }
}
