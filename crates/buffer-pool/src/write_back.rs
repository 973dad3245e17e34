//! Log first, then the pages.
//!
//! Invariant: a page goes to storage only after the log is durable up to its LSN (P11, L2), never half changed (L4), at most
//! once at a time; what was changed meanwhile stays dirty, and so does what failed (P12).
//!
//! ```text
//!   1  claim      one write of a page in flight; clean pages and pages claimed by others are skipped
//!   2  copy       under validation, after some failures under the shared latch; mask hints. A page that is latched is waited
//!                 for by a flush and skipped by an eviction, whose caller may hold that very latch
//!   3  log first  once for the whole batch
//!   4  write      one call to storage
//!   5  settle     clean if nothing came after the copy, else rec LSN = the copy's LSN (L3)
//! ```

use pagestone_page_format::{FrameIndex, Lsn, Page, PageResult, SpeculativePage};
use pagestone_swip::mask_hints;
use pagestone_sync::faults::planted;

use crate::BufferPool;

/// Optimistic copies tried before the shared latch is taken.
const OPTIMISTIC_COPIES: usize = 4;

/// What to do with a page that somebody holds exclusively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenLatched {
    /// Wait: the caller holds no latch.
    Wait,
    /// Leave it dirty.
    Skip,
}

/// A claimed page whose copy waits to be written; gives the claim back however the batch ends (P10).
struct Claimed<'p> {
    pool: &'p BufferPool,
    index: FrameIndex,
    changes: u64,
    lsn: Lsn,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if !planted("a write does not end its claim") {
            self.pool.frames[self.index.index()].release_write();
        }
        self.pool.frame_may_be_free();
    }
}

impl BufferPool {
    /// Writes the dirty ones of these frames. On an error every page of the batch is still
    /// dirty and resident.
    pub(crate) fn write_back(&self, frames: &[FrameIndex], when_latched: WhenLatched) -> PageResult<()> {
        let mut claimed = Vec::with_capacity(frames.len());
        let mut pages = Vec::with_capacity(frames.len());
        for index in frames {
            if let Some((claim, page)) = self.claim_and_copy(*index, when_latched)? {
                claimed.push(claim);
                pages.push(page);
            }
        }
        if pages.is_empty() {
            return Ok(());
        }
        // A transaction that failed half way poisons before it lets go of its latches: a copy of what no log describes was taken
        // after that, and is not written.
        self.poison.check()?;
        if let Some(log) = &self.log
            && !planted("a page goes out before the log")
        {
            let newest = claimed.iter().map(|claim| claim.lsn).max().unwrap_or(Lsn::ZERO);
            log.ensure_durable(newest)?;
        }
        let settle = || {
            for claim in &claimed {
                // The page cannot leave the frame while the claim stands.
                self.frames[claim.index.index()].settle_write(claim.changes, claim.lsn);
            }
        };
        if planted("a page is clean before it is written") {
            settle();
        }
        self.store.write_many(&mut pages)?;
        self.counters.write_batches.add(1);
        self.counters.write_backs.add(pages.len() as u64);
        settle();
        drop(claimed);
        for page in pages {
            self.staging.give(page);
        }
        Ok(())
    }

    fn claim_and_copy(
        &self,
        index: FrameIndex,
        when_latched: WhenLatched,
    ) -> PageResult<Option<(Claimed<'_>, Page)>> {
        let frame = &self.frames[index.index()];
        if !frame.is_dirty() || !frame.claim_write() {
            return Ok(None);
        }
        let mut claim = Claimed { pool: self, index, changes: 0, lsn: Lsn::ZERO };
        for attempt in 0..=OPTIMISTIC_COPIES {
            let Some(id) = frame.page() else { return Ok(None) };
            let poisoned = |_| self.latch_poisoned(id);
            let (sample, shared) = match when_latched {
                WhenLatched::Skip => match frame.latch.optimistic_or_restart() {
                    Ok(sample) => (Some(sample), None),
                    Err(_) => return Ok(None),
                },
                WhenLatched::Wait if attempt < OPTIMISTIC_COPIES => {
                    (Some(frame.latch.counting(&self.contention).optimistic_spin().map_err(poisoned)?), None)
                }
                WhenLatched::Wait => {
                    (None, Some(frame.latch.counting(&self.contention).lock_shared().map_err(poisoned)?))
                }
            };
            claim.changes = frame.changes();
            claim.lsn = frame.lsn();
            let dirty = frame.holds(id) && frame.is_dirty();
            let mut page = self.staging.take(&*self.store, id);
            SpeculativePage::new(self.arena.words(index)).copy_out(page.bytes_mut());
            if sample.is_none_or(|sample| sample.validate().is_ok())
                || planted("a copy is believed without validation")
            {
                drop(shared);
                if !dirty {
                    self.staging.give(page);
                    return Ok(None);
                }
                page.set_id(id);
                page.set_lsn(claim.lsn);
                mask_hints(page.bytes_mut()).map_err(|error| error.malformed(id))?;
                return Ok(Some((claim, page)));
            }
            self.staging.give(page);
        }
        // A page that changes as fast as it is copied; a flush copies it under the shared latch and does not come here.
        Ok(None)
    }
}
