//! What a running store is made of, and its checkpoints.
//!
//! Invariant (L5): recovery from the published LSN finds in the log every change that the data file lacks. No writer waits for a
//! checkpoint to end: it holds nothing that they need while it writes and syncs, and publishes as it goes.
//!
//! ```text
//!   round        the oldest pages, a bounded number      `reached`: redo may begin here once they are synced
//!   publish      log, data, superblock copy, each synced; then the log below the older copy is given back
//!
//!   background   round, round, publish, round ...        paced by `pace.rs`
//!   checkpoint   all that was dirty at the call, in the order of the file; a round between where the log is filling up; publish
//! ```
//!
//! What was reached once stays true: every change that began before it is in the data file. So it may be published rounds later.

use std::sync::Arc;

use pagestone_btree::BTree;
use pagestone_buffer_pool::Flushed;
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{Lsn, PageResult};
use pagestone_sync::Mutex;
use pagestone_sync::atomic::{AtomicU64, Ordering};

use crate::auto_compact::AutoCompaction;
use crate::catalog::Catalog;
use crate::pace::{Pace, Published};
use crate::superblock::{SuperblockCopies, USER_SLOTS};
use crate::tail::TailCuts;
use crate::torn_writes::Protection;
use crate::{AutoCompact, Durability, Options, StoreError, StoreResult};

/// Pages of one round at most: so that what a round reached is soon published. Four of the pool's batches.
const ROUND_PAGES: usize = 1004;

/// What the handle and the background threads share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) env: Arc<LoggedPool>,
    pub(crate) tree: BTree,
    pub(crate) catalog: Catalog,
    pub(crate) durability: Durability,
    pub(crate) protection: Protection,
    pub(crate) page_provider: bool,
    pub(crate) superblock: Mutex<SuperblockCopies>,
    pace: Pace,
    /// Held by whoever makes a checkpoint; one at a time.
    checkpointing: Mutex<Reached>,
    /// Held by who makes space; the others find it made.
    pub(crate) making_space: Mutex<()>,
    /// Held by whoever compacts; one at a time.
    pub(crate) compacting: Mutex<()>,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) tail_cuts: TailCuts,
    pub(crate) auto_compact: AutoCompact,
    pub(crate) auto_compaction: AutoCompaction,
}

/// How far checkpointing has come.
#[derive(Debug)]
struct Reached {
    /// Every change that began before is in the data file, though perhaps not synced.
    lsn: Lsn,
    /// The log's end at the last round.
    end: Lsn,
}

/// The copies of the superblock, and the file beside them.
pub(crate) struct Judged {
    /// What is wrong with which copy.
    pub(crate) wrong: Vec<(usize, String)>,
    /// Pages that one copy or the other says the file has.
    pub(crate) data_pages: u64,
    /// Pages that it has.
    pub(crate) pages: u64,
}

/// When the next round should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This one had more to do than a round may.
    AtOnce,
    /// The log is growing.
    Soon,
    /// Nothing was written since the last one.
    Idle,
}

impl Core {
    pub(crate) fn new(
        env: Arc<LoggedPool>,
        tree: BTree,
        catalog: Catalog,
        superblock: Mutex<SuperblockCopies>,
        protection: Protection,
        options: &Options,
    ) -> Self {
        Self {
            env,
            tree,
            catalog,
            durability: options.durability,
            protection,
            page_provider: options.page_provider,
            superblock,
            pace: Pace::new(options.log_bytes),
            checkpointing: Mutex::new(Reached { lsn: Lsn::ZERO, end: Lsn::ZERO }),
            making_space: Mutex::new(()),
            compacting: Mutex::new(()),
            checkpoints: AtomicU64::new(0),
            tail_cuts: TailCuts::default(),
            auto_compact: options.auto_compact,
            auto_compaction: AutoCompaction::default(),
        }
    }

    /// One piece of continuous checkpointing: writes the pages that the horizon has passed, a bounded number of them, and
    /// publishes what was reached if that is worth it. More where long values lack what a whole checkpoint would free for them.
    pub(crate) fn checkpoint_round(&self) -> StoreResult<Next> {
        let mut reached = self.checkpointing.lock();
        self.env.poison().check()?;
        let end = self.env.log().end_lsn();
        let mut next = if end == reached.end { Next::Idle } else { Next::Soon };
        reached.end = end;
        if self.pace.is_flush_due(reached.lsn, end) {
            let flushed = self.flush_below(self.pace.horizon(end), &mut reached)?;
            if flushed.taken == ROUND_PAGES {
                next = Next::AtOnce;
            }
        }
        self.publish_if_due(&reached)?;
        drop(reached);
        if self.env.allocator().wants_checkpoint() {
            self.checkpoint()?;
        }
        Ok(next)
    }

    /// After opening: the copy that was the older one is no more, so recovery begins where the newest one says, and the log below is
    /// given back. Without this, what the older copy held would count as used until something is published.
    pub(crate) fn log_is_read(&self) -> StoreResult<()> {
        let keep_from = self.superblock.lock().older_checkpoint();
        self.after_publish(keep_from)
    }

    /// Whether the log is so full that writers are slowed down.
    pub(crate) fn presses(&self) -> bool {
        let older = self.superblock.lock().older_checkpoint();
        self.pace.presses(older, self.env.log().end_lsn())
    }

    /// Whether more of the log is used than checkpoints that keep up leave. They free some then, also of an idle store.
    pub(crate) fn is_filling(&self) -> bool {
        self.pace.is_filling(self.published(), self.env.log().end_lsn())
    }

    /// Writes out what the horizon has passed and publishes it in both copies, so that writers are not slowed down.
    pub(crate) fn relieve(&self) -> StoreResult<()> {
        let mut reached = self.checkpointing.lock();
        let horizon = self.pace.horizon(self.env.log().end_lsn());
        while self.flush_below(horizon, &mut reached)?.oldest.is_some_and(|oldest| oldest < horizon) {}
        self.publish(reached.lsn)?;
        self.publish(reached.lsn)
    }

    /// Writes out what was dirty when it was called and moves the start of recovery up, beside writers.
    pub(crate) fn checkpoint(&self) -> StoreResult<()> {
        let mut reached = self.checkpointing.lock();
        self.env.poison().check()?;
        let all = self.env.log().end_lsn();
        // In the order of the file. Where writers would fill the log meanwhile, the oldest pages go between the pieces, and what that
        // reached is published on the way: as long as it takes, writers get their log back.
        let mut out = self.env.pool().write_out(all);
        while out.left() > 0 {
            out.write(ROUND_PAGES)?;
            if self.pace.is_filling(self.published(), self.env.log().end_lsn()) {
                self.flush_below(all, &mut reached)?;
                self.publish_if_due(&reached)?;
            }
        }
        // What others were writing, and how far all of it reached.
        while self.flush_below(all, &mut reached)?.oldest.is_some_and(|oldest| oldest < all) {
            self.publish_if_due(&reached)?;
        }
        self.publish(reached.lsn)
    }

    /// While nobody makes a checkpoint.
    pub(crate) fn between_checkpoints<T>(&self, work: impl FnOnce() -> T) -> T {
        let _reached = self.checkpointing.lock();
        work()
    }

    /// Writes some of the pages with changes from before `lsn`, the oldest first, and says how far that reached (L5).
    fn flush_below(&self, lsn: Lsn, reached: &mut Reached) -> StoreResult<Flushed> {
        let round = self.env.checkpoint_round(lsn, ROUND_PAGES)?;
        reached.lsn = reached.lsn.max(round.reached);
        Ok(round.flushed)
    }

    fn published(&self) -> Published {
        let superblock = self.superblock.lock();
        Published { newest: superblock.current().checkpoint, older: superblock.older_checkpoint() }
    }

    fn publish_if_due(&self, reached: &Reached) -> StoreResult<()> {
        if self.pace.is_publish_due(self.published(), reached.lsn, self.env.log().end_lsn()) {
            self.publish(reached.lsn)?;
        }
        Ok(())
    }

    /// Makes durable what lies behind `checkpoint` and moves the start of recovery there.
    fn publish(&self, checkpoint: Lsn) -> StoreResult<()> {
        // What lies behind the tail is free, and a recovery that begins here does not meet it: the file may lose it.
        let len = self.env.pool().store().len()?;
        let data_pages = self.env.allocator().tail_at(checkpoint).map_or(len, |tail| tail.min(len));
        self.env.make_durable()?;
        // Publish (L6): then the log below the older copy's checkpoint is not needed by either.
        let mut superblock = self.superblock.lock();
        let current = superblock.current();
        // With both copies at this checkpoint a third one would free nothing more.
        let unchanged = current.checkpoint == checkpoint
            && superblock.older_checkpoint() == checkpoint
            && (current.data_pages, superblock.data_pages()) == (data_pages, data_pages);
        if !unchanged {
            superblock.publish(self.env.poison(), |next| {
                next.checkpoint = checkpoint.max(next.checkpoint);
                next.data_pages = data_pages;
            })?;
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
        let keep_from = superblock.older_checkpoint();
        drop(superblock);
        self.after_publish(keep_from)
    }

    /// Gives back what no recovery needs any more, whichever copy it reads: none begins before `keep_from`, the older copy's
    /// checkpoint. The place also for what else is put off until a checkpoint has passed it (L8).
    fn after_publish(&self, keep_from: Lsn) -> StoreResult<()> {
        self.env.checkpoint_passed(keep_from)?;
        self.cut_long_tail();
        Ok(())
    }

    /// Whether [`Core::make_space`] has something to do.
    pub(crate) fn lacks_space(&self) -> bool {
        self.env.allocator().needs_checkpoint()
    }

    /// Before a long value is put: where the file would grow although much of it is free for pages alone, two checkpoints, which
    /// both superblock copies then carry, make that free for extents.
    pub(crate) fn make_space(&self) -> StoreResult<()> {
        self.env.check_open()?;
        let allocator = self.env.allocator();
        if !allocator.needs_checkpoint() {
            return Ok(());
        }
        let _one = self.making_space.lock();
        if allocator.needs_checkpoint() {
            self.empty_log()?;
        }
        Ok(())
    }

    /// Two checkpoints, which both superblock copies then carry: all of the log that was there at the call is given back.
    pub(crate) fn empty_log(&self) -> StoreResult<()> {
        self.checkpoint()?;
        self.checkpoint()
    }

    /// Waits until everything written so far is durable.
    pub(crate) fn sync(&self) -> StoreResult<()> {
        let log = self.env.log();
        Ok(log.flush_at_least(log.end_lsn())?)
    }

    pub(crate) fn user_meta(&self, slot: usize) -> StoreResult<u64> {
        self.env.check_open()?;
        self.superblock.lock().current().user_meta.get(slot).copied().ok_or_else(|| no_slot(slot))
    }

    pub(crate) fn set_user_meta(&self, slot: usize, value: u64) -> StoreResult<()> {
        if slot >= USER_SLOTS {
            return Err(no_slot(slot));
        }
        self.env.check_open()?;
        self.env.poison().check()?;
        Ok(self.superblock.lock().publish(self.env.poison(), |next| next.user_meta[slot] = value)?)
    }

    /// Makes the intents of removals with a lower number void, in both copies.
    pub(crate) fn void_removals(&self, number: u64) -> StoreResult<()> {
        let mut superblock = self.superblock.lock();
        for _ in 0..2 {
            superblock.publish(self.env.poison(), |next| next.removals_from = number)?;
        }
        Ok(())
    }

    /// What is wrong with the copies of the superblock in the file; the pages that they say the file has, and those that it has. It is
    /// cut under the same lock.
    pub(crate) fn judge_superblock(&self) -> PageResult<Judged> {
        let superblock = self.superblock.lock();
        let pages = self.env.pool().store().len()?;
        Ok(Judged { wrong: superblock.judge(), data_pages: superblock.data_pages(), pages })
    }

    /// Every tree of the store, those that are being dropped and the catalog among them; and what is wrong with the catalog, so that
    /// there may be others. Errors are about the handle.
    pub(crate) fn all_trees(&self) -> StoreResult<(Vec<BTree>, Vec<StoreError>)> {
        let (mut trees, wrong) = self.catalog.all_trees()?;
        trees.push(self.tree.clone());
        Ok((trees, wrong))
    }

    /// Every tree that is not being dropped, the default tree and the catalog among them: the handles that all share, so that each knows
    /// when it is dropped.
    pub(crate) fn kept_trees(&self) -> StoreResult<Vec<BTree>> {
        let mut trees = self.catalog.kept_trees()?;
        trees.push(self.tree.clone());
        Ok(trees)
    }

    pub(crate) fn checkpoint_lsn(&self) -> Lsn {
        self.superblock.lock().current().checkpoint
    }

    pub(crate) fn generation(&self) -> u64 {
        self.superblock.lock().current().generation
    }
}

fn no_slot(slot: usize) -> StoreError {
    StoreError::InvalidOption {
        option: "user_meta slot",
        found: slot.to_string(),
        expected: format!("0 to {}", USER_SLOTS - 1),
    }
}
