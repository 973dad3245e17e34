//! A private copy of one map page's bits: what is loaded, and what verification walks over.

use pagestone_page_format::{PageId, PageResult, SpeculativePage};

use crate::bit_runs::{masks, runs};
use crate::space_map::{BITS_AT, MapHeader, malformed};

/// Which ids of a region are in use, as of one instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionBits {
    region: u64,
    regions: Option<u64>,
    words: Vec<u64>,
}

impl RegionBits {
    /// Copies and checks a map page.
    ///
    /// Over bytes that a writer may be changing, neither the copy nor an error means anything until the latch that the
    /// page was read under has been validated (P1). Errors: `Malformed`.
    pub fn decode(page: SpeculativePage<'_>) -> PageResult<Self> {
        let map = MapHeader::read(page)?;
        let words = (BITS_AT..page.len() / 8).map(|index| page.word(index)).collect::<Result<Vec<_>, _>>();
        let words = words.map_err(|error| error.malformed(map.first))?;
        if words.first().is_none_or(|word| word & 1 == 0) {
            return Err(malformed(map.first, "a map page that does not count itself"));
        }
        Ok(Self { region: map.region, regions: map.regions, words })
    }

    /// The region.
    pub fn region(&self) -> u64 {
        self.region
    }

    /// How many regions are formatted; only region 0 knows.
    pub fn regions(&self) -> Option<u64> {
        self.regions
    }

    /// Whether an id is in use. `None` for an id of another region.
    pub fn is_allocated(&self, id: PageId) -> Option<bool> {
        let bit = id.get().checked_sub(self.first())?;
        let word = self.words.get(usize::try_from(bit / 64).ok()?)?;
        Some(word >> (bit % 64) & 1 == 1)
    }

    /// The bits of an id, in the lowest, and of the 63 behind it, whose number in its region is a multiple of 64: set for those
    /// in use. 0 for ids of another region.
    pub fn word_at(&self, id: PageId) -> u64 {
        let word = id.get().checked_sub(self.first()).and_then(|bit| usize::try_from(bit / 64).ok());
        word.and_then(|word| self.words.get(word)).copied().unwrap_or(0)
    }

    /// The runs of free ids, lowest first: where each starts and how long it is.
    pub fn free_runs(&self) -> impl Iterator<Item = (PageId, u64)> {
        let free = runs(self.words.iter().map(|word| !word));
        free.map(|(start, len)| (PageId::new(self.first() + start), len))
    }

    /// Marks ids of this region, whatever they were.
    pub(crate) fn mark(&mut self, start: u64, len: u64, in_use: bool) {
        if len == 0 {
            return;
        }
        for (word, mask) in masks(start - self.first(), len) {
            match in_use {
                true => self.words[word] |= mask,
                false => self.words[word] &= !mask,
            }
        }
    }

    pub(crate) fn bits(&self) -> u64 {
        self.words.len() as u64 * 64
    }

    fn first(&self) -> u64 {
        self.region * self.bits()
    }

    #[cfg(test)]
    pub(crate) fn of_words(region: u64, regions: Option<u64>, words: Vec<u64>) -> Self {
        Self { region, regions, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn free_runs_are_the_clear_bits(words in proptest::collection::vec(
            prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 1..6), region in 0u64..3)
        {
            let bits = RegionBits::of_words(region, None, words);
            let first = region * bits.bits();
            let mut free = vec![];
            let mut end = None;
            for (start, len) in bits.free_runs() {
                prop_assert!(len > 0 && end.is_none_or(|end| end < start.get()), "runs are whole");
                end = Some(start.get() + len);
                free.extend(start.get()..start.get() + len);
            }
            let clear: Vec<u64> = (first..first + bits.bits())
                .filter(|id| bits.is_allocated(PageId::new(*id)) == Some(false))
                .collect();
            prop_assert_eq!(free, clear);
            prop_assert_eq!(bits.is_allocated(PageId::new(first + bits.bits())), None);
            for id in first..first + bits.bits() {
                let word = bits.word_at(PageId::new(id / 64 * 64));
                prop_assert_eq!(Some(word >> (id % 64) & 1 == 1), bits.is_allocated(PageId::new(id)));
            }
            prop_assert_eq!(bits.word_at(PageId::new(first + bits.bits())), 0);
        }
    }
}
