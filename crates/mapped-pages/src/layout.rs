//! Where everything stands in a file.
//!
//! Invariant: every block of metadata begins at a multiple of 4096 and has 4096 bytes to itself, whatever the page size; what is mapped
//! begins and ends at multiples of 4096 and holds no metadata. So no torn write and no mapped page touches two of them.
//!
//! ```text
//!   0         4096      8192      12288     16384
//!   │ super 0 │ super 1 │ root A  │ root B  │ region 0 │ region 1 │ …
//!     id 0                id 1      id 2
//!
//!   region   map, slot 0 │ map, slot 1 │ directory block 1, slots 0 and 1 │ … │ 16 384 pages
//!            └───────────────────── never mapped ────────────────────────┘   └─ mapped ─┘
//! ```
//!
//! The directory of a region is large enough for a protected page on every two of its pages; until it is used it is a hole of the file.
//! Two pages of less than 4 KiB share a block, so a copy of a protected page takes as many as fill one: a granule.

use crate::{MappedPageError, MappedResult};

/// What a torn write may tear, and what metadata has for itself.
pub(crate) const BLOCK: usize = 4096;
/// Where the roots stand: metadata A and B.
pub(crate) const ROOTS: [u64; 2] = [2 * BLOCK as u64, 3 * BLOCK as u64];
/// Where region 0 begins.
pub(crate) const REGIONS_AT: u64 = 4 * BLOCK as u64;
/// Ids of the superblock, metadata A and metadata B: nobody is given them.
pub(crate) const RESERVED: u64 = 3;
const REGION_LOG2: u32 = 14;
/// Pages of a region.
pub(crate) const REGION_PAGES: u64 = 1 << REGION_LOG2;
/// Words of a region's map.
pub(crate) const MAP_WORDS: usize = REGION_PAGES as usize / 64;
/// Words that a block of metadata holds.
pub(crate) const BLOCK_WORDS: usize = (BLOCK - 64) / 8;
/// Where in the first block of a region stands how many of its directory's entries are or were in use.
pub(crate) const ENTRIES_WORD: usize = MAP_WORDS;
/// Entries of the directory in a block, of two words each.
const BLOCK_ENTRIES: usize = BLOCK_WORDS / 2;
/// Bits of a word's address below its region: six of the block, nine of the place in it.
const ADDRESS_LOG2: u32 = 15;
/// Bits of a protected page's id below its region.
pub(crate) const ENTRY_LOG2: u32 = 13;
/// No file is longer.
const FILE_MAX: u64 = 1 << 62;
/// The smallest page size and the largest, as powers of two.
pub(crate) const LOG2_MIN: u32 = 10;
pub(crate) const LOG2_MAX: u32 = 30;
/// Bytes that a new file has room for first, and the most that are added at once, if a page is not more.
const GROWTH_MIN: u64 = 64 << 10;
const GROWTH_MAX: u64 = 64 << 20;

const _: () = assert!(ENTRIES_WORD < BLOCK_WORDS && BLOCK_WORDS < 1 << 9);
const _: () = assert!((REGION_PAGES as usize / 2).div_ceil(BLOCK_ENTRIES) < 1 << (ADDRESS_LOG2 - 9));
const _: () = assert!(REGION_PAGES / 2 <= 1 << ENTRY_LOG2);

/// The place of a word of metadata: region, block in it, word in that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Address(pub(crate) u64);

impl Address {
    const fn new(region: usize, block: usize, word: usize) -> Self {
        Self((region as u64) << ADDRESS_LOG2 | (block as u64) << 9 | word as u64)
    }

    /// Of a word of a region's map.
    pub(crate) const fn map(region: usize, word: usize) -> Self {
        Self::new(region, 0, word)
    }

    /// Of the count of directory entries in use.
    pub(crate) const fn entries(region: usize) -> Self {
        Self::new(region, 0, ENTRIES_WORD)
    }

    /// Of a word of a directory entry, 0 or 1.
    pub(crate) const fn entry(region: usize, entry: usize, word: usize) -> Self {
        Self::new(region, 1 + entry / BLOCK_ENTRIES, entry % BLOCK_ENTRIES * 2 + word)
    }

    pub(crate) const fn region(self) -> usize {
        (self.0 >> ADDRESS_LOG2) as usize
    }

    pub(crate) const fn block(self) -> BlockId {
        BlockId(self.0 >> 9)
    }

    /// The word in its block.
    pub(crate) const fn word(self) -> usize {
        (self.0 & ((1 << 9) - 1)) as usize
    }
}

/// A block of metadata: region, block in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BlockId(pub(crate) u64);

impl BlockId {
    pub(crate) const fn new(region: usize, block: usize) -> Self {
        Address::new(region, block, 0).block()
    }

    pub(crate) const fn region(self) -> usize {
        (self.0 >> (ADDRESS_LOG2 - 9)) as usize
    }

    /// The block in its region: 0 is the map, those behind it the directory.
    pub(crate) const fn index(self) -> usize {
        (self.0 & ((1 << (ADDRESS_LOG2 - 9)) - 1)) as usize
    }

    /// The address of one of its words.
    pub(crate) const fn address(self, word: usize) -> Address {
        Address(self.0 << 9 | word as u64)
    }
}

/// Sizes and places for one page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    page_log2: u32,
    /// The file may have so many regions.
    pub(crate) regions_max: u64,
}

impl Layout {
    /// For pages of two to this power bytes.
    pub(crate) fn new(page_log2: u32) -> MappedResult<Self> {
        if !(LOG2_MIN..=LOG2_MAX).contains(&page_log2) {
            return Err(MappedPageError::InvalidPageSize {
                expected: format!("a page is 2^{LOG2_MIN} to 2^{LOG2_MAX} bytes long"),
                found: format!("2^{page_log2}"),
            });
        }
        let mut layout = Self { page_log2, regions_max: 0 };
        layout.regions_max = (FILE_MAX - REGIONS_AT) / layout.region_bytes();
        Ok(layout)
    }

    pub(crate) fn page_log2(&self) -> u32 {
        self.page_log2
    }

    /// Bytes of a page.
    pub(crate) fn page_size(&self) -> usize {
        1 << self.page_log2
    }

    /// Pages that fill a block: what a copy of a protected page takes.
    pub(crate) fn granule(&self) -> u64 {
        (BLOCK as u64 >> self.page_log2).max(1)
    }

    /// Directory entries of a region.
    pub(crate) fn entries_max(&self) -> u64 {
        REGION_PAGES / self.granule() / 2
    }

    /// Blocks of metadata of a region.
    fn blocks(&self) -> usize {
        self.blocks_for(self.entries_max())
    }

    /// Blocks of metadata that so many entries need, the map's among them.
    pub(crate) fn blocks_for(&self, entries: u64) -> usize {
        1 + (entries as usize).div_ceil(BLOCK_ENTRIES)
    }

    fn head_bytes(&self) -> u64 {
        (self.blocks() * 2 * BLOCK) as u64
    }

    fn region_bytes(&self) -> u64 {
        self.head_bytes() + (REGION_PAGES << self.page_log2)
    }

    fn region_at(&self, region: usize) -> u64 {
        REGIONS_AT + region as u64 * self.region_bytes()
    }

    /// Where a slot of a block stands.
    pub(crate) fn slot_at(&self, block: BlockId, slot: usize) -> u64 {
        self.region_at(block.region()) + ((block.index() * 2 + slot) * BLOCK) as u64
    }

    /// Where the page at this place of a region stands.
    pub(crate) fn page_at(&self, region: usize, page: u64) -> u64 {
        self.region_at(region) + self.head_bytes() + (page << self.page_log2)
    }

    /// Bytes of a file with so many pages.
    pub(crate) fn file_len(&self, pages: u64) -> u64 {
        match pages.checked_sub(1) {
            None => REGIONS_AT,
            Some(last) => self.page_at(region_of(last), place_of(last) + 1),
        }
    }

    /// The most pages that a file can have.
    pub(crate) fn pages_max(&self) -> u64 {
        self.regions_max * REGION_PAGES
    }

    /// Where pages are found in memory.
    #[inline]
    pub(crate) fn shape(&self) -> Shape {
        Shape::new(self.page_log2)
    }

    /// How many pages a file of so many should have next: twice as many, within limits and as far as a window reaches. `None` if there is
    /// no room.
    pub(crate) fn grown(&self, pages: u64) -> Option<u64> {
        let window = self.shape().window_pages();
        let least = pages_of(GROWTH_MIN, self.page_log2);
        let end = match pages {
            0 => least,
            _ if pages < window => ((pages + 1).next_power_of_two().max(least)).min(window),
            _ => (pages + 1).next_multiple_of(window),
        };
        (end <= self.pages_max()).then_some(end)
    }
}

/// So many bytes in pages of two to this power: at least what fills a block, at most a region.
const fn pages_of(bytes: u64, page_log2: u32) -> u64 {
    let (pages, block) = (bytes >> page_log2, BLOCK as u64 >> page_log2);
    let least = if block > 1 { block } else { 1 };
    if pages < least {
        least
    } else if pages > REGION_PAGES {
        REGION_PAGES
    } else {
        pages
    }
}

/// Where pages of one size are found in memory: what is mapped at once is a window, in one region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    page_log2: u32,
    window_log2: u32,
}

impl Shape {
    /// For pages of two to this power bytes. Where the compiler knows them it knows all of it.
    #[inline]
    pub(crate) const fn new(page_log2: u32) -> Self {
        Self { page_log2, window_log2: pages_of(GROWTH_MAX, page_log2).ilog2() }
    }

    #[inline]
    pub(crate) const fn page_size(self) -> usize {
        1 << self.page_log2
    }

    /// Pages of a window: a power of two, and a divisor of those of a region.
    #[inline]
    pub(crate) const fn window_pages(self) -> u64 {
        1 << self.window_log2
    }

    /// A page's place in its window.
    #[inline]
    pub(crate) const fn place_of(self, index: u64) -> u64 {
        index & (self.window_pages() - 1)
    }

    /// The window in which a page lies.
    #[inline]
    pub(crate) const fn window_of(self, index: u64) -> usize {
        let window = index >> self.window_log2;
        // Where addresses are short, an index that nobody was given must not come around to a window that is there.
        if window > usize::MAX as u64 { usize::MAX } else { window as usize }
    }

    /// Where in its window it begins.
    #[inline]
    pub(crate) const fn start_of(self, index: u64) -> usize {
        (self.place_of(index) << self.page_log2) as usize
    }
}

/// The region of the page with this index, which is its id less the reserved ones.
pub(crate) const fn region_of(index: u64) -> usize {
    (index >> REGION_LOG2) as usize
}

/// Its place in that.
pub(crate) const fn place_of(index: u64) -> u64 {
    index & (REGION_PAGES - 1)
}

/// How many of a file's pages stand in a region.
pub(crate) fn pages_in(region: usize, pages: u64) -> u64 {
    pages.saturating_sub(region as u64 * REGION_PAGES).min(REGION_PAGES)
}

/// Regions of a file with so many pages.
pub(crate) fn regions_for(pages: u64) -> usize {
    pages.div_ceil(REGION_PAGES) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At every page size, 1 KiB among them: no two metadata blocks share 4 KiB, and no map shares any with one.
    #[test]
    fn every_block_of_metadata_has_four_kibibytes_to_itself() {
        for page_log2 in LOG2_MIN..=16 {
            let layout = Layout::new(page_log2).expect("a page size");
            let mut blocks = vec![0, BLOCK as u64, ROOTS[0], ROOTS[1]];
            for region in 0..3 {
                for block in 0..layout.blocks() {
                    blocks.extend([0, 1].map(|slot| layout.slot_at(BlockId::new(region, block), slot)));
                }
                let mapped = layout.page_at(region, 0)..layout.page_at(region, REGION_PAGES);
                assert_eq!((mapped.start % BLOCK as u64, mapped.end % BLOCK as u64), (0, 0));
                assert!(
                    blocks
                        .iter()
                        .all(|at| !mapped.contains(at) && !mapped.contains(&(at + BLOCK as u64 - 1)))
                );
                assert_eq!(layout.file_len((region as u64 + 1) * REGION_PAGES), mapped.end);
            }
            assert!(blocks.windows(2).all(|pair| pair[0] + BLOCK as u64 <= pair[1]));
            assert!(blocks.iter().all(|at| at % BLOCK as u64 == 0));
        }
    }

    #[test]
    fn growth_ends_at_blocks_and_regions_and_at_the_end() {
        for page_log2 in [LOG2_MIN, 11, 12, 16, 27, LOG2_MAX] {
            let mut layout = Layout::new(page_log2).expect("a page size");
            layout.regions_max = layout.regions_max.min(3);
            let (mut pages, mut steps) = (0, 0);
            while let Some(grown) = layout.grown(pages) {
                assert!(grown > pages && grown % layout.granule() == 0);
                assert_eq!(region_of(pages), region_of(grown - 1));
                assert!((grown - pages) << page_log2 <= GROWTH_MAX.max(1 << page_log2));
                let shape = layout.shape();
                assert_eq!(shape.window_of(pages), shape.window_of(grown - 1), "a growth is of one window");
                let first = shape.window_of(pages) as u64 * shape.window_pages();
                assert_eq!(shape.start_of(pages) as u64, (pages - first) << page_log2);
                assert_eq!(region_of(first), region_of(grown - 1), "a window is of one region");
                (pages, steps) = (grown, steps + 1);
            }
            assert_eq!(pages, layout.pages_max());
            assert!(steps >= 3);
        }
    }

    #[test]
    fn an_address_is_what_it_was_made_of() {
        let layout = Layout::new(12).expect("a page size");
        for region in [0, 7, 1 << 20] {
            assert_eq!(Address::map(region, 255).word(), 255);
            for entry in [0, 251, 252, 8191] {
                let address = Address::entry(region, entry, 1);
                assert_eq!((address.region(), address.block().region()), (region, region));
                assert_eq!(address.block().index(), 1 + entry / 252);
                assert_eq!(address.block().address(address.word()), address);
                assert!(address.block().index() < layout.blocks());
            }
        }
    }
}
