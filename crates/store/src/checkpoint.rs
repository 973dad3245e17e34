//! What a running store is made of, and its checkpoints.
//!
//! Invariant (L5): recovery from the published LSN finds in the log every change that the data file lacks. No writer waits for a
//! checkpoint, unless the log's budget is used up.

use std::sync::Arc;

use pagestone_btree::BTree;
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::Lsn;
use pagestone_sync::Mutex;
use pagestone_sync::atomic::{AtomicU64, Ordering};

use crate::catalog::Catalog;
use crate::superblock::{SuperblockCopies, USER_SLOTS};
use crate::{Durability, Options, StoreError, StoreResult};

/// A checkpoint is due when the log since the last one has grown by a quarter of its budget, or when what the log must
/// keep is more than half of it: the log reaches back to the checkpoint before the last (L6), so after a long interval it takes
/// a second checkpoint to free the first half.
const DUE_SINCE: u64 = 4;
const DUE_KEPT: u64 = 2;

/// What the handle and the background threads share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) env: Arc<LoggedPool>,
    pub(crate) tree: BTree,
    pub(crate) catalog: Catalog,
    pub(crate) durability: Durability,
    superblock: Mutex<SuperblockCopies>,
    /// One checkpoint at a time.
    checkpointing: Mutex<()>,
    log_bytes: u64,
    pub(crate) checkpoints: AtomicU64,
}

impl Core {
    pub(crate) fn new(
        env: Arc<LoggedPool>,
        tree: BTree,
        catalog: Catalog,
        superblock: Mutex<SuperblockCopies>,
        options: &Options,
    ) -> Self {
        Self {
            env,
            tree,
            catalog,
            durability: options.durability,
            superblock,
            checkpointing: Mutex::new(()),
            log_bytes: options.log_bytes,
            checkpoints: AtomicU64::new(0),
        }
    }

    /// Whether the log has grown so much that a checkpoint should be made.
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        let superblock = self.superblock.lock();
        let (newest, older) = (superblock.current().checkpoint, superblock.older_checkpoint());
        drop(superblock);
        let log = self.env.log();
        let since = log.end_lsn().get().saturating_sub(newest.get());
        since > self.log_bytes / DUE_SINCE
            || (log.used() > self.log_bytes / DUE_KEPT && (older < newest || since > 0))
    }

    /// Writes out what was dirty when it was called and moves the start of recovery up, beside writers.
    pub(crate) fn checkpoint(&self) -> StoreResult<()> {
        let _one = self.checkpointing.lock();
        let (pool, log) = (self.env.pool(), self.env.log());
        self.env.poison().check()?;
        pool.flush_all()?;
        // 1. Under the log's mutex: its end, and the oldest group whose pages may not be stamped yet.
        let (end, oldest_in_progress) = log.checkpoint_floor();
        // 2. The oldest change that is in memory alone. Writers go on; what they change from now on begins at `end` or later,
        //    or is in progress above.
        let oldest_dirty = pool.oldest_rec_lsn();
        let checkpoint = [oldest_in_progress, oldest_dirty].into_iter().flatten().fold(end, Lsn::min);
        let data_pages = pool.store().len()?;
        // 3. The log that describes what was written out, and what was seen in the scan.
        log.flush_at_least(log.end_lsn())?;
        // 4. The pages.
        pool.sync()?;
        // 5. Publish (L6): then the log below the older copy's checkpoint is not needed by either.
        let mut superblock = self.superblock.lock();
        let current = superblock.current();
        // With both copies at this checkpoint a third one would free nothing more.
        let unchanged = current.checkpoint == checkpoint
            && superblock.older_checkpoint() == checkpoint
            && current.data_pages == data_pages;
        if !unchanged {
            superblock.publish(self.env.poison(), |next| {
                next.checkpoint = checkpoint.max(next.checkpoint);
                next.data_pages = data_pages;
            })?;
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
        let keep_from = superblock.older_checkpoint();
        drop(superblock);
        log.recycle_below(keep_from)?;
        Ok(())
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

    /// What is wrong with the copies of the superblock in the file, and the pages that the current one says the file has.
    pub(crate) fn judge_superblock(&self) -> (Vec<(usize, String)>, u64) {
        let superblock = self.superblock.lock();
        (superblock.judge(), superblock.current().data_pages)
    }

    /// Every tree of the store.
    pub(crate) fn all_trees(&self) -> Vec<BTree> {
        vec![self.tree.clone()]
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
