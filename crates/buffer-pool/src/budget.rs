//! The budget: how many of the reserved frames the pool uses. It moves while the pool runs.
//!
//! Invariant: the frames in use are those below the capacity. One above it is on no list, holds no page and belongs to nobody (P9), and
//! its memory is the system's again, as far as whole blocks of 2 MiB go.
//!
//! ```text
//!   raise   1  the capacity rises    2  the new frames go to the free list
//!   lower   1  the gate narrows; those inside are waited for until they fit
//!           2  the capacity falls: from here on the clock does not come to the frames above it
//!           3  each of them is taken off the free list, or evicted, dirty ones in batches, log first; pinned ones are waited for
//!           4  their memory is returned
//!           or, when a pin stays or a page cannot be written: all that was taken goes back, and the capacity is what it was
//! ```
//!
//! Nobody but the one who lowers takes a frame out of use, so each that it took stays taken, and the rounds of step 3 end. Memory
//! is returned beside readers with stale hints, who then read zeros of a frame that holds no page; no I/O ever touches it
//! (`staging.rs`).

use std::time::Instant;

use pagestone_page_format::{FrameIndex, PageError, PageResult};
use pagestone_sync::Mutex;
use pagestone_sync::atomic::{AtomicUsize, Ordering};
use pagestone_sync::faults::planted;

use crate::evict::{Chance, LOOK_AGAIN, Verdict, WRITE_BATCH, young_places};
use crate::frame::Frame;
use crate::table::PageTable;
use crate::write_back::WhenLatched;
use crate::{BufferPool, MIN_FRAMES};

#[derive(Debug)]
pub(crate) struct Budget {
    capacity: AtomicUsize,
    /// Held by who moves it: the fewest frames that it may be moved to.
    least: Mutex<usize>,
}

impl Budget {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: AtomicUsize::new(capacity), least: Mutex::new(MIN_FRAMES) }
    }

    /// Frames in use. A number that is a moment old harms nobody: frames are owned, whatever it says.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }
}

/// What a pool of so many frames has in memory beside the pages.
const fn overhead(frames: usize) -> usize {
    /// A place of a list: a frame's number and its turn.
    const LISTED: usize = 16;
    frames * size_of::<Frame>() + PageTable::bytes(frames) + (frames + young_places(frames)) * LISTED
}

impl BufferPool {
    /// Moves the budget to `frames` pages, while the pool is in use. Lowering writes and evicts pages, and returns their memory to the
    /// system in blocks of 2 MiB; it waits for pins as a fault does ([`crate::PoolOptions::exhausted_wait`]), and before that as long for
    /// operations that were admitted with more than half of it. The caller holds no latch, no pin and no [`crate::Admission`].
    ///
    /// Errors: [`PageError::BudgetRefused`] for fewer than [`MIN_FRAMES`] or than somebody needs ([`BufferPool::require_frames`]), for
    /// more than were reserved ([`crate::PoolOptions::frames_max`]), and for frames that stay pinned; those of writing. The budget
    /// is then what it was.
    pub fn set_capacity(&self, frames: usize) -> PageResult<()> {
        let least = self.budget.least.lock();
        if !(*least..=self.frames.len()).contains(&frames) {
            return Err(self.refused(frames, *least));
        }
        let before = self.capacity();
        if frames < before {
            let taken = self.take_out(frames, before)?;
            debug_assert!(taken.len() == before - frames, "P9: every frame above the budget is taken once");
            self.arena.release_from(frames);
            self.frame_was_wanted();
        } else {
            self.set(frames);
            (before..frames).for_each(|index| self.give_back(FrameIndex::new(index as u32)));
        }
        Ok(())
    }

    /// [`BufferPool::set_capacity`] to as many pages as fit into so many bytes. Headers and table, up to 3 % of what was reserved, come
    /// beside it.
    pub fn set_capacity_bytes(&self, bytes: usize) -> PageResult<()> {
        self.set_capacity(bytes / self.size.get())
    }

    /// Says that the caller cannot work with fewer frames, a tree for example: the budget is never lowered below that, while the pool
    /// lives.
    ///
    /// Errors: [`PageError::BudgetRefused`] if it is lower already.
    pub fn require_frames(&self, frames: usize) -> PageResult<()> {
        let mut least = self.budget.least.lock();
        let capacity = self.capacity();
        if capacity < frames {
            return Err(self.refused(capacity, frames));
        }
        *least = frames.max(*least);
        Ok(())
    }

    /// Frames that the budget can be raised to.
    pub fn capacity_max(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of memory beside the pages: headers, table, lists. They are taken for every frame reserved, and are less than 3 % of its page of
    /// 4 KiB in pools of 64 frames and more.
    pub fn overhead_bytes(&self) -> usize {
        overhead(self.frames.len())
    }

    fn set(&self, capacity: usize) {
        self.budget.capacity.store(capacity, Ordering::Relaxed);
        self.gate.follow(capacity);
    }

    fn refused(&self, frames: usize, least: usize) -> PageError {
        PageError::BudgetRefused { frames, least, most: self.frames.len() }
    }

    /// Takes the frames from `to` to `from` out of use, or none of them.
    fn take_out(&self, to: usize, from: usize) -> PageResult<Vec<FrameIndex>> {
        if let Err(admitted) = self.gate.narrow(to, Instant::now() + self.exhausted_wait) {
            self.set(from);
            return Err(self.refused(to, 2 * admitted));
        }
        self.set(to);
        let (mut taken, mut left) =
            (Vec::new(), (to..from).map(|index| FrameIndex::new(index as u32)).collect());
        let give_up = Instant::now() + self.exhausted_wait;
        let ended = loop {
            let before = taken.len();
            if let Err(error) = self.take_round(to, &mut left, &mut taken) {
                break Err(error);
            }
            let Some(highest) = left.last() else { break Ok(()) };
            if taken.len() == before {
                if Instant::now() >= give_up {
                    break Err(self.refused(to, highest.index() + 1));
                }
                self.frame_freed.wait_briefly(LOOK_AGAIN, || false);
            }
        };
        match ended {
            Ok(()) => Ok(taken),
            Err(error) => {
                self.set(from);
                taken.into_iter().for_each(|index| self.give_back(index));
                Err(error)
            }
        }
    }

    /// One look at the free list and at each frame that is `left`, which is in order and stays so.
    fn take_round(
        &self,
        to: usize,
        left: &mut Vec<FrameIndex>,
        taken: &mut Vec<FrameIndex>,
    ) -> PageResult<()> {
        let before = taken.len();
        for _ in 0..self.free.len() {
            match self.free.pop() {
                Some(index) if index.index() >= to => taken.push(index),
                Some(index) => self.give_back(index),
                None => break,
            }
        }
        let mut listed = taken[before..].to_vec();
        listed.sort_unstable();
        left.retain(|index| listed.binary_search(index).is_err());
        let mut dirty = Vec::new();
        left.retain(|&index| match self.evict(index, Chance::Last) {
            Verdict::Kept if !planted("a lowered budget does not wait for who holds its frames") => true,
            Verdict::Dirty => {
                dirty.push(index);
                true
            }
            Verdict::Freed | Verdict::Kept => {
                taken.push(index);
                false
            }
        });
        // Out of the table they go in the next round.
        dirty.chunks(WRITE_BATCH).try_for_each(|batch| self.write_back(batch, WhenLatched::Skip))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_page_format::MIN_PAGE_SIZE;

    use super::*;

    #[test]
    fn headers_and_tables_stay_below_three_parts_of_a_hundred() {
        // Every number up to a quarter of a million; from there on what changes is the table, at powers of two.
        let around = (6..=23u32).flat_map(|power| (1usize << power) / 3 * 5 - 4..(1 << power) / 3 * 5 + 8);
        for frames in (64..1 << 18).chain(around) {
            let (bytes, pages) = (overhead(frames), frames * MIN_PAGE_SIZE);
            assert!(bytes * 100 < pages * 3, "{frames} frames: {bytes} bytes beside {pages}");
        }
    }
}
