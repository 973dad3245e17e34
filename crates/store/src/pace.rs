//! When a checkpointer writes and when it publishes: arithmetic on LSNs, without a clock.
//!
//! Invariant: what is decided here depends on how far the log has come and on nothing else; so the pages that are written follow
//! the log's growth, and an idle store writes nothing.
//!
//! ```text
//!     older copy's        newest        oldest
//!     checkpoint          checkpoint    rec LSN    horizon                       end of the log
//!   ──┼───────────────────┼─────────────┼──────────┼─────────────────────────────┼──►
//!     │ kept for the      │             │ written  │ may stay in memory:         │
//!     │ other copy (L6)   │◄───────────►│ out now  │ 3/8 of the budget           │
//!     │                   publish after │          │                             │
//!     │                   1/16 of it                                             │
//!     │◄──────────────────────── used: half of the budget, as a rule ───────────►│  writers are slowed down from 3/4 on
//! ```
//!
//! The horizon follows the log's end at a fixed distance, and each round writes the pages whose rec LSN it passed: as many as the
//! log made dirty for the first time when it grew by as much. Adaptive flushing as in InnoDB, without its guesses: what is
//! behind is known, and is made up for at once, a bounded number of pages at a time.

use pagestone_page_format::Lsn;

/// The most bytes that the oldest page may fall behind the horizon before a round begins: so that batches fill, for the log is
/// synced before each.
const GATHER_BYTES_MAX: u64 = 1 << 20;

/// The shares of one log's budget.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    log_bytes: u64,
}

/// Where the two superblock copies say that recovery begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) newest: Lsn,
    pub(crate) older: Lsn,
}

impl Pace {
    pub(crate) fn new(log_bytes: u64) -> Self {
        Self { log_bytes }
    }

    /// Pages with changes from before this are to be written.
    pub(crate) fn horizon(&self, end: Lsn) -> Lsn {
        Lsn::new(end.get().saturating_sub(self.log_bytes / 8 * 3))
    }

    /// Whether a page as old as `oldest` is so far behind the horizon that a round is worth its scan.
    pub(crate) fn is_flush_due(&self, oldest: Lsn, end: Lsn) -> bool {
        let behind = self.horizon(end).get().saturating_sub(oldest.get());
        behind > (self.log_bytes / 64).min(GATHER_BYTES_MAX)
    }

    /// Whether a log that is kept from `older` on uses so much of the budget that writers are slowed down.
    pub(crate) fn presses(&self, older: Lsn, end: Lsn) -> bool {
        end.get().saturating_sub(older.get()) > self.log_bytes / 4 * 3
    }

    /// Whether recovery from `reached` is worth a publication: it is far ahead of the newest copy, or the log is filling up and the
    /// older copy alone holds much of it. The log reaches back to the older one (L6), so it takes two to free anything.
    pub(crate) fn is_publish_due(&self, published: Published, reached: Lsn, end: Lsn) -> bool {
        let step = self.log_bytes / 16;
        ahead(reached, published.newest) >= step
            || (self.is_filling(published, end) && ahead(published.newest, published.older) >= step)
    }

    /// Whether more of the log is used than rounds that keep up leave, though writers are not slowed down yet.
    pub(crate) fn is_filling(&self, published: Published, end: Lsn) -> bool {
        ahead(end, published.older) > self.log_bytes / 8 * 5
    }
}

fn ahead(to: Lsn, from: Lsn) -> u64 {
    to.get().saturating_sub(from.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers that are never slowed down, and rounds that keep up: the log stays below three quarters.
    #[test]
    fn log_settles_at_half_of_its_budget() {
        for log_bytes in [256 << 10, 4 << 20, 1 << 30] {
            let pace = Pace::new(log_bytes);
            let mut published = Published { newest: Lsn::ZERO, older: Lsn::ZERO };
            let (mut end, mut oldest) = (Lsn::new(4096), Lsn::new(4096));
            let (mut used_max, mut publications) = (0, 0);
            for _ in 0..10_000 {
                end = Lsn::new(end.get() + log_bytes / 200);
                if pace.is_flush_due(oldest, end) {
                    oldest = pace.horizon(end);
                }
                if pace.is_publish_due(published, oldest, end) {
                    published = Published { newest: oldest, older: published.newest };
                    publications += 1;
                }
                used_max = used_max.max(end.get() - published.older.get());
            }
            assert!(used_max < log_bytes / 8 * 5, "{used_max} of {log_bytes}");
            assert!((400..900).contains(&publications), "{publications} publications of 800 steps");
        }
    }

    /// Nothing was published for a whole budget: one round and two publications give the writers room again.
    #[test]
    fn full_log_is_freed_in_two_publications() {
        let pace = Pace::new(1 << 20);
        let (end, oldest) = (Lsn::new((1 << 20) + 4096), Lsn::new(4096));
        let mut published = Published { newest: Lsn::new(4096), older: Lsn::new(4096) };
        assert!(pace.is_flush_due(oldest, end));
        let reached = pace.horizon(end);
        for _ in 0..2 {
            assert!(pace.is_publish_due(published, reached, end));
            published = Published { newest: reached, older: published.newest };
        }
        assert!(!pace.is_publish_due(published, reached, end));
        assert!(!pace.is_flush_due(reached, end), "an idle store writes nothing");
    }
}
