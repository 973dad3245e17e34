//! Iterators over what is allocated.
//!
//! Invariant: an iterator borrows its pager, so nothing is allocated or freed while it is alive; the two kinds have no page in common, and
//! no reserved one.

use crate::directory::id_of;
use crate::dyn_pager::{DynPageId, DynPager};
use crate::layout::{MAP_WORDS, REGION_PAGES, RESERVED};
use crate::protected::DynProtectedPageId;
use crate::{PageId, ProtectedPageId};

/// The pages of a [`DynPager`] that are allocated and not protected, by ascending id.
#[derive(Clone, Debug)]
pub struct DynAllocatedPageIter<'a> {
    pager: &'a DynPager,
    /// The next word to look at, over all regions.
    word: usize,
    /// Pages of the word before that are still to be given, and the index of its first.
    bits: u64,
    first: u64,
}

impl<'a> DynAllocatedPageIter<'a> {
    pub(crate) fn new(pager: &'a DynPager) -> Self {
        Self { pager, word: 0, bits: 0, first: 0 }
    }
}

impl Iterator for DynAllocatedPageIter<'_> {
    type Item = DynPageId;

    fn next(&mut self) -> Option<DynPageId> {
        while self.bits == 0 {
            let (region, word) = (self.word / MAP_WORDS, self.word % MAP_WORDS);
            let words = self.pager.words();
            if region >= words.regions() {
                return None;
            }
            if !words.has_map(region) {
                self.word = (region + 1) * MAP_WORDS;
                continue;
            }
            self.bits = words.map(region, word) & !self.pager.space.copies(region, word);
            self.first = region as u64 * REGION_PAGES + word as u64 * 64;
            self.word += 1;
        }
        let bit = u64::from(self.bits.trailing_zeros());
        self.bits &= self.bits - 1;
        Some(DynPageId(RESERVED + self.first + bit))
    }
}

/// The protected pages of a [`DynPager`], by ascending id.
#[derive(Clone, Debug)]
pub struct DynAllocatedProtectedPageIter<'a> {
    pager: &'a DynPager,
    region: usize,
    entry: usize,
}

impl<'a> DynAllocatedProtectedPageIter<'a> {
    pub(crate) fn new(pager: &'a DynPager) -> Self {
        Self { pager, region: 0, entry: 0 }
    }
}

impl Iterator for DynAllocatedProtectedPageIter<'_> {
    type Item = DynProtectedPageId;

    fn next(&mut self) -> Option<DynProtectedPageId> {
        let words = self.pager.words();
        while self.region < words.regions() {
            while self.entry < words.entries(self.region) {
                let entry = self.entry;
                self.entry += 1;
                if words.entry(self.region, entry) != [0; 2] {
                    return Some(DynProtectedPageId(id_of(self.region, entry)));
                }
            }
            (self.region, self.entry) = (self.region + 1, 0);
        }
        None
    }
}

/// The pages of a [`crate::Pager`] that are allocated and not protected, by ascending id.
#[derive(Clone, Debug)]
pub struct AllocatedPageIter<'a, const PAGE_SIZE: usize>(pub(crate) DynAllocatedPageIter<'a>);

impl<const PAGE_SIZE: usize> Iterator for AllocatedPageIter<'_, PAGE_SIZE> {
    type Item = PageId<PAGE_SIZE>;

    fn next(&mut self) -> Option<PageId<PAGE_SIZE>> {
        self.0.next().map(|id| PageId(id.0))
    }
}

/// The protected pages of a [`crate::Pager`], by ascending id.
#[derive(Clone, Debug)]
pub struct AllocatedProtectedPageIter<'a, const PAGE_SIZE: usize>(
    pub(crate) DynAllocatedProtectedPageIter<'a>,
);

impl<const PAGE_SIZE: usize> Iterator for AllocatedProtectedPageIter<'_, PAGE_SIZE> {
    type Item = ProtectedPageId<PAGE_SIZE>;

    fn next(&mut self) -> Option<ProtectedPageId<PAGE_SIZE>> {
        self.0.next().map(|id| ProtectedPageId(id.0))
    }
}
