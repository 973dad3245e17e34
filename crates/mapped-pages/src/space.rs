//! Which pages are free, found without a look at the whole file.
//!
//! Invariant: it says what the words say; it is made of them at opening and follows each commit.
//!
//! ```text
//!   regions with a free page ──► lowest ──► its map, 256 words ──► lowest bit
//!   regions with two free granules ──► lowest ──► two of them: the copies of a protected page
//! ```
//!
//! So a search costs a look at one region, however many there are.

use std::collections::BTreeSet;

use crate::directory::{Entry, id_of};
use crate::layout::{Address, Layout, MAP_WORDS, REGION_PAGES, pages_in};
use crate::words::{Change, Words};
use crate::{MappedPageError, MappedResult};

/// What is free in a region.
#[derive(Clone, Debug)]
struct Region {
    pages: u64,
    granules: u64,
    /// The pages of copies of protected pages. None: there are none.
    copies: Option<Box<[u64; MAP_WORDS]>>,
    /// Entries of the directory that were in use and are free.
    entries: BTreeSet<usize>,
}

/// What is free in a file.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    layout: Layout,
    regions: Vec<Region>,
    with_page: BTreeSet<usize>,
    with_pair: BTreeSet<usize>,
    free: u64,
}

/// The bits of a word that stand for pages that are there.
fn there(word: usize, pages: u64) -> u64 {
    match pages.saturating_sub(word as u64 * 64) {
        0 => 0,
        64.. => u64::MAX,
        bits => (1 << bits) - 1,
    }
}

/// The lowest bit of each free granule of so many pages, of the free bits of a word.
fn granules_of(free: u64, granule: u64) -> u64 {
    match granule {
        1 => free,
        2 => free & free >> 1 & 0x5555_5555_5555_5555,
        _ => {
            let pairs = free & free >> 1;
            pairs & pairs >> 2 & 0x1111_1111_1111_1111
        }
    }
}

impl Space {
    /// Of what the words of a file say, and whether that can be.
    pub(crate) fn of(layout: Layout, words: &Words, pages: u64) -> MappedResult<Self> {
        let mut space = Self {
            layout,
            regions: Vec::new(),
            with_page: BTreeSet::new(),
            with_pair: BTreeSet::new(),
            free: 0,
        };
        space.resize(words, pages);
        for region in 0..words.regions() {
            let here = pages_in(region, pages);
            let past = |word: usize| words.map(region, word) & !there(word, here) != 0;
            if words.has_map(region) && (0..MAP_WORDS).any(past) {
                return Err(MappedPageError::metadata(format!(
                    "region {region} has pages in use past its end"
                )));
            }
            for entry in 0..words.entries(region) {
                let wrong = |reason| MappedPageError::CorruptProtectedDirectory {
                    page: id_of(region, entry),
                    reason,
                };
                match Entry::decode(words.entry(region, entry)).map_err(wrong)? {
                    Some(found) => space.take_copies(words, region, &found).map_err(wrong)?,
                    None => drop(space.regions[region].entries.insert(entry)),
                }
            }
        }
        Ok(space)
    }

    /// Takes in the copies of an entry that was read.
    fn take_copies(&mut self, words: &Words, region: usize, entry: &Entry) -> Result<(), &'static str> {
        let granule = self.layout.granule();
        for copy in entry.copies {
            if copy % granule != 0 {
                return Err("a copy that begins within a block");
            }
            let (word, mask) = self.mask(copy);
            if words.map(region, word) & mask != mask {
                return Err("a copy that is not in use");
            }
            if self.copies(region, word) & mask != 0 {
                return Err("a copy that is another's as well");
            }
            self.set_copy(region, copy, true);
        }
        Ok(())
    }

    /// The word of a granule's bits, and these.
    fn mask(&self, copy: u64) -> (usize, u64) {
        ((copy / 64) as usize, ((1 << self.layout.granule()) - 1) << (copy % 64))
    }

    /// Which pages of a word of a region's map are copies of protected pages.
    #[inline]
    pub(crate) fn copies(&self, region: usize, word: usize) -> u64 {
        self.regions[region].copies.as_ref().map_or(0, |copies| copies[word])
    }

    /// Says that the granule at this place is, or is not, a copy of a protected page.
    pub(crate) fn set_copy(&mut self, region: usize, copy: u64, is_copy: bool) {
        let (word, mask) = self.mask(copy);
        let copies = self.regions[region].copies.get_or_insert_with(|| Box::new([0; MAP_WORDS]));
        if is_copy {
            copies[word] |= mask;
        } else {
            copies[word] &= !mask;
        }
    }

    /// Says that an entry that was in use is free, or is no longer.
    pub(crate) fn set_entry_free(&mut self, region: usize, entry: usize, is_free: bool) {
        let entries = &mut self.regions[region].entries;
        if is_free {
            entries.insert(entry)
        } else {
            entries.remove(&entry)
        };
    }

    /// Free pages of the file.
    pub(crate) fn free_pages(&self) -> u64 {
        self.free
    }

    /// Follows a file to another length.
    pub(crate) fn resize(&mut self, words: &Words, pages: u64) {
        let before = self.regions.len();
        let after = words.regions();
        for region in after..before {
            self.free -= self.regions[region].pages;
            self.with_page.remove(&region);
            self.with_pair.remove(&region);
        }
        let empty = Region { pages: 0, granules: 0, copies: None, entries: BTreeSet::new() };
        self.regions.resize(after, empty);
        let first = before.min(after).saturating_sub(1); // the last one may have changed, and what is new
        (first..after).for_each(|region| self.count(region, words, pages));
    }

    /// Counts what is free in a region again.
    pub(crate) fn count(&mut self, region: usize, words: &Words, pages: u64) {
        let (here, granule) = (pages_in(region, pages), self.layout.granule());
        let (mut free, mut granules) = (here, here / granule);
        if words.has_map(region) {
            let bits = |word: usize| !words.map(region, word) & there(word, here);
            free = (0..MAP_WORDS).map(|word| u64::from(bits(word).count_ones())).sum();
            let of = |word: usize| u64::from(granules_of(bits(word), granule).count_ones());
            granules = (0..MAP_WORDS).map(of).sum();
        }
        let entry = &mut self.regions[region];
        self.free = self.free - entry.pages + free;
        (entry.pages, entry.granules) = (free, granules);
        let mark = |regions: &mut BTreeSet<usize>, has: bool| {
            if has {
                regions.insert(region)
            } else {
                regions.remove(&region)
            };
        };
        mark(&mut self.with_page, free > 0);
        mark(&mut self.with_pair, granules > 1);
    }

    /// Finds `count` pages that are free, the lowest, and has the change use them; gives their indices. Fewer if there are no more.
    pub(crate) fn find_pages(
        &self,
        words: &Words,
        change: &mut Change,
        pages: u64,
        count: usize,
    ) -> Vec<u64> {
        let mut found = Vec::with_capacity(count.min(1 << 20));
        for &region in &self.with_page {
            let here = pages_in(region, pages);
            for word in 0..MAP_WORDS {
                if found.len() == count {
                    return found;
                }
                let address = Address::map(region, word);
                let used = change.get(words, address);
                let (mut free, mut taken) = (!used & there(word, here), used);
                while free != 0 && found.len() < count {
                    let bit = free.trailing_zeros();
                    (free, taken) = (free & (free - 1), taken | 1 << bit);
                    found.push(region as u64 * REGION_PAGES + word as u64 * 64 + u64::from(bit));
                }
                if taken != used {
                    change.set(address, taken);
                }
            }
        }
        found
    }

    /// Finds two granules that are free, of one region, and an entry in its directory, and has the change use them. `None` if there are
    /// none; then nothing is changed. Looks from this region and this entry on, and says from where to look next.
    pub(crate) fn find_pair(
        &self,
        words: &Words,
        change: &mut Change,
        pages: u64,
        from: &mut (usize, usize),
    ) -> Option<(usize, usize, Entry)> {
        for &region in self.with_pair.range(from.0..) {
            if from.0 != region {
                *from = (region, 0);
            }
            let Some(copies) = self.two_granules(region, words, change, pages) else { continue };
            for copy in copies {
                let (word, mask) = self.mask(copy);
                let address = Address::map(region, word);
                change.set(address, change.get(words, address) | mask);
            }
            let entry = Entry { copies, active: 0, checksum: None };
            let number = self.find_entry(region, words, change, from.1);
            from.1 = number;
            for (word, value) in entry.encode().into_iter().enumerate() {
                change.set(Address::entry(region, number, word), value);
            }
            return Some((region, number, entry));
        }
        None
    }

    fn two_granules(&self, region: usize, words: &Words, change: &Change, pages: u64) -> Option<[u64; 2]> {
        let here = pages_in(region, pages);
        let mut first = None;
        for word in 0..MAP_WORDS {
            let free = !change.get(words, Address::map(region, word)) & there(word, here);
            let mut granules = granules_of(free, self.layout.granule());
            while granules != 0 {
                let place = word as u64 * 64 + u64::from(granules.trailing_zeros());
                granules &= granules - 1;
                match first {
                    None => first = Some(place),
                    Some(first) => return Some([first, place]),
                }
            }
        }
        None
    }

    /// An entry that is free: one that was in use before, else the next. There is one for every two granules.
    fn find_entry(&self, region: usize, words: &Words, change: &mut Change, from: usize) -> usize {
        let is_free = |entry: &&usize| change.get(words, Address::entry(region, **entry, 0)) == 0;
        if let Some(entry) = self.regions[region].entries.range(from..).find(is_free) {
            return *entry;
        }
        let address = Address::entries(region);
        let next = change.get(words, address);
        change.set(address, next + 1);
        next as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granules_are_found_where_all_of_their_pages_are_free() {
        assert_eq!(granules_of(0b1011, 1), 0b1011);
        assert_eq!(granules_of(0b1_1110_1111, 2), 0b100_0101);
        assert_eq!(granules_of(0b1111_1110_1111, 4), 0b1_0000_0001);
        assert_eq!(granules_of(u64::MAX, 4).count_ones(), 16);
        assert_eq!((there(0, 3), there(1, 64), there(1, 128)), (0b111, 0, u64::MAX));
    }
}
