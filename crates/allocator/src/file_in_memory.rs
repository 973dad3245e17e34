//! Small regions and a file in memory, for tests.

use std::collections::BTreeSet;

use pagestone_page_format::{DEFAULT_PAGE_SIZE, PageError, PageId, PageResult};
use pagestone_sync::Mutex;

use crate::{LoggedAllocator, MapSource, RegionBits, Release, Reservation, SetBits};

/// Ids of a region in these tests.
pub(crate) const BITS: u64 = 64;

/// A file whose map pages are one word each.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) state: Mutex<FileState>,
}

#[derive(Clone, Debug)]
pub(crate) struct FileState {
    pub(crate) maps: Vec<u64>,
    pub(crate) pages: u64,
    /// The disk is full at so many pages.
    pub(crate) limit: u64,
    pub(crate) loads: u64,
}

impl File {
    pub(crate) fn new(limit: u64) -> Self {
        Self { state: Mutex::new(FileState { maps: vec![], pages: 0, limit, loads: 0 }) }
    }

    /// With regions that are all in use but for these ids.
    pub(crate) fn full(regions: usize, free: &[u64]) -> Self {
        let file = Self::new(u64::MAX);
        let mut state = file.state.lock();
        state.maps = vec![u64::MAX; regions];
        state.pages = regions as u64 * BITS;
        for id in free {
            state.maps[(id / BITS) as usize] &= !(1 << (id % BITS));
        }
        drop(state);
        file
    }

    pub(crate) fn allocator(&self) -> LoggedAllocator {
        LoggedAllocator::with_region_bits(BITS, DEFAULT_PAGE_SIZE, PageId::MAX)
    }

    pub(crate) fn apply(&self, reservation: &Reservation<'_>) {
        self.set(reservation.set_bits());
    }

    pub(crate) fn set(&self, changes: impl Iterator<Item = (PageId, SetBits)>) {
        let mut state = self.state.lock();
        for (page, set) in changes {
            for id in set.first.get()..set.first.get() + u64::from(set.count) {
                assert_eq!(page.get(), id / BITS * BITS, "each change goes to the map page of its ids");
                let word = &mut state.maps[(id / BITS) as usize];
                assert_eq!(*word >> (id % BITS) & 1, 0, "id {id} has two owners");
                *word |= 1 << (id % BITS);
            }
        }
    }

    pub(crate) fn apply_release(&self, release: &Release<'_>) {
        let mut state = self.state.lock();
        for (page, clear) in release.clear_bits() {
            for id in clear.first.get()..clear.first.get() + u64::from(clear.count) {
                assert_eq!(page.get(), id / BITS * BITS, "each change goes to the map page of its ids");
                let word = &mut state.maps[(id / BITS) as usize];
                assert_eq!(*word >> (id % BITS) & 1, 1, "id {id} is freed twice");
                *word &= !(1 << (id % BITS));
            }
        }
    }

    pub(crate) fn in_use(&self) -> BTreeSet<u64> {
        let state = self.state.lock();
        let ids = (0..state.maps.len() as u64 * BITS)
            .filter(|id| state.maps[(id / BITS) as usize] >> (id % BITS) & 1 == 1);
        ids.filter(|id| id % BITS != 0).collect()
    }

    pub(crate) fn loads(&self) -> u64 {
        self.state.lock().loads
    }
}

impl MapSource for File {
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
        let mut state = self.state.lock();
        state.loads += 1;
        let regions = (region == 0).then_some(state.maps.len() as u64);
        let word = state.maps.get(region as usize).copied();
        Ok(word.map(|word| RegionBits::of_words(region, regions, vec![word])))
    }

    fn format_region(&self, region: u64) -> PageResult<()> {
        let mut state = self.state.lock();
        assert_eq!(region, state.maps.len() as u64, "regions are formatted in order, once");
        assert!(state.pages > region * BITS, "there is room for the map page");
        state.maps.push(1);
        Ok(())
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        let mut state = self.state.lock();
        if pages > state.limit {
            return Err(PageError::NoSpace { needed: pages });
        }
        state.pages = state.pages.max(pages);
        Ok(())
    }

    fn file_pages(&self) -> PageResult<u64> {
        Ok(self.state.lock().pages)
    }
}
