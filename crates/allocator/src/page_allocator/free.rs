//! Ids taken back.
//!
//! Invariant: of all who free one id, one succeeds: who turned its bit, in the lease that has it out or in its region. Where the id goes
//! from its region is a matter of whether the disk knows it as in use: then nowhere, until a commit finds it (A2).

use pagestone_page_format::{PageError, PageId, PageResult};
use pagestone_sync::Arc;
use pagestone_sync::faults::planted;

use super::PageAllocator;
use super::cache::Cache;
use super::region::Region;
use crate::bit_runs::runs;

impl PageAllocator {
    /// Takes an id back. It is given out again after the next [`PageAllocator::sync`], or at once if none has seen it allocated.
    ///
    /// Errors, with nothing changed: `AllocationState` for an id that is free (a double free), `InvalidPageId` for one of the
    /// allocator's own and one that no file has; whatever the store gives if the map of the id was never read.
    pub fn free(&self, id: PageId) -> PageResult<()> {
        self.poison.check()?;
        let mut cache = self.caches.own();
        if cache.take_back(id.get()) {
            return Ok(());
        }
        let region = self.regions.get(id.get() / self.layout.bits);
        match region.filter(|_| !self.layout.is_own(id.get())) {
            Some(region) if self.free_in(region, id.get(), &mut cache) => return Ok(()),
            _ => drop(cache), // there may be a map to read, or another cache to lock
        }
        self.free_elsewhere(id)
    }

    /// An id that was not in a lease of this thread's cache, nor in its region as far as that was known.
    #[cold]
    fn free_elsewhere(&self, id: PageId) -> PageResult<()> {
        let free = PageError::AllocationState { page_id: id, state: "free" };
        let Some(region) = self.region_of(id)? else { return Err(free) };
        if !planted("who frees an id does not ask the leases") {
            self.caches.settle_word(id.get());
        }
        match self.free_in(region, id.get(), &mut self.caches.own()) {
            true => Ok(()),
            false => Err(free),
        }
    }

    /// False if the region does not say that the id is in use.
    fn free_in(&self, region: &Arc<Region>, id: u64, cache: &mut Cache) -> bool {
        let at = id % self.layout.bits;
        let (word, bit) = ((at / 64) as usize, at % 64);
        let was_free = region.in_use.clear(word, 1 << bit) != 0;
        if was_free && !planted("who frees does not look at what the bit was") {
            return false;
        }
        cache.changed(region, -1);
        let known = region.known.get(word) >> bit & 1 == 1;
        if known && !planted("a freed id is given out though the disk knows its owner") {
            return true; // held
        }
        if cache.give(id) {
            cache.flush(&mut self.space.lock());
        }
        true
    }

    /// Takes `count` ids from `first` on back, all or none, however they were allocated; otherwise as [`PageAllocator::free`].
    pub fn free_extent(&self, first: PageId, count: u32) -> PageResult<()> {
        match count {
            0 => return Ok(()),
            1 => return self.free(first),
            _ => self.poison.check()?,
        }
        let (start, count) = (first.get(), u64::from(count));
        let free = |id: u64| PageError::AllocationState { page_id: PageId::new(id), state: "free" };
        if start.checked_add(count).is_none_or(|end| end > self.layout.end()) {
            return Err(PageError::InvalidPageId { page_id: first });
        }
        if let Some(own) = self.layout.last_own(start, count) {
            return Err(PageError::InvalidPageId { page_id: PageId::new(own) });
        }
        let mapped = self.space.lock().regions * self.layout.bits;
        if start + count > mapped {
            return Err(free(start.max(mapped)));
        }
        for region in start / self.layout.bits..(start + count).div_ceil(self.layout.bits) {
            self.known(region)?;
        }
        let mut cache = self.caches.own();
        if self.clear(start, count).is_err() {
            drop(cache);
            if !planted("who frees a run does not ask the leases") {
                (start - start % 64..start + count).step_by(64).for_each(|id| self.caches.settle_word(id));
            }
            cache = self.caches.own();
            self.clear(start, count).map_err(free)?;
        }
        let mut space = self.space.lock();
        for (region, word, mask) in self.words(start, count) {
            let region = self.region_at(region);
            cache.changed(region, -i64::from(mask.count_ones()));
            let first = region.number * self.layout.bits + word as u64 * 64;
            for (start, len) in runs([mask & !region.known.get(word)].into_iter()) {
                space.give(first + start, len);
            }
        }
        Ok(())
    }

    /// Turns the bits of ids that are in use, all or none; else gives the first that is not. Nobody has them then, and nobody gets them
    /// yet. They are looked at before the first is turned: a run with a free id is nobody's to free, so its other ids stay as they are
    /// meanwhile, for their owners. Of two calls that free the same id at the same time one at least finds that.
    fn clear(&self, start: u64, count: u64) -> Result<(), u64> {
        let missing = |region: u64, word: usize, missing: u64| {
            region * self.layout.bits + word as u64 * 64 + u64::from(missing.trailing_zeros())
        };
        for (region, word, mask) in self.words(start, count) {
            let free = mask & !self.region_at(region).in_use.get(word);
            if free != 0 && !planted("who frees a run turns bits before it has looked at all") {
                return Err(missing(region, word, free));
            }
        }
        for (region, word, mask) in self.words(start, count) {
            let own = self.region_at(region);
            let free = own.in_use.clear(word, mask);
            if free != 0 {
                own.in_use.set(word, mask & !free);
                let cleared = self.words(start, count).take_while(|(r, w, _)| (*r, *w) != (region, word));
                for (region, word, mask) in cleared {
                    self.region_at(region).in_use.set(word, mask);
                }
                return Err(missing(region, word, free));
            }
        }
        Ok(())
    }
}
