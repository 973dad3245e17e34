//! Checkpoints: how far the data file has come, in the one order in which that can be said (L5).
//!
//! Invariant: recovery that begins at [`Round::reached`] finds in the log every change that the data file lacks, once
//! [`LoggedPool::make_durable`] has returned. Writers go on all the time.
//!
//! ```text
//!   checkpoint_round   the log's end and the groups in progress, then some of the oldest pages     nothing is synced
//!   make_durable       the log, then the data file
//!   (publish)          the caller's record of where recovery begins, twice, by turns (L6)          MasterRecord
//!   passed             the log below the older record is given back; what was freed below it may be an extent (L8)
//! ```

use pagestone_buffer_pool::Flushed;
use pagestone_page_format::{Lsn, PageResult};
use pagestone_sync::faults::planted;

use crate::{LoggedPool, MasterRecord};

/// Pages of one round of [`LoggedPool::checkpoint`]: four of the pool's batches.
const ROUND_PAGES: usize = 1004;

/// What [`LoggedPool::checkpoint_round`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Every change that began before is in the data file, though perhaps not synced. Once true it stays so: the greatest one of
    /// several rounds may be published after any of them.
    pub reached: Lsn,
    /// What was written out, and what is left.
    pub flushed: Flushed,
}

impl LoggedPool {
    /// Writes out pages with changes from before `lsn`, the oldest first and at most `at_most` of them. May run beside writers; the
    /// caller holds no latch.
    ///
    /// Errors: those of storage and log; every page that was not written is still dirty.
    pub fn checkpoint_round(&self, lsn: Lsn, at_most: usize) -> PageResult<Round> {
        // 1. Under the log's mutex: its end, and the oldest group whose pages may not be stamped yet.
        let floor = self.log().checkpoint_floor();
        // 2. The oldest change that is in memory alone. Writers go on; what they change from now on begins at `end` or later,
        //    or is in progress above.
        let flushed = self.pool().flush_below(lsn, at_most)?;
        let late = planted("a checkpoint asks the log after its scan").then(|| self.log().checkpoint_floor());
        let (end, oldest_in_progress) = late.unwrap_or(floor);
        let reached = [oldest_in_progress, flushed.oldest].into_iter().flatten().fold(end, Lsn::min);
        Ok(Round { reached, flushed })
    }

    /// Makes durable what the rounds before wrote: first the log, up to its end, so that it describes everything that was seen in
    /// them; then the data file. Nobody waits for this but who makes a checkpoint.
    pub fn make_durable(&self) -> PageResult<()> {
        let log = self.log();
        log.flush_at_least(log.end_lsn())?;
        self.pool().sync()
    }

    /// Says that no recovery begins before `lsn` any more, whichever copy of the caller's record it reads: the log below is
    /// recycled, and what was freed below may become extents (L8).
    ///
    /// Errors: those of renaming and making segments of the log.
    pub fn checkpoint_passed(&self, lsn: Lsn) -> PageResult<()> {
        self.allocator().checkpoint_passed(lsn);
        Ok(self.log().recycle_below(lsn)?)
    }

    /// A whole checkpoint: writes out what was dirty at the call, in the order of the file, makes it durable, publishes it in `master`, and gives back the
    /// log that no recovery needs. Gives the LSN that recovery begins at from now on. Writers go on beside it.
    ///
    /// Errors: `Poisoned`, and those of storage and log. A failed sync ends the handle (L9); after any other error the log is
    /// kept and the next call does all of it.
    pub fn checkpoint(&self, master: &mut MasterRecord) -> PageResult<Lsn> {
        self.poison().check()?;
        let all = self.log().end_lsn();
        let mut out = self.pool().write_out(all);
        while out.left() > 0 {
            out.write(ROUND_PAGES)?;
        }
        let mut reached = Lsn::ZERO;
        loop {
            let round = self.checkpoint_round(all, ROUND_PAGES)?;
            reached = reached.max(round.reached);
            if round.flushed.oldest.is_none_or(|oldest| oldest >= all) {
                break;
            }
        }
        let data_pages = self.pool().store().len()?;
        self.make_durable()?;
        master.publish(self.poison(), reached, data_pages)?;
        self.checkpoint_passed(master.keep_from())?;
        Ok(reached)
    }
}
