//! Ids below a bound, for whoever makes the file shorter: moving a page is worth it only if it goes down.
//!
//! Invariant: nothing here makes the file longer or waits for anybody; what is not known to be free is not found, and what lies past the
//! highest id in use is not either: it may be cut off at this moment ([`crate::tail`]), or be already.

use pagestone_page_format::{PageId, PageResult};

use crate::{ExtentReservation, LoggedAllocator, MapSource, Reservation};

impl LoggedAllocator {
    /// Reads the map pages of all regions that nobody has needed yet, so that every free id is known. Errors: those of `source`.
    pub fn load_all(&self, source: &dyn MapSource) -> PageResult<()> {
        self.load_every_region(source)
    }

    /// Reserves the lowest `ids` ids, if so many below `end` are known to be free. They have room in the file, which they were cut out of.
    pub fn reserve_below(&self, ids: usize, end: PageId) -> Option<Reservation<'_>> {
        let mut state = self.state();
        let end = state.high_water()?.min(end.get());
        let runs = state.take_below(ids as u64, end)?;
        drop(state);
        Some(Reservation::new(self, &runs))
    }

    /// Reserves `pages` ids below `end` for bytes that are written past the pool, in one run if there is one so long, else in as few as
    /// there can be, at most `runs`; of ids that may be extents (L8) alone.
    pub fn reserve_extents_below(
        &self,
        pages: u64,
        runs: usize,
        end: PageId,
    ) -> Option<ExtentReservation<'_>> {
        let mut state = self.state();
        let end = state.high_water()?.min(end.get());
        let runs = state.take_extents_below(pages, runs, end)?;
        drop(state);
        Some(ExtentReservation::new(self, runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_in_memory::{BITS, File};

    /// A cut has nobody wait here, so it must have nothing to fear either.
    #[test]
    fn nothing_behind_a_cut_is_found() {
        let file = File::full(1, &[10, 60, 61, 62, 63]);
        let allocator = file.allocator();
        allocator.load_all(&file).expect("readable");
        let cut = allocator.cut_tail(|pages| {
            assert_eq!(pages, 60);
            let end = PageId::new(BITS);
            assert!(allocator.reserve_below(2, end).is_none());
            assert!(allocator.reserve_extents_below(1, 1, PageId::new(10)).is_none());
            assert!(allocator.reserve_extents_below(2, 2, end).is_none());
            assert_eq!(
                allocator.reserve_extents_below(1, 1, end).expect("one").runs(),
                [(PageId::new(10), 1)]
            );
            assert_eq!(allocator.reserve_below(1, end).expect("one").ids(), [PageId::new(10)]);
            Ok(())
        });
        assert!(cut.expect("nothing fails"));
        assert!(allocator.reserve_below(2, PageId::new(BITS)).is_none());
    }

    #[test]
    fn what_is_free_below_is_found_and_nothing_else() {
        let file = File::full(3, &[10, 20, 70, 71, 72, 130]);
        let allocator = file.allocator();
        assert!(allocator.reserve_below(1, PageId::new(BITS)).is_none(), "nobody has looked yet");
        allocator.load_all(&file).expect("readable");
        assert_eq!((allocator.regions(), file.loads()), (Some(3), 3));
        let pages = file.state.lock().pages;
        assert!(allocator.reserve_below(3, PageId::new(70)).is_none());
        let two = allocator.reserve_below(2, PageId::new(70)).expect("two");
        assert_eq!(two.ids(), [PageId::new(10), PageId::new(20)]);
        assert!(allocator.reserve_below(1, PageId::new(70)).is_none());
        let run = allocator.reserve_extents_below(2, 1, PageId::new(73)).expect("a run");
        assert_eq!(run.runs(), [(PageId::new(70), 2)]);
        assert!(allocator.reserve_extents_below(2, 1, PageId::new(200)).is_none(), "no two in a row");
        let parts = allocator.reserve_extents_below(2, 2, PageId::new(200)).expect("two of one");
        assert_eq!(parts.runs(), [(PageId::new(72), 1), (PageId::new(130), 1)]);
        drop((two, run, parts));
        assert!(allocator.reserve_extents_below(3, 1, PageId::new(72)).is_none(), "cut off by the bound");
        assert_eq!((allocator.free_count(), file.state.lock().pages), (6, pages));
    }
}
