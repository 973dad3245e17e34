//! Which slots are taken, by whom, and when they are free again. No I/O: a table under the lock of its owner.
//!
//! Invariant: a slot is given out only if no power cut can make recovery need what stands in it.
//!
//! ```text
//!             take             in_place            ended            a sync that began after it
//!   free  ──────────► filling ─────────► writing ─────────► ended ─────────────────────────────► free
//!                        │                  │
//!                        │ forget           │ failed
//!                        ▼                  ▼
//!                       free             pinned ───────────────────────────────────────────────► free
//!                                                once each of its pages stands in a later durable region
//! ```
//!
//! A pinned region holds the only whole copy of pages that may be torn in their place. As soon as a later region with a copy of
//! the same page is durable, that one takes over: recovery takes the newest.

use std::collections::BTreeMap;

use pagestone_page_format::PageId;

/// The state of a region that is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its copies are not durable yet, and no page was written in its place.
    Filling,
    /// Its copies are durable, and its pages are being written.
    Writing,
    /// Its pages were written before the sync with this number began.
    Ended(u64),
    /// A write of its pages failed.
    Pinned,
}

#[derive(Debug)]
struct Region {
    slots: u64,
    sequence: u64,
    /// Of a pinned region: those that stand in no later durable region.
    pages: Vec<PageId>,
    stage: Stage,
}

/// A region that was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its first slot, by which it is known.
    pub(super) at: u64,
    pub(super) sequence: u64,
    /// See [`super::header::Header::needed_from`].
    pub(super) needed_from: u64,
}

/// What to do when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Make the file so many slots long.
    Grow(u64),
    /// Sync the data file.
    Sync,
    /// Wait for the others' writes.
    Wait,
    /// Take a smaller region: what is left lies between pinned ones.
    Smaller,
}

/// All regions of one file.
#[derive(Debug)]
pub(super) struct Regions {
    /// By their first slot; they do not overlap.
    taken: BTreeMap<u64, Region>,
    /// Slots that the file has room for.
    slots: u64,
    /// Slots that it may be given.
    slots_max: u64,
    next_sequence: u64,
    /// Syncs of the data file begun.
    syncs: u64,
}

/// A growing file is given so many slots at least.
const GROW_SLOTS: u64 = 16;

impl Regions {
    /// All free, in a file with room for `slots`.
    pub(super) fn new(slots: u64, slots_max: u64, next_sequence: u64) -> Self {
        Self { taken: BTreeMap::new(), slots: slots.min(slots_max), slots_max, next_sequence, syncs: 0 }
    }

    /// Takes the first gap with room for a header and these pages.
    pub(super) fn take(&mut self, pages: &[PageId]) -> Option<Taken> {
        let slots = pages.len() as u64 + 1;
        let at = self.gap(slots)?;
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        let region = Region { slots, sequence, pages: pages.to_vec(), stage: Stage::Filling };
        self.taken.insert(at, region);
        let needed_from = self.taken.values().map(|region| region.sequence).min().expect("one was taken");
        Some(Taken { at, sequence, needed_from })
    }

    /// The lowest one: the file stays as short as what is in use at once, and so does what recovery has to read.
    fn gap(&self, slots: u64) -> Option<u64> {
        let mut end = 0;
        for (at, region) in &self.taken {
            if at - end >= slots {
                return Some(end);
            }
            end = at + region.slots;
        }
        (self.slots - end >= slots).then_some(end)
    }

    /// What to do where [`Regions::take`] found no room for so many pages. Growing comes first: a sync of the data file costs
    /// more than a longer file, and comes with the next checkpoint anyway.
    pub(super) fn remedy(&self, pages: usize, may_grow: bool) -> Remedy {
        let end = self.taken.last_key_value().map_or(0, |(at, region)| at + region.slots);
        let wanted = end + pages as u64 + 1;
        if may_grow && wanted <= self.slots_max {
            return Remedy::Grow((wanted + wanted / 2).next_multiple_of(GROW_SLOTS).min(self.slots_max));
        }
        let mut remedy = Remedy::Smaller;
        for region in self.taken.values() {
            match region.stage {
                Stage::Ended(_) => return Remedy::Sync,
                Stage::Filling | Stage::Writing => remedy = Remedy::Wait,
                Stage::Pinned => {}
            }
        }
        remedy
    }

    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    /// The file has grown.
    pub(super) fn grown(&mut self, slots: u64) {
        self.slots = self.slots.max(slots);
    }

    fn get(&mut self, at: u64) -> &mut Region {
        self.taken.get_mut(&at).expect("a region is given back once")
    }

    /// Its copies could not be made durable: nothing was written in its place, so nobody needs them.
    pub(super) fn forget(&mut self, at: u64) {
        debug_assert_eq!(self.get(at).stage, Stage::Filling);
        self.taken.remove(&at);
    }

    /// Its copies are durable: from here on its pages may be torn, and older copies of them are not needed.
    pub(super) fn in_place(&mut self, at: u64) {
        let region = self.get(at);
        region.stage = Stage::Writing;
        let (sequence, pages) = (region.sequence, region.pages.clone());
        self.taken.retain(|_, older| {
            if older.stage == Stage::Pinned && older.sequence < sequence {
                older.pages.retain(|page| !pages.contains(page));
            }
            older.stage != Stage::Pinned || !older.pages.is_empty()
        });
    }

    /// Every page of it was written.
    pub(super) fn ended(&mut self, at: u64) {
        let now = self.syncs + 1;
        self.get(at).stage = Stage::Ended(now);
    }

    /// A page of it may be torn, and will stay so until it is written again.
    pub(super) fn failed(&mut self, at: u64) {
        self.get(at).stage = Stage::Pinned;
    }

    /// A sync of the data file begins; gives its number.
    pub(super) fn sync_begins(&mut self) -> u64 {
        self.syncs += 1;
        self.syncs
    }

    /// The sync with this number has succeeded: what had ended when it began is free.
    pub(super) fn synced(&mut self, number: u64) {
        self.taken.retain(|_, region| !matches!(region.stage, Stage::Ended(before) if before <= number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<PageId> {
        ids.into_iter().map(PageId::new).collect()
    }

    fn write(regions: &mut Regions, pages: &[PageId]) -> Taken {
        let taken = regions.take(pages).expect("room");
        regions.in_place(taken.at);
        regions.ended(taken.at);
        taken
    }

    #[test]
    fn region_is_free_only_after_a_sync_that_began_after_its_last_write() {
        let mut regions = Regions::new(6, 6, 1);
        let first = regions.take(&ids([1, 2])).expect("room");
        regions.in_place(first.at);
        let early = regions.sync_begins();
        regions.ended(first.at);
        let second = write(&mut regions, &ids([3, 4]));
        assert_eq!((first.at, second.at), (0, 3));
        regions.synced(early);
        assert_eq!(regions.take(&ids([5])), None, "the sync began before the writes ended");
        assert_eq!(regions.remedy(1, true), Remedy::Sync);
        let late = regions.sync_begins();
        regions.synced(late);
        let third = regions.take(&ids([5, 6, 7])).expect("both are free");
        assert_eq!((third.at, third.sequence, third.needed_from), (0, 3, 3));
    }

    #[test]
    fn unfinished_regions_are_waited_for_and_failed_ones_are_not() {
        let mut regions = Regions::new(4, 4, 1);
        let first = regions.take(&ids([1])).expect("room");
        assert_eq!(regions.remedy(2, true), Remedy::Wait);
        regions.in_place(first.at);
        assert_eq!(regions.remedy(2, true), Remedy::Wait);
        regions.failed(first.at);
        assert_eq!(regions.remedy(2, true), Remedy::Smaller);
        let number = regions.sync_begins();
        regions.synced(number);
        assert_eq!(regions.take(&ids([2, 3])), None, "no sync frees what may be torn");
        assert_eq!(regions.take(&ids([2])).expect("room behind it").at, 2);
    }

    #[test]
    fn failed_region_is_free_once_all_its_pages_stand_in_later_durable_ones() {
        let mut regions = Regions::new(64, 64, 1);
        let failed = regions.take(&ids([1, 2])).expect("room");
        regions.in_place(failed.at);
        regions.failed(failed.at);
        let one = regions.take(&ids([2, 9])).expect("room");
        assert_eq!(one.needed_from, failed.sequence);
        regions.in_place(one.at);
        let two = regions.take(&ids([1])).expect("room");
        assert_eq!(two.needed_from, failed.sequence, "a copy that is not durable takes nothing over");
        regions.in_place(two.at);
        let next = regions.take(&ids([7])).expect("room");
        assert_eq!((next.at, next.needed_from), (failed.at, one.sequence));
    }

    #[test]
    fn file_grows_by_half_and_no_further_than_it_may() {
        let mut regions = Regions::new(0, 100, 1);
        assert_eq!(regions.take(&ids([1])), None);
        assert_eq!(regions.remedy(1, true), Remedy::Grow(16));
        assert_eq!(regions.remedy(60, true), Remedy::Grow(96));
        assert_eq!(regions.remedy(90, true), Remedy::Grow(100));
        assert_eq!(regions.remedy(1, false), Remedy::Smaller);
        regions.grown(16);
        for page in 0..8 {
            write(&mut regions, &ids([page]));
        }
        assert_eq!(regions.take(&ids([1])), None);
        assert_eq!(regions.remedy(1, true), Remedy::Grow(32));
        assert_eq!(regions.remedy(1, false), Remedy::Sync);
    }

    #[test]
    fn what_was_never_durable_is_free_at_once() {
        let mut regions = Regions::new(2, 2, 9);
        let first = regions.take(&ids([1])).expect("room");
        regions.forget(first.at);
        assert_eq!(regions.take(&ids([1])), Some(Taken { at: 0, sequence: 10, needed_from: 10 }));
    }
}
