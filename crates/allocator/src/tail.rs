//! The end of the file, given back.
//!
//! Invariant: an id at or past a cut is free, no recovery meets it in its log, and nobody is given it before the cut has ended. So the
//! file is never shorter than what somebody uses, and redo never finds that a page is gone which a record changes.
//!
//! ```text
//!   in use │ free, but young │ free and settled             young: its free is in the log of some recovery (L8)
//!   ───────┴─────────────────┼─────────────────────┐
//!                            tail                  the file's end: cut to here at most
//! ```
//!
//! Whoever asks for ids past the high water waits while a cut is under way, which is one call of the system. A region whose ids are all
//! free is dropped before: the number of regions falls by one, in a group, and its map page goes once checkpoints have passed that group.

use pagestone_page_format::{Lsn, PageResult};
use pagestone_sync::faults::planted;

use crate::LoggedAllocator;
use crate::logged::Claim;

/// What is known about the end of the file beside which ids are free.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Up to here the file stays until a checkpoint has passed this LSN.
    keep: Option<(Lsn, u64)>,
    /// The older copy's checkpoint.
    passed: Lsn,
    cutting: bool,
    cuts: u64,
}

impl Tail {
    /// Keeps `pages` pages until a checkpoint, in both copies, has passed `lsn`.
    pub(crate) fn keep_until(&mut self, lsn: Lsn, pages: u64) {
        let (before, at_least) = self.keep.filter(|(until, _)| *until > self.passed).unwrap_or_default();
        self.keep = Some((before.max(lsn), at_least.max(pages)));
    }

    /// A checkpoint at `lsn` has passed, in both copies.
    pub(crate) fn pass(&mut self, lsn: Lsn) {
        self.passed = self.passed.max(lsn);
    }

    /// No recovery begins before.
    pub(crate) fn passed(&self) -> Lsn {
        self.passed
    }

    /// Pages that are kept whatever is free, where a recovery begins at `lsn`.
    pub(crate) fn kept(&self, lsn: Lsn) -> u64 {
        self.keep.filter(|(until, _)| *until > lsn).map_or(0, |(_, pages)| pages)
    }

    pub(crate) fn is_being_cut(&self) -> bool {
        self.cutting
    }

    /// How often the file may have become shorter.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts
    }
}

/// A cut under way: ended on every way out, so that nobody waits for a thread that has left.
struct Cutting<'a>(&'a LoggedAllocator);

impl Drop for Cutting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.tail.cutting = false;
        state.tail.cuts += 1;
        // Asked again by whoever needs more.
        if !planted("what was measured before a cut is believed after it") {
            state.room = 0;
        }
        drop(state);
        if !planted("the end of a cut wakes nobody") {
            self.0.progress.notify_all();
        }
    }
}

impl LoggedAllocator {
    /// So many pages the file must have for a recovery that begins at `lsn`: all ids from there on are free, and were freed before. `None`
    /// before the last region was needed.
    pub fn tail_at(&self, lsn: Lsn) -> Option<u64> {
        self.state().tail_start(lsn)
    }

    /// The same for every recovery that there may be.
    pub fn tail(&self) -> Option<u64> {
        let state = self.state();
        state.tail_start(state.tail.passed())
    }

    /// Calls `cut` with the number of pages that the file must have, while nobody is given an id behind them; not if that is not known,
    /// or a region is being read or made. `cut` may make the file shorter, down to so many pages; no lock is held.
    ///
    /// Errors: those of `cut`. Gives whether it was called.
    pub fn cut_tail(&self, cut: impl FnOnce(u64) -> PageResult<()>) -> PageResult<bool> {
        let mut state = self.state();
        if state.regions.is_busy() || state.tail.cutting {
            return Ok(false);
        }
        let Some(pages) = state.tail_start(state.tail.passed()) else { return Ok(false) };
        state.tail.cutting = true;
        drop(state);
        let _cutting = Cutting(self);
        cut(pages).map(|()| true)
    }

    /// Waits until no region is being read or made, and no cut is under way: [`LoggedAllocator::cut_tail`] and
    /// [`LoggedAllocator::drop_last_region`] pass by then, unless somebody was faster. Not for who holds what making a region waits for, as
    /// room in the log.
    pub fn wait_while_busy(&self) {
        let mut state = self.state();
        while state.regions.is_busy() || state.tail.cutting {
            drop(self.progress.wait(state));
            state = self.state();
        }
    }

    /// Drops the last region if it is not the first, and all of its ids are free. `write` is given the region, which is the number of
    /// those that are left, and logs that with [`crate::SetRegions`]; it gives the end of its group. No lock is held meanwhile.
    ///
    /// Errors: those of `write`, after which nothing must have changed; the region is kept then. Gives whether a region was dropped.
    pub fn drop_last_region(&self, write: impl FnOnce(u64) -> PageResult<Lsn>) -> PageResult<bool> {
        let mut state = self.state();
        let Some(region) = state.take_last_region() else { return Ok(false) };
        state.regions.begin(region);
        drop(state);
        let _claim = Claim(self);
        let written = write(region);
        let mut state = self.state();
        match written {
            Ok(lsn) => state.region_dropped(region, lsn),
            Err(_) => state.keep_last_region(region),
        }
        written.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use pagestone_page_format::{PageError, PageId};

    use super::*;
    use crate::ReplayedFrees;
    use crate::file_in_memory::{BITS, File};

    fn free(file: &File, allocator: &LoggedAllocator, first: u64, count: u32, lsn: u64) {
        let mut release = allocator.release();
        release.add(PageId::new(first), count).expect("in use");
        file.apply_release(&release);
        release.commit(Lsn::new(lsn));
    }

    /// What a cut would leave.
    fn cut_to(allocator: &LoggedAllocator) -> Option<u64> {
        let mut pages = None;
        let cut = allocator.cut_tail(|tail| {
            pages = Some(tail);
            Ok(())
        });
        assert_eq!(cut.expect("nothing fails"), pages.is_some());
        pages
    }

    #[test]
    fn only_what_a_checkpoint_has_passed_is_cut() {
        let file = File::full(1, &[63]);
        let allocator = file.allocator();
        assert_eq!(cut_to(&allocator), None, "nobody has looked yet");
        drop(allocator.reserve(&file, 1).expect("there is room"));
        assert_eq!(cut_to(&allocator), Some(63));
        free(&file, &allocator, 40, 23, 100);
        allocator.checkpoint_passed(Lsn::new(99));
        assert_eq!(cut_to(&allocator), Some(63), "redo may meet the pages");
        allocator.checkpoint_passed(Lsn::new(100));
        assert_eq!(cut_to(&allocator), Some(40));
        // Freed and used again, as a page: free since yesterday is not free.
        let mut ids = allocator.reserve(&file, 3).expect("there is room");
        file.apply({
            while ids.take().is_some() {}
            &ids
        });
        ids.commit();
        free(&file, &allocator, 40, 3, 200);
        assert_eq!(cut_to(&allocator), Some(43));
    }

    #[test]
    fn region_goes_once_all_of_it_is_free_and_its_map_page_once_a_checkpoint_has_passed_that() {
        let file = File::full(2, &[]);
        let allocator = file.allocator();
        drop(allocator.reserve(&file, 1).expect("it can grow"));
        free(&file, &allocator, BITS + 1, BITS as u32 - 1, 100);
        free(&file, &allocator, 30, 34, 110);
        let drop_one = |lsn| allocator.drop_last_region(|_| Ok(Lsn::new(lsn))).expect("nothing fails");
        assert!(drop_one(120), "the third, which held nothing");
        assert!(drop_one(130));
        assert!(!drop_one(140), "the first stays");
        assert_eq!(allocator.tail(), Some(2 * BITS + 1), "redo may meet the map page");
        allocator.checkpoint_passed(Lsn::new(110));
        assert_eq!(allocator.tail(), Some(2 * BITS + 1));
        allocator.checkpoint_passed(Lsn::new(130));
        assert_eq!(allocator.tail(), Some(30));
        assert_eq!(allocator.free_count(), 0, "all of it lies behind the high water");
        let again = allocator.reserve(&file, 34).expect("there is room");
        assert_eq!((again.ids()[0].get(), again.ids()[33].get()), (30, 63));
        assert_eq!(allocator.tail(), Some(BITS), "what is reserved stays");
    }

    /// The map page is not all that redo may meet: so are the pages that were freed since.
    #[test]
    fn what_was_freed_in_a_region_stays_until_a_checkpoint_has_passed_that_it_was_dropped() {
        let file = File::full(2, &[]);
        let allocator = file.allocator();
        drop(allocator.reserve(&file, 1).expect("it can grow"));
        allocator.drop_last_region(|_| Ok(Lsn::new(50))).expect("nothing fails");
        allocator.checkpoint_passed(Lsn::new(50));
        assert_eq!(allocator.tail(), Some(2 * BITS), "all are in use");
        free(&file, &allocator, BITS + 1, BITS as u32 - 1, 100);
        assert_eq!(allocator.tail(), Some(2 * BITS));
        assert!(allocator.drop_last_region(|_| Ok(Lsn::new(130))).expect("nothing fails"));
        assert_eq!(allocator.tail(), Some(2 * BITS), "redo may meet what was freed");
        assert_eq!(allocator.tail_at(Lsn::new(99)), Some(2 * BITS));
        allocator.checkpoint_passed(Lsn::new(99));
        assert_eq!(allocator.tail(), Some(2 * BITS));
        allocator.checkpoint_passed(Lsn::new(130));
        assert_eq!(allocator.tail(), Some(BITS));
    }

    #[test]
    fn region_that_is_in_use_or_reserved_stays_and_so_does_one_that_could_not_be_dropped() {
        let file = File::full(1, &[]);
        let allocator = file.allocator();
        let held = allocator.reserve(&file, 1).expect("it can grow");
        assert!(!allocator.drop_last_region(|_| Ok(Lsn::new(1))).expect("nothing fails"));
        drop(held);
        let failed = allocator.drop_last_region(|_| Err(PageError::Closed));
        assert!(matches!(failed, Err(PageError::Closed)));
        assert_eq!((allocator.regions(), allocator.tail()), (Some(2), Some(BITS + 1)));
        assert_eq!(allocator.reserve(&file, 1).expect("there is room").ids(), [PageId::new(BITS + 1)]);
    }

    #[test]
    fn nothing_is_cut_before_a_checkpoint_has_passed_what_was_replayed() {
        let file = File::full(1, &[50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63]);
        let allocator = file.allocator();
        allocator.state().freed_by_replay(Lsn::new(200), &ReplayedFrees::default());
        drop(allocator.reserve(&file, 1).expect("there is room"));
        assert_eq!(allocator.tail(), Some(u64::MAX));
        allocator.checkpoint_passed(Lsn::new(199));
        assert_eq!(allocator.tail(), Some(u64::MAX));
        allocator.checkpoint_passed(Lsn::new(200));
        assert_eq!(allocator.tail(), Some(50));
    }

    /// Otherwise the page would be given a place that is cut off a moment later.
    #[test]
    fn who_needs_ids_behind_a_cut_waits_for_it() {
        let file = File::full(1, &[10, 60, 61, 62, 63]);
        let allocator = file.allocator();
        drop(allocator.reserve(&file, 1).expect("there is room"));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let cut = allocator.cut_tail(|pages| {
                assert_eq!(pages, 60);
                let below = allocator.reserve(&file, 1).expect("there is room");
                assert_eq!(below.ids(), [PageId::new(10)], "what lies before the cut is given out meanwhile");
                scope.spawn(|| {
                    let ids = allocator.reserve(&file, 2).expect("there is room");
                    tell.send(ids.ids().to_vec()).expect("waited for");
                });
                // Not a proof that it waits, but it would come.
                assert!(told.recv_timeout(std::time::Duration::from_millis(20)).is_err());
                file.state.lock().pages = pages;
                Ok(())
            });
            assert!(cut.expect("nothing fails"));
            assert_eq!(told.recv().expect("sent"), [10, 60].map(PageId::new));
        });
        assert!(file.state.lock().pages >= 61, "there is room again for what was given out");
    }

    /// Otherwise a file would stay long because somebody happened to look.
    #[test]
    fn who_waits_for_a_region_finds_it_done() {
        let file = File::full(2, &[]);
        let allocator = file.allocator();
        drop(allocator.reserve(&file, 1).expect("it can grow"));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let dropped = allocator.drop_last_region(|_| {
                assert_eq!(cut_to(&allocator), None, "busy");
                scope.spawn(|| {
                    allocator.wait_while_busy();
                    tell.send(cut_to(&allocator)).expect("waited for");
                });
                // Not a proof that it waits, but it would come.
                assert!(told.recv_timeout(std::time::Duration::from_millis(20)).is_err());
                Ok(Lsn::new(1))
            });
            assert!(dropped.expect("nothing fails"));
            assert!(told.recv().expect("sent").is_some());
        });
    }
}
