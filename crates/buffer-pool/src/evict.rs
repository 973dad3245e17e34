//! Second chance: which page leaves, and how (P4).
//!
//! A frame changes its page only here and in the loader that took the frame from the free list. The steps of `try_evict`:
//!
//! ```text
//!   1  warm?            cool it and go on: it has until the hand comes round again
//!   2  pinned, dirty, being written?      not now; dirty ones are collected for one batch
//!   3  latch it exclusively at the version that was looked at
//!   4  fence; pinned or dirty after all?  give the latch back unchanged
//!   5  out of the table, out of the header, unlock with a new version; to the free list
//! ```
//!
//! Who comes first: the pages on probation, in the order in which they were loaded, as long as those that were loaded last fill more
//! than a tenth of the pool; then whom the hand of the clock comes to. So a scan pushes out its own pages, and the hand stands still
//! meanwhile and cools nobody (`benches/micro/benches/replacement.rs`).
//!
//! Corbató's CLOCK, 1968; quick demotion of new pages after SIEVE (NSDI 2024) and S3-FIFO (SOSP 2023).

use std::time::{Duration, Instant};

use pagestone_page_format::{FrameIndex, PageError, PageId, PageResult};
use pagestone_sync::atomic::Ordering;
use pagestone_sync::faults::planted;

use crate::BufferPool;
use crate::frame::COOL;
use crate::table::Entry;
use crate::write_back::WhenLatched;

/// Frames freed in one go at most, so that the next faults find one ready.
const EVICT_BATCH: usize = 32;
/// Frames looked at before dirty pages are written for want of clean ones, or before fewer clean ones than a batch are enough.
const CLEAN_SEARCH: usize = 1024;
/// Fewer clean ones than this part of a batch, among so many, are so few that dirty ones are written too.
const CLEAN_SCARCE: usize = 4;
/// Pages written in one go at most.
pub(crate) const WRITE_BATCH: usize = 64;
/// How long a thread sleeps before it looks again for a frame; it is woken when a pin goes.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The part of the frames that pages on probation may fill while others leave.
const YOUNG_SHARE: usize = 10;

/// Places of the list of what was loaded last: its share twice, since it is looked at only when a frame is wanted.
pub(crate) const fn young_places(frames: usize) -> usize {
    2 * frames / YOUNG_SHARE + 2
}

/// What became of a frame that somebody wanted to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Freed,
    Dirty,
    Kept,
}

/// What a warm page gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chance {
    /// It is cooled and stays.
    Second,
    /// It goes.
    Last,
}

impl BufferPool {
    /// A frame that holds no page and is on no list, for a page that was absent; nothing if that page comes while a frame is waited
    /// for: it may be what fills the frames. May write pages and wait; the caller holds no latch.
    pub(crate) fn free_frame(&self, id: PageId) -> PageResult<Option<FrameIndex>> {
        let mut give_up = None;
        loop {
            if let Some(index) = self.free_frame_now()? {
                return Ok(Some(index));
            }
            if self.table.get(id) != Entry::Absent {
                return Ok(None);
            }
            let now = Instant::now();
            if now >= *give_up.get_or_insert(now + self.exhausted_wait) {
                return Err(PageError::BufferPoolExhausted { capacity: self.capacity() });
            }
            self.counters.frame_waits.add(1);
            self.frame_freed.wait_briefly(LOOK_AGAIN, || !self.free.is_empty());
        }
    }

    /// As [`BufferPool::free_frame`], but nothing where every frame is pinned or latched now. May write pages.
    pub(crate) fn free_frame_now(&self) -> PageResult<Option<FrameIndex>> {
        loop {
            let taken = self.free.pop();
            self.frame_was_wanted();
            if taken.is_some() {
                return Ok(taken);
            }
            if self.sweep()? == 0 {
                return Ok(self.free.pop());
            }
        }
    }

    pub(crate) fn give_back(&self, index: FrameIndex) {
        self.free.push(index).expect("P9: a frame is on at most one list");
        self.frame_may_be_free();
    }

    /// Tells those who wait for a frame, if there are any, that it is worth a look.
    pub(crate) fn frame_may_be_free(&self) {
        self.frame_freed.notify_if_waiting();
    }

    /// Goes round with the hand until a batch of frames is free, or [`CLEAN_SEARCH`] frames gave fewer. Clean victims first: dirty ones
    /// are written, in one batch, only if there were hardly any clean ones among so many. Gives how many frames were freed.
    pub(crate) fn sweep(&self) -> PageResult<usize> {
        let capacity = self.capacity();
        let batch = EVICT_BATCH.min(capacity / 8).max(1);
        let (mut freed, mut dirty) = (0, Vec::new());
        while freed < batch && dirty.len() < WRITE_BATCH && self.young.len() > capacity / YOUNG_SHARE {
            let Some(index) = self.young.pop() else { break };
            // One that was touched again is the clock's from now on.
            if self.frames[index.index()].latch.tag(COOL) {
                match self.try_evict(index) {
                    Verdict::Freed => freed += 1,
                    Verdict::Dirty => dirty.push(index),
                    Verdict::Kept => {}
                }
            }
        }
        // Twice round: once to cool, once to take.
        for looked in 0..2 * capacity {
            if freed == batch {
                break;
            }
            let index = self.hand.fetch_add(1, Ordering::Relaxed) % capacity;
            let index = FrameIndex::new(index as u32);
            match self.try_evict(index) {
                Verdict::Freed => freed += 1,
                Verdict::Dirty if dirty.len() < WRITE_BATCH => dirty.push(index),
                Verdict::Dirty | Verdict::Kept => {}
            }
            // What was found by now will do.
            if looked >= CLEAN_SEARCH && (freed > 0 || dirty.len() >= WRITE_BATCH) {
                break;
            }
        }
        // A clean page now and then is dearer than a batch: the next who wants a frame would look as far for one more.
        let scarce = freed < batch / CLEAN_SCARCE && dirty.len() >= WRITE_BATCH;
        if (freed == 0 || scarce) && !dirty.is_empty() {
            let written = self.write_back(&dirty, WhenLatched::Skip);
            // With a clean one freed nobody has to be told yet: the pages are still dirty, and who finds no other is.
            if freed == 0 {
                written?;
            }
            freed += dirty.iter().filter(|index| self.try_evict(**index) == Verdict::Freed).count();
        }
        Ok(freed)
    }

    fn try_evict(&self, index: FrameIndex) -> Verdict {
        let verdict = self.evict(index, Chance::Second);
        if verdict == Verdict::Freed {
            self.give_back(index);
        }
        verdict
    }

    /// A frame that is freed belongs to the caller.
    pub(crate) fn evict(&self, index: FrameIndex, chance: Chance) -> Verdict {
        let frame = &self.frames[index.index()];
        let Ok(sample) = frame.latch.optimistic_or_restart() else { return Verdict::Kept };
        let Some(id) = frame.page() else { return Verdict::Kept };
        if frame.is_pinned() || frame.is_writing() {
            return Verdict::Kept;
        }
        if !sample.tag(COOL) && chance == Chance::Second {
            frame.latch.set_tag(COOL);
            return Verdict::Kept;
        }
        if frame.is_dirty() {
            return Verdict::Dirty;
        }
        let Ok(latch) = sample.try_upgrade_to_exclusive() else { return Verdict::Kept };
        if frame.is_held_under_latch() || frame.is_dirty() {
            latch.unlock_unchanged();
            return Verdict::Kept;
        }
        if planted("an evicted page leaves the table after the latch") {
            frame.clear();
            drop(latch);
            self.table.remove(id);
        } else {
            self.table.remove(id);
            frame.clear();
            drop(latch);
        }
        self.counters.evictions.add(1);
        Verdict::Freed
    }

    /// Throws the page out without writing it, after waiting for its loader and its write-back (P13): its id was freed, or
    /// its bytes were written past the pool. The caller holds no latch and no pin of it.
    pub fn discard(&self, id: PageId) -> PageResult<()> {
        loop {
            let index = match self.table.get(id) {
                Entry::Absent => return Ok(()),
                Entry::Loading if planted("a discard does not wait for a loader") => return Ok(()),
                Entry::Loading => {
                    // How the load ends is its own callers' business.
                    drop(self.load_place(id).wait(id, LOOK_AGAIN, || self.table.get(id) == Entry::Loading));
                    continue;
                }
                Entry::Resident(index) => index,
            };
            let frame = &self.frames[index.index()];
            let latch = frame
                .latch
                .counting(&self.contention)
                .lock_exclusive()
                .map_err(|_| self.latch_poisoned(id))?;
            if !frame.holds(id) {
                latch.unlock_unchanged();
                continue;
            }
            if frame.is_held_under_latch() {
                latch.unlock_unchanged();
                self.frame_freed.wait_briefly(LOOK_AGAIN, || !frame.is_pinned() && !frame.is_writing());
                continue;
            }
            self.table.remove(id);
            frame.clear();
            drop(latch);
            self.give_back(index);
            return Ok(());
        }
    }

    /// Evicts everything that can be evicted after writing it; what is pinned stays.
    pub fn drop_cache(&self) -> PageResult<()> {
        self.flush_all()?;
        for pass in 0..2 {
            for index in 0..self.frames.len() {
                let index = FrameIndex::new(index as u32);
                if self.try_evict(index) == Verdict::Kept && pass == 0 {
                    self.try_evict(index);
                }
            }
        }
        Ok(())
    }

    /// Where the page is, for tests and tools.
    pub fn frame_of(&self, id: PageId) -> Option<FrameIndex> {
        match self.table.get(id) {
            Entry::Resident(index) => Some(index),
            _ => None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore};

    use super::*;

    /// Who wants one frame of a large pool would else look at every header, twice, for want of a batch.
    #[test]
    fn a_sweep_among_dirty_pages_ends_with_the_few_clean_ones_that_it_finds() {
        const FRAMES: usize = 8 * CLEAN_SEARCH;
        let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), FRAMES);
        for id in (0..FRAMES as u64).map(PageId::new) {
            drop(pool.new_page(id).expect("a frame"));
        }
        let few = EVICT_BATCH / CLEAN_SCARCE;
        (0..few as u64).for_each(|id| pool.flush(PageId::new(id)).expect("written"));
        assert_eq!(pool.sweep().expect("nothing is written"), few);
        assert_eq!(pool.stats().write_backs, few as u64, "clean ones first");
        let looked = pool.hand.load(Ordering::Relaxed);
        assert!(looked <= CLEAN_SEARCH + 1, "{looked} frames for a few that are clean");
        pool.flush(PageId::new(2000)).expect("written");
        assert_eq!(pool.sweep().expect("written"), 1 + WRITE_BATCH, "one is hardly any");
        assert!(pool.hand.load(Ordering::Relaxed) <= 2 * (CLEAN_SEARCH + 1));
        assert_eq!(pool.sweep().expect("written"), WRITE_BATCH, "and none is none");
    }
}
