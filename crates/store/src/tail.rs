//! The end of the data file, given back to the system.
//!
//! Invariant: the file is never shorter than either copy of the superblock says (L6), nor than the highest page that is in use, reserved
//! or in the log of a recovery. So whichever copy an opening reads, and wherever a crash came, no page is missing that was not
//! free when that copy was published.
//!
//! ```text
//!             data_pages        the tail                     the file's end
//!   ──────────┴─────────────────┴────────────────────────────┤
//!    in both copies              free, in no recovery's log    cut to the later of the two, and what growth would add at once
//! ```
//!
//! A checkpoint publishes how many pages there must be; the cut comes behind it, under the lock of the superblock, and is not synced: a
//! crash leaves the file long or short, and both are right. It never comes between the look at the file and the publication of what was
//! seen: the lock of checkpoints is held for both. What [`grow`](pagestone_page_format::PageStore::grow) gives at once, a thirty-second
//! of the file, is left, and cut only where there is twice as much: a store that grows again is not cut back all the time.

use pagestone_page_format::PageResult;
use pagestone_sync::atomic::{AtomicU64, Ordering};

use crate::checkpoint::Core;

/// The part of the file that may be left behind its tail, its least in pages, and its most in bytes: what growth gives at once.
const LEFT_PART: u64 = 32;
const LEFT_PAGES_MIN: u64 = 8;
const LEFT_BYTES_MAX: u64 = 64 << 20;

/// Looks of who waits for a region that others keep busy.
const TRIES: usize = 8;

/// What became of the tail since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct TailCuts {
    pub(crate) pages: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Core {
    /// After a publication, by who made it: cuts what is free at the end of the file, if that is much. An error costs space and nothing
    /// else: it is counted, and the next publication tries again.
    pub(crate) fn cut_long_tail(&self) {
        // Whoever makes space for a long value has use for it, and on a full disk could not get it back.
        if self.making_space.try_lock().is_none() {
            return;
        }
        let size = self.env.pool().page_size().get() as u64;
        let cut = self.cut_tail(|len, pages| {
            let left = (pages / LEFT_PART).min(LEFT_BYTES_MAX / size).max(LEFT_PAGES_MIN);
            (len > pages.saturating_add(2 * left)).then(|| pages + left)
        });
        if cut.is_err() {
            self.tail_cuts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops the regions of the space map at the end of the file that hold nothing. An error costs space and nothing else, and is
    /// counted. Not for who makes room in the log: it takes some.
    pub(crate) fn drop_free_regions(&self) {
        loop {
            match self.env.drop_last_region() {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    self.tail_cuts.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// Cuts all that is free at the end of the file. Waits for a checkpoint that is being made: it may publish a length that it looked at
    /// while somebody had reserved ids there. Waits before that, with nothing held, for who reads or makes a region; one that others keep busy
    /// all the time is a cut that failed, and counted.
    pub(crate) fn cut_whole_tail(&self) -> PageResult<()> {
        for _ in 0..TRIES {
            self.env.allocator().wait_while_busy();
            let cut = || self.cut_tail(|len, pages| (len > pages).then_some(pages));
            if self.between_checkpoints(cut)? {
                return Ok(());
            }
        }
        self.tail_cuts.failed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Cuts the file to what `choose` says, if anything, of its length and the least that it must have. Not while a region is being read or
    /// made: gives whether it was looked at.
    fn cut_tail(&self, choose: impl Fn(u64, u64) -> Option<u64>) -> PageResult<bool> {
        let store = self.env.pool().store();
        // A look that costs nothing: most publications find nothing to cut.
        let Some(tail) = self.env.allocator().tail() else { return Ok(true) };
        if choose(store.len()?, tail).is_none() {
            return Ok(true);
        }
        self.env.allocator().cut_tail(|tail| {
            let superblock = self.superblock.lock();
            let (len, pages) = (store.len()?, tail.max(superblock.data_pages()));
            let Some(to) = choose(len, pages) else { return Ok(()) };
            store.cut(to)?;
            self.tail_cuts.pages.fetch_add(len.saturating_sub(to), Ordering::Relaxed);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use pagestone_direct_io::{Disk, RealDisk};
    use pagestone_mini_txn::Reserve;
    use pagestone_sync::atomic::AtomicBool;

    use super::*;
    use crate::{Background, Options};

    /// What was reserved when a checkpoint looked may be free again, and cut by who compacts, before it publishes.
    #[test]
    fn file_is_never_shorter_than_a_checkpoint_publishes_beside_a_cut() {
        let options = Options { background: Background::Manual, pool_bytes: 64 * 4096, ..Options::default() };
        let directory = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let opened = crate::open::open(&disk, &directory.path().join("store"), &options, &mut |_| {});
        let (core, _) = opened.expect("a new store");
        core.tree.put(b"key", b"value").expect("put");
        core.empty_log().expect("checkpoints");
        let done = AtomicBool::new(false);
        let until_done = |work: &dyn Fn()| {
            while !done.load(Ordering::Relaxed) {
                work();
            }
        };
        let shorter = thread::scope(|scope| {
            scope.spawn(|| {
                until_done(&|| {
                    let reserve = Reserve { log_bytes: 256, new_pages: 8, ..Reserve::default() };
                    let held = core.env.begin(reserve).expect("there is room");
                    thread::sleep(Duration::from_micros(20));
                    drop(held);
                    thread::sleep(Duration::from_micros(200));
                });
            });
            scope.spawn(|| {
                until_done(&|| {
                    core.cut_whole_tail().expect("cut");
                    thread::sleep(Duration::from_micros(20));
                });
            });
            let shorter = (0..500_u32).find_map(|round| {
                core.tree.put(b"key", &round.to_le_bytes()).expect("put");
                core.checkpoint().expect("a checkpoint");
                let judged = core.judge_superblock().expect("looked");
                (judged.pages < judged.data_pages).then_some((judged.pages, judged.data_pages))
            });
            done.store(true, Ordering::Relaxed);
            shorter
        });
        assert_eq!(shorter, None, "pages, and those that a copy says there are");
        assert!(core.tail_cuts.pages.load(Ordering::Relaxed) > 0);
    }
}
