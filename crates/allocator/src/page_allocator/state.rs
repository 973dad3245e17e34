//! Which ids are in use, which are free, and which are free but not yet for anybody.
//!
//! Invariant: an id below the high water that is not the allocator's own is in exactly one of four states: in use, free (in `free`), held
//! (in `held`: freed, and in use as far as the disk knows), or settling (held when the commit that is under way began).
//!
//! ```text
//!             allocate                      free, known to the disk
//!     free ─────────────► in use ─────────────────────────────► held
//!      ▲ ▲                   │  free, unknown to the disk         │ begin
//!      │ └───────────────────┘                                    ▼
//!      └──────────────────────── commit ───────────────────── settling
//! ```

use std::collections::BTreeSet;
use std::mem;

use pagestone_page_format::{PageError, PageId, PageResult, PageSize};

use super::pages::{HEAD_PAGES, Root, empty_map, is_own, regions_max};
use crate::extents::Extents;
use crate::region_bits;

#[derive(Debug)]
struct Region {
    now: Vec<u64>,
    /// As the last commit left it.
    durable: Vec<u64>,
    /// As the commit that is under way will leave it.
    pending: Option<Vec<u64>>,
}

/// What one commit writes: the generation, and the bits of each region that changed, with the slot that does not count now.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) root: Root,
    pub(super) maps: Vec<(usize, usize, Vec<u64>)>,
}

/// Ids in a row that a request would get, and how long the file must be for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) file_pages: u64,
}

#[derive(Debug)]
pub(super) struct State {
    size: PageSize,
    root: Root,
    regions: Vec<Region>,
    changed: BTreeSet<usize>,
    free: Extents,
    held: Extents,
    settling: Extents,
    /// One past the highest id in use.
    pub(super) high_water: u64,
    /// Pages that the file is known to have.
    pub(super) room: u64,
}

impl State {
    /// As the disk has it: the bits of each region that `root` names.
    pub(super) fn new(size: PageSize, root: Root, maps: Vec<Vec<u64>>, room: u64) -> Self {
        let regions =
            maps.into_iter().map(|bits| Region { now: bits.clone(), durable: bits, pending: None }).collect();
        let mut state = Self {
            size,
            root,
            regions,
            changed: BTreeSet::new(),
            free: Extents::new(),
            held: Extents::new(),
            settling: Extents::new(),
            high_water: 1,
            room,
        };
        let all = state.regions.len() as u64 * region_bits(size);
        state.high_water = (1..all).rev().find(|id| state.is_in_use(*id)).map_or(1, |last| last + 1);
        let mut run = 1..1;
        for id in 1..state.high_water {
            if is_own(id, size) || state.is_in_use(id) {
                state.free.give(run.start, run.end - run.start).expect("each id once");
                run = id + 1..id + 1;
            } else {
                run.end = id + 1;
            }
        }
        state
    }

    /// As the last commit left it.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Whether somebody has this id; the allocator's own are nobody's.
    pub(super) fn is_in_use(&self, id: u64) -> bool {
        let (region, at) = self.place_of(id);
        !is_own(id, self.size) && self.regions.get(region).is_some_and(|region| bit(&region.now, at))
    }

    pub(super) fn free_count(&self) -> u64 {
        self.free.total() + self.held.total() + self.settling.total()
    }

    /// Where `count` ids in a row can be had: the lowest that are free, or past the high water. `NoSpace` if nowhere.
    pub(super) fn find(&self, count: u64) -> PageResult<Place> {
        let no_space = PageError::NoSpace { needed: count.saturating_mul(self.size.get() as u64) };
        let bits = region_bits(self.size);
        if count == 0 || count >= bits - 1 {
            return Err(no_space); // the map slots stand in between
        }
        let start = self.free.lowest_run(count).unwrap_or_else(|| self.start_behind(count));
        let last = start + count - 1;
        if last / bits >= regions_max(self.size) || last > PageId::MAX.get() {
            return Err(no_space);
        }
        Ok(Place { start, file_pages: (last + 1).max(last / bits * bits + HEAD_PAGES) })
    }

    fn start_behind(&self, count: u64) -> u64 {
        let mut start = self.high_water;
        let in_the_way = |start| (start..start + count).rev().find(|id| is_own(*id, self.size));
        while let Some(own) = in_the_way(start) {
            start = own + 1;
        }
        start
    }

    /// Takes what [`State::find`] found, under the same lock.
    pub(super) fn take(&mut self, start: u64, count: u64) {
        let end = start + count;
        if start >= self.high_water {
            for id in (self.high_water..start).filter(|id| !is_own(*id, self.size)) {
                self.free.give(id, 1).expect("past the high water nothing is free");
            }
            self.high_water = end;
        } else {
            self.free.take(start, count).expect("what was found under this lock is free");
        }
        while (self.regions.len() as u64) * region_bits(self.size) < end {
            let (region, bits) = (self.regions.len(), region_bits(self.size) as usize / 64);
            let now = empty_map(region, self.size);
            self.regions.push(Region { now, durable: vec![0; bits], pending: None });
            self.changed.insert(region);
        }
        (start..end).for_each(|id| self.turn(id, true));
    }

    /// Gives ids back: all or none. `InvalidPageId` for one of the allocator's own, `AllocationState` for one that is free.
    pub(super) fn give(&mut self, start: u64, count: u64) -> PageResult<()> {
        let end = start.checked_add(count).ok_or(PageError::InvalidPageId { page_id: PageId::new(start) })?;
        for id in start..end {
            let page_id = PageId::new(id);
            if is_own(id, self.size) || page_id > PageId::MAX {
                return Err(PageError::InvalidPageId { page_id });
            }
            if !self.is_in_use(id) {
                return Err(PageError::AllocationState { page_id, state: "free" });
            }
        }
        for id in start..end {
            self.turn(id, false);
            let (region, at) = self.place_of(id);
            let region = &self.regions[region];
            let known = bit(&region.durable, at) || region.pending.as_ref().is_some_and(|bits| bit(bits, at));
            let set = if known { &mut self.held } else { &mut self.free };
            set.give(id, 1).expect("an id in use is in no set");
        }
        Ok(())
    }

    /// Begins a commit; none if nothing has changed.
    pub(super) fn begin(&mut self) -> Option<Commit> {
        if self.changed.is_empty() {
            return None;
        }
        let mut root = self.root.clone();
        root.generation += 1;
        let mut maps = Vec::new();
        for index in mem::take(&mut self.changed) {
            let region = &mut self.regions[index];
            let slot = root.slots.get(index).map_or(0, |slot| 1 - slot);
            if index < root.slots.len() {
                root.slots[index] = slot;
            } else {
                root.slots.push(slot); // new regions are all changed and come in order
            }
            region.pending = Some(region.now.clone());
            maps.push((index, slot, region.now.clone()));
        }
        self.settling = mem::take(&mut self.held);
        Some(Commit { root, maps })
    }

    /// The commit is durable: what was held is free.
    pub(super) fn commit(&mut self, commit: Commit) {
        self.root = commit.root;
        for (index, _, _) in commit.maps {
            let region = &mut self.regions[index];
            region.durable = region.pending.take().expect("the commit began with it");
        }
        while let Some((start, len)) = self.settling.take_lowest(u64::MAX) {
            self.free.give(start, len).expect("a settling id is in no other set");
        }
        self.lower_high_water();
    }

    /// The commit was not begun on the disk, or only where nothing counts.
    pub(super) fn abort(&mut self, commit: Commit) {
        for (index, _, _) in commit.maps {
            self.regions[index].pending = None;
            self.changed.insert(index);
        }
        while let Some((start, len)) = self.settling.take_lowest(u64::MAX) {
            self.held.give(start, len).expect("a settling id is in no other set");
        }
    }

    /// Free ids at the end are ids that nobody has had.
    fn lower_high_water(&mut self) {
        loop {
            match self.free.last() {
                Some((start, len)) if start + len == self.high_water => {
                    self.free.take(start, len).expect("the last extent is in the set");
                    self.high_water = start;
                }
                _ if self.high_water > 1 && is_own(self.high_water - 1, self.size) => self.high_water -= 1,
                _ => return,
            }
        }
    }

    fn place_of(&self, id: u64) -> (usize, usize) {
        let bits = region_bits(self.size);
        ((id / bits) as usize, (id % bits) as usize)
    }

    fn turn(&mut self, id: u64, in_use: bool) {
        let (region, at) = self.place_of(id);
        let word = &mut self.regions[region].now[at / 64];
        *word = *word & !(1 << (at % 64)) | u64::from(in_use) << (at % 64);
        self.changed.insert(region);
    }
}

fn bit(bits: &[u64], at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PageSize = pagestone_page_format::DEFAULT_PAGE_SIZE;

    fn allocate(state: &mut State) -> u64 {
        let place = state.find(1).expect("there is room");
        state.take(place.start, 1);
        place.start
    }

    fn commit(state: &mut State) {
        let commit = state.begin().expect("something changed");
        state.commit(commit);
    }

    #[test]
    fn an_id_that_a_commit_under_way_will_make_known_is_held() {
        let mut state = State::new(SIZE, Root { generation: 1, slots: Vec::new() }, Vec::new(), u64::MAX);
        let first = allocate(&mut state);
        let begun = state.begin().expect("something changed");
        state.give(first, 1).expect("it is in use");
        assert_ne!(allocate(&mut state), first, "the disk may know its owner by now");
        state.commit(begun);
        assert_ne!(allocate(&mut state), first, "the disk knows its owner");
        commit(&mut state);
        assert_eq!(allocate(&mut state), first);
    }

    #[test]
    fn a_commit_that_failed_frees_nothing_and_is_made_again() {
        let mut state = State::new(SIZE, Root { generation: 1, slots: Vec::new() }, Vec::new(), u64::MAX);
        let ids = [allocate(&mut state), allocate(&mut state)];
        commit(&mut state);
        state.give(ids[0], 1).expect("it is in use");
        let failed = state.begin().expect("something changed");
        let (generation, slot) = (failed.root.generation, failed.maps[0].1);
        assert_ne!(allocate(&mut state), ids[0]);
        state.abort(failed);
        assert_ne!(allocate(&mut state), ids[0], "the disk knows its owner");
        let again = state.begin().expect("it is still to be made");
        assert_eq!((again.root.generation, again.maps[0].1), (generation, slot));
        state.commit(again);
        assert_eq!(allocate(&mut state), ids[0]);
        assert_eq!(state.free_count(), 0);
    }
}
