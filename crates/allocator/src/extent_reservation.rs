//! Extents that one mini-transaction may use.
//!
//! Invariant: the ids are free for nobody else until the reservation is dropped, and a checkpoint has passed whatever they were
//! before, so that bytes may be written there past the pool and the log (L8).

use pagestone_page_format::{PageId, PageResult};

use crate::reservation::joined;
use crate::{LoggedAllocator, MapSource, SetBits};

/// Runs of ids, each within one region, in the order in which they are to be filled.
///
/// Dropping it forfeits them: that is right as long as their group has not been appended, whatever was written there.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its ids back"]
pub struct ExtentReservation<'a> {
    allocator: &'a LoggedAllocator,
    runs: Vec<(PageId, u32)>,
}

impl<'a> ExtentReservation<'a> {
    pub(crate) fn new(allocator: &'a LoggedAllocator, runs: Vec<(u64, u64)>) -> Self {
        // A run lies in one region, whose ids have 24 bits at most.
        let runs = runs.into_iter().map(|(start, len)| (PageId::new(start), len as u32)).collect();
        Self { allocator, runs }
    }

    /// The runs: each the first id and how many.
    pub fn runs(&self) -> &[(PageId, u32)] {
        &self.runs
    }

    /// Ids of all runs.
    pub fn pages(&self) -> u64 {
        self.runs.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Adds `pages` ids behind those that it has, in at most `runs` runs; one that goes on where the last one ends is joined to
    /// it. For whoever learns as it goes how much it needs. Errors as [`LoggedAllocator::reserve_extents`], with nothing added.
    pub fn extend(&mut self, source: &dyn MapSource, pages: u64, runs: usize) -> PageResult<()> {
        let mut more = self.allocator.reserve_extents(source, pages, runs)?;
        let all = std::mem::take(&mut self.runs).into_iter().chain(std::mem::take(&mut more.runs));
        self.runs = joined(all).collect();
        Ok(())
    }

    /// Takes over the ids of another reservation of the same allocator, behind those that it has: one that goes on where the last one ends
    /// is joined to it.
    pub fn join(&mut self, mut other: Self) {
        assert!(std::ptr::eq(self.allocator, other.allocator), "ids of one allocator are joined");
        for (first, count) in std::mem::take(&mut other.runs) {
            match self.runs.last_mut() {
                Some((last, have)) if last.get() + u64::from(*have) == first.get() => *have += count,
                _ => self.runs.push((first, count)),
            }
        }
    }

    /// Keeps the first `pages` ids and gives the others back.
    pub fn trim(&mut self, pages: u64) {
        let mut left = pages;
        let mut back = Vec::new();
        self.runs.retain_mut(|(first, count)| {
            let keep = left.min((*count).into()) as u32;
            left -= u64::from(keep);
            if keep < *count {
                back.push((first.get() + u64::from(keep), u64::from(*count - keep)));
                *count = keep;
            }
            keep > 0
        });
        self.forfeit(&back);
    }

    /// The map pages of all ids, increasing, each once: what to pin before the first change.
    pub fn map_pages(&self) -> Vec<PageId> {
        let mut pages: Vec<PageId> =
            self.runs.iter().map(|(first, _)| self.allocator.map_page_of(*first)).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// The changes that mark all ids as in use, each with its map page. To be in the group that puts the ids to use.
    pub fn set_bits(&self) -> impl Iterator<Item = (PageId, SetBits)> {
        self.runs.iter().map(|(first, count)| {
            (self.allocator.map_page_of(*first), SetBits { first: *first, count: *count })
        })
    }

    /// Keeps all ids. To be called after the group with [`ExtentReservation::set_bits`] was appended to the log.
    pub fn commit(mut self) {
        self.runs.clear();
    }

    fn forfeit(&self, runs: &[(u64, u64)]) {
        if runs.is_empty() {
            return;
        }
        let mut state = self.allocator.state();
        for (start, len) in runs {
            state.forfeit(*start, *len);
        }
    }
}

impl Drop for ExtentReservation<'_> {
    fn drop(&mut self) {
        let runs: Vec<(u64, u64)> =
            self.runs.drain(..).map(|(first, count)| (first.get(), count.into())).collect();
        self.forfeit(&runs);
    }
}

#[cfg(test)]
mod tests {
    use pagestone_page_format::{Lsn, PageError, PageOp};

    use super::*;
    use crate::file_in_memory::{BITS, File};
    use crate::{ClearBits, ReplayedFrees};

    fn id(number: u64) -> PageId {
        PageId::new(number)
    }

    fn runs(reservation: &ExtentReservation<'_>) -> Vec<(u64, u32)> {
        reservation.runs().iter().map(|(first, count)| (first.get(), *count)).collect()
    }

    fn free(file: &File, allocator: &LoggedAllocator, first: u64, count: u32, lsn: u64, extent: bool) {
        let mut release = allocator.release();
        let added = if extent { release.add_extent(id(first), count) } else { release.add(id(first), count) };
        added.expect("in use");
        file.apply_release(&release);
        release.commit(Lsn::new(lsn));
    }

    #[test]
    fn one_run_is_preferred_then_the_fewest_then_a_longer_file() {
        let free: Vec<u64> = (10..13).chain(20..26).chain(40..44).chain(70..75).collect();
        let file = File::full(2, &free);
        let allocator = file.allocator();
        let got = |pages, limit| runs(&allocator.reserve_extents(&file, pages, limit).expect("it can grow"));
        assert_eq!(got(3, 4), [(10, 3)]);
        assert_eq!(got(5, 4), [(20, 5)], "the lowest run of that length");
        assert_eq!(got(10, 4), [(20, 6), (40, 4)], "the longest classes, in order of place");
        assert_eq!(got(18, 4), [(10, 3), (20, 6), (40, 4), (70, 5)]);
        assert_eq!(got(18, 3), [(129, 18)], "too many pieces: past the end");
        assert_eq!(got(63, 1), [(129, 63)]);
        assert_eq!(got(100, 2), [(129, 63), (193, 37)], "no run is longer than a region");
        assert!(allocator.reserve_extents(&file, 64, 1).is_err());
        assert!(allocator.reserve_extents(&file, u64::MAX, usize::MAX).is_err());
        assert_eq!(runs(&allocator.reserve_extents(&file, 0, 1).expect("nothing")), []);
    }

    #[test]
    fn freed_ids_are_pages_at_once_and_extents_after_the_checkpoint() {
        let file = File::full(1, &[]);
        let allocator = file.allocator();
        drop(allocator.reserve(&file, 1).expect("it can grow")); // loads the region
        free(&file, &allocator, 10, 5, 100, false);
        assert_eq!(allocator.quarantined_count(), 5);
        // Forfeited: as young as they were.
        assert_eq!(allocator.reserve(&file, 2).expect("five are free").ids(), [id(10), id(11)]);
        assert_eq!(runs(&allocator.reserve_extents(&file, 5, 5).expect("it can grow")), [(65, 5)]);
        allocator.checkpoint_passed(Lsn::new(99));
        assert_eq!(runs(&allocator.reserve_extents(&file, 1, 1).expect("it can grow")), [(65, 1)]);
        // One is put to use over the checkpoint, one is reserved over it.
        let mut ids = allocator.reserve(&file, 2).expect("five are free");
        ids.take();
        file.apply(&ids);
        let other = allocator.reserve(&file, 1).expect("three are free");
        assert_eq!(other.ids(), [id(12)]);
        ids.commit();
        allocator.checkpoint_passed(Lsn::new(100));
        assert_eq!(allocator.quarantined_count(), 0);
        drop(other);
        assert_eq!(runs(&allocator.reserve_extents(&file, 4, 1).expect("four are settled")), [(11, 4)]);
        // In use, and freed again: not what the checkpoint passed.
        free(&file, &allocator, 10, 1, 200, false);
        assert_eq!(runs(&allocator.reserve_extents(&file, 5, 1).expect("it can grow")), [(65, 5)]);
    }

    #[test]
    fn what_replay_freed_is_no_extent_before_a_checkpoint_has_passed_the_replayed_end() {
        let file = File::full(2, &[10, 11, 12, 40, 70, 71, 72]);
        let mut frees = ReplayedFrees::default();
        for (first, count) in [(11, 2), (70, 2)] {
            let op = ClearBits { first: id(first), count };
            let mut payload = Vec::new();
            op.encode(&mut payload);
            frees.note(op.kind(), &payload);
        }
        let allocator = file.allocator();
        allocator.state().freed_by_replay(Lsn::new(100), &frees);
        // Free before: 10, 40, 72.
        assert_eq!(
            runs(&allocator.reserve_extents(&file, 3, 3).expect("settled")),
            [(10, 1), (40, 1), (72, 1)]
        );
        assert_eq!(runs(&allocator.reserve_extents(&file, 3, 1).expect("it can grow")), [(129, 3)]);
        // As a page at once; freed again later, it waits for that free.
        let mut ids = allocator.reserve(&file, 2).expect("seven are free");
        assert_eq!((ids.take(), ids.take()), (Some(id(10)), Some(id(11))));
        file.apply(&ids);
        ids.commit();
        free(&file, &allocator, 11, 1, 200, false);
        allocator.checkpoint_passed(Lsn::new(99));
        assert_eq!(allocator.quarantined_count(), 4);
        allocator.checkpoint_passed(Lsn::new(100));
        assert_eq!(allocator.quarantined_count(), 1);
        assert_eq!(runs(&allocator.reserve_extents(&file, 3, 1).expect("settled")), [(70, 3)]);
    }

    #[test]
    fn extent_is_nobodys_while_a_reader_from_before_its_free_is_there() {
        let file = File::full(2, &[]);
        let allocator = file.allocator();
        let reader = allocator.read_guard();
        free(&file, &allocator, 70, 3, 100, true); // region 1 is not loaded yet
        let late = allocator.read_guard();
        free(&file, &allocator, 10, 1, 101, false); // a page: held by nobody
        allocator.checkpoint_passed(Lsn::new(101));
        assert_eq!(allocator.reserve(&file, 2).expect("it can grow").ids(), [id(10), id(129)]);
        assert_eq!(allocator.quarantined_count(), 3);
        assert!(allocator.release().add(id(71), 1).is_err(), "it is freed already");
        drop(reader);
        drop(late);
        assert_eq!(allocator.reserve(&file, 2).expect("there is room").ids(), [id(10), id(70)]);
        assert_eq!(runs(&allocator.reserve_extents(&file, 3, 1).expect("it can grow")), [(129, 3)]);
        allocator.checkpoint_passed(Lsn::new(101));
        assert_eq!(runs(&allocator.reserve_extents(&file, 3, 1).expect("settled")), [(70, 3)]);
    }

    #[test]
    fn growth_beside_young_ids_asks_for_a_checkpoint() {
        let file = File::full(1, &[]);
        let allocator = file.allocator();
        free(&file, &allocator, 10, 2, 100, false);
        drop(allocator.reserve_extents(&file, 3, 3).expect("it can grow"));
        assert!(!allocator.wants_checkpoint(), "two would not have done");
        drop(allocator.reserve_extents(&file, 2, 2).expect("it can grow"));
        assert!(allocator.wants_checkpoint() && !allocator.needs_checkpoint());
        free(&file, &allocator, 20, 2, 101, false);
        drop(allocator.reserve_extents(&file, 1, 1).expect("it can grow"));
        assert!(allocator.needs_checkpoint(), "four of 65 are a sixteenth");
        allocator.checkpoint_passed(Lsn::new(50));
        assert!(allocator.needs_checkpoint(), "nothing passed");
        allocator.checkpoint_passed(Lsn::new(101));
        assert!(!allocator.wants_checkpoint());
    }

    #[test]
    fn no_checkpoint_is_asked_for_once_young_ids_are_in_use_as_pages() {
        let file = File::full(1, &[]);
        let allocator = file.allocator();
        free(&file, &allocator, 10, 4, 100, false);
        drop(allocator.reserve_extents(&file, 4, 4).expect("it can grow"));
        assert!(allocator.needs_checkpoint(), "four of 65 are a sixteenth");
        let mut ids = allocator.reserve(&file, 4).expect("four are free");
        while ids.take().is_some() {}
        file.apply(&ids);
        ids.commit();
        allocator.checkpoint_passed(Lsn::new(100));
        assert!(!allocator.wants_checkpoint(), "it would free nothing");
    }

    #[test]
    fn full_disk_asks_for_the_checkpoint_that_would_make_room() {
        // One region in use but for ids that are young, and no room for another.
        let file = File::full(1, &[]);
        file.state.lock().limit = BITS;
        let allocator = file.allocator();
        free(&file, &allocator, 10, 2, 100, false);
        let full = allocator.reserve_extents(&file, 2, 2);
        assert!(matches!(full, Err(PageError::NoSpace { .. })));
        assert!(allocator.needs_checkpoint(), "two ids would do");
        allocator.checkpoint_passed(Lsn::new(100));
        assert!(!allocator.needs_checkpoint());
        assert_eq!(runs(&allocator.reserve_extents(&file, 2, 2).expect("they are settled")), [(10, 2)]);
    }

    #[test]
    fn trimmed_tail_is_free_again_and_a_full_disk_keeps_what_was_there() {
        let file = File::new(BITS);
        let allocator = file.allocator();
        let mut got = allocator.reserve_extents(&file, 16, 1).expect("there is room");
        got.extend(&file, 32, 1).expect("there is room");
        assert_eq!(runs(&got), [(1, 48)], "runs that touch are one");
        assert!(got.extend(&file, 32, 1).is_err());
        assert_eq!(got.pages(), 48);
        got.trim(20);
        assert_eq!(runs(&got), [(1, 20)]);
        assert_eq!(allocator.reserve(&file, 1).expect("there is room").ids(), [id(21)]);
        drop(got);
        assert_eq!(allocator.high_water(), Some(1));
    }

    #[test]
    fn joined_reservations_are_one_and_go_back_as_one() {
        let file = File::full(1, &(10..30).collect::<Vec<u64>>());
        let allocator = file.allocator();
        let reserve = |pages| allocator.reserve_extents(&file, pages, 1).expect("there are some");
        let mut all = reserve(3);
        let (second, third, fourth) = (reserve(2), reserve(4), reserve(1));
        all.join(second);
        all.join(fourth);
        all.join(third);
        assert_eq!(runs(&all), [(10, 5), (19, 1), (15, 4)]);
        assert_eq!(all.pages(), 10);
        drop(all);
        assert_eq!(runs(&reserve(20)), [(10, 20)], "all of them are free again");
    }
}
