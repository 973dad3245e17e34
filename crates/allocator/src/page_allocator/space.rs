//! Free ids that are in no cache, and where the file ends.
//!
//! Invariant: below `end` an id is the allocator's own, in some region that is not known yet, or free, leased, held or somebody's; from
//! `end` on nobody has one. What is free here does not reach to `end`: it is given up, so that the tail of the file is as short as it can be.
//!
//! ```text
//!   ids    own │ in use │ free │ in use │ free, leased │ in use │ end …                              room
//!                         └── extents ──┘                         └── nobody's, and the file has them ┘
//! ```

use pagestone_sync::Arc;

use super::layout::{HEAD_PAGES, Layout};
use super::lease::Lease;
use super::region::{Region, Regions};
use crate::bit_runs::runs;
use crate::extents::Extents;

/// What a request must have before it can be served; then it is made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// This region's map.
    Load(u64),
    /// The map of another region with free ids, if there is one.
    Look,
    /// A file of so many pages.
    Grow(u64),
    /// Ids that no file can have.
    NoSpace,
}

#[derive(Debug)]
pub(super) struct Space {
    layout: Layout,
    free: Extents,
    end: u64,
    /// Regions that have a map, or will with the next commit.
    pub(super) regions: u64,
    /// Pages that the file is known to have.
    pub(super) room: u64,
    /// All regions with free ids are known.
    pub(super) looked: bool,
    /// Regions that were made since the last commit began.
    pub(super) changed: Vec<Arc<Region>>,
}

impl Space {
    /// Of a file of which nothing is known but how far it reaches.
    pub(super) fn new(layout: Layout, regions: u64, end: u64, room: u64) -> Self {
        Self { layout, free: Extents::new(), end, regions, room, looked: false, changed: Vec::new() }
    }

    /// Free ids of one word: the lowest that are known, or behind everything.
    pub(super) fn lease(&mut self, regions: &Regions) -> Result<Lease, Need> {
        if let Some((start, _)) = self.free.first() {
            let first = start - start % 64;
            let mut free = 0;
            loop {
                let run = self.free.within(first..first + 64).next();
                let Some((start, len)) = run else { break };
                self.free.take(start, len).expect("what was found under this lock is free");
                free |= mask((start, len), first);
            }
            return Ok(self.leased(regions, first, free));
        }
        if !self.looked {
            return Err(Need::Look);
        }
        let start = (self.end..).find(|id| !self.layout.is_own(*id)).ok_or(Need::NoSpace)?;
        self.prepare(regions, start, 1)?;
        let first = start - start % 64;
        // As far as the file reaches: it does not grow for ids that nobody has asked for.
        let end = (first + 64).min(self.room).min(self.layout.end());
        let own = if first.is_multiple_of(self.layout.bits) {
            self.layout.own_bits(start / self.layout.bits)
        } else {
            0
        };
        let free = mask((start, end - start), first) & !own;
        self.end = first + 64 - u64::from(free.leading_zeros());
        Ok(self.leased(regions, first, free))
    }

    fn leased(&self, regions: &Regions, first: u64, free: u64) -> Lease {
        let region = regions.get(first / self.layout.bits).expect("ids of known regions alone are free");
        Lease::new(Arc::clone(region), (first % self.layout.bits / 64) as usize, first, free)
    }

    /// Takes `count` ids in a row: the lowest that are known, or behind everything. `look`: rather ask for another region's map.
    pub(super) fn take_run(&mut self, regions: &Regions, count: u64, look: bool) -> Result<u64, Need> {
        if count == 0 || count + 2 > self.layout.bits {
            return Err(Need::NoSpace); // the map slots stand in between
        }
        if let Some(start) = self.free.lowest_run(count) {
            self.free.take(start, count).expect("what was found under this lock is free");
            return Ok(start);
        }
        if look && !self.looked {
            return Err(Need::Look);
        }
        let mut start = self.end;
        while let Some(own) = self.layout.last_own(start, count) {
            start = own + 1;
        }
        self.prepare(regions, start, count)?;
        let before = std::mem::replace(&mut self.end, start + count);
        for id in (before..start).filter(|id| !self.layout.is_own(*id)) {
            self.free.give(id, 1).expect("behind the end nothing is free");
        }
        Ok(start)
    }

    /// What ids behind the end take: known regions, a file so long. Makes the regions that have no map.
    fn prepare(&mut self, regions: &Regions, start: u64, count: u64) -> Result<(), Need> {
        let bits = self.layout.bits;
        let end = start.checked_add(count).filter(|end| *end <= self.layout.end()).ok_or(Need::NoSpace)?;
        let last = (end - 1) / bits;
        let pages = end.max(last * bits + HEAD_PAGES);
        if pages > self.room {
            return Err(Need::Grow(pages));
        }
        let unknown =
            (start / bits..self.regions.min(last + 1)).find(|region| regions.get(*region).is_none());
        if let Some(region) = unknown {
            return Err(Need::Load(region));
        }
        while self.regions <= last {
            let mut words = vec![0; (bits / 64) as usize];
            words[0] = self.layout.own_bits(self.regions);
            let region = Arc::new(Region::new(self.regions, &words));
            region.change();
            self.changed.push(Arc::clone(&region));
            regions.add(region);
            self.regions += 1;
        }
        Ok(())
    }

    /// Takes in ids that nobody has.
    pub(super) fn give(&mut self, start: u64, len: u64) {
        self.free.give(start, len).expect("A2: an id that becomes free is free already");
        loop {
            match self.free.last() {
                Some((start, len)) if start + len == self.end => {
                    self.free.take(start, len).expect("the last extent is in the set");
                    self.end = start;
                }
                _ if self.end > 1 && self.layout.is_own(self.end - 1) => self.end -= 1,
                _ => return,
            }
        }
    }

    /// Takes in the map of a region that is known from now on.
    pub(super) fn take_in(&mut self, region: u64, in_use: &[u64]) {
        let first = region * self.layout.bits;
        for (start, len) in runs(in_use.iter().map(|word| !word)) {
            let (start, end) = (first + start, (first + start + len).min(self.end));
            if start < end {
                self.give(start, end - start);
            }
        }
    }

    /// One past the highest id that is neither the allocator's own, nor free here, nor free as `others` says: how many ids below this one,
    /// at most to the next multiple of 64, are.
    pub(super) fn high_water(&self, others: impl Fn(u64) -> u64) -> u64 {
        let mut high = self.end;
        while high > 1 {
            match (self.free.around(high - 1), others(high)) {
                (Some((start, _)), _) => high = start,
                (None, 0) if self.layout.is_own(high - 1) => high -= 1,
                (None, 0) => break,
                (None, free) => high -= free,
            }
        }
        high
    }
}

/// The bits of a run in the word of 64 ids from `first` on.
fn mask((start, len): (u64, u64), first: u64) -> u64 {
    (u64::MAX >> (64 - len)) << (start - first)
}
