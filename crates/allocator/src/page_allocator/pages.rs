//! The pages of an allocator's own: two copies of its root, two slots for the map of each region.
//!
//! Invariant: what is decoded here is whole, ours, and of the place where it stands; anything else is an error.
//!
//! ```text
//!   region 0:   0: root A   13: root B   14, 15: map slots      the rest is given out
//!   region r:                            N r + 14, N r + 15     N: bits of a map page
//!
//!   root   magic "PGALLOC\0" │ generation │ regions │ bit r: which slot holds the map of region r
//!   map    region │ generation that wrote it │ bit i: id N r + i is in use
//! ```
//!
//! The file is at least 16 pages long, and the first id that is given out is 1.

use pagestone_page_format::{Page, PageError, PageHeader, PageId, PageKind, PageResult, PageSize, PageStore};

use crate::region_bits;
use crate::space_map::malformed;

/// Where the copies of the root stand.
pub(super) const ROOTS: [PageId; 2] = [PageId::new(0), PageId::new(13)];
/// Where the map slots stand, in each region.
const MAP_SLOTS: [u64; 2] = [14, 15];
/// Ids of a region up to and with its map slots: the file has room for so many of a region that has a map.
pub(super) const HEAD_PAGES: u64 = 16;
const MAGIC: u64 = u64::from_le_bytes(*b"PGALLOC\0");
/// Words in front of a root's bits, and of a map's.
const ROOT_WORDS: usize = 3;
const MAP_WORDS: usize = 2;

/// Whether the allocator keeps this id for itself.
pub(super) fn is_own(id: u64, size: PageSize) -> bool {
    MAP_SLOTS.contains(&(id % region_bits(size))) || ROOTS.contains(&PageId::new(id))
}

/// Regions whose slots a root can name.
pub(super) fn regions_max(size: PageSize) -> u64 {
    ((size.payload_len() / 8 - ROOT_WORDS) * 64) as u64
}

/// Which map slot of each region counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Root {
    /// One more at each commit.
    pub(super) generation: u64,
    /// The slot of each region.
    pub(super) slots: Vec<usize>,
}

impl Root {
    pub(super) fn encode(&self, store: &dyn PageStore, id: PageId) -> Page {
        let mut words = vec![MAGIC, self.generation, self.slots.len() as u64];
        words.resize(ROOT_WORDS + self.slots.len().div_ceil(64), 0);
        for (region, slot) in self.slots.iter().enumerate() {
            words[ROOT_WORDS + region / 64] |= (*slot as u64) << (region % 64);
        }
        encode(store, PageKind::ALLOCATOR_ROOT, id, &words)
    }

    /// `Malformed` for a page that is not an allocator's root.
    pub(super) fn decode(page: &Page) -> PageResult<Self> {
        let words = decode(page, PageKind::ALLOCATOR_ROOT)?;
        let (magic, generation, regions) = (words[0], words[1], words[2]);
        if magic != MAGIC || generation == 0 || regions > regions_max(page.page_size()) {
            return Err(malformed(page.id(), "not the root of an allocator"));
        }
        let slot = |region: usize| (words[ROOT_WORDS + region / 64] >> (region % 64) & 1) as usize;
        Ok(Self { generation, slots: (0..regions as usize).map(slot).collect() })
    }
}

/// The page of a map slot.
pub(super) fn map_page(region: usize, slot: usize, size: PageSize) -> PageId {
    PageId::new(region as u64 * region_bits(size) + MAP_SLOTS[slot])
}

pub(super) fn encode_map(
    store: &dyn PageStore,
    region: usize,
    slot: usize,
    generation: u64,
    bits: &[u64],
) -> Page {
    let id = map_page(region, slot, store.page_size());
    let words = [&[region as u64, generation], bits].concat();
    encode(store, PageKind::ALLOCATOR_MAP, id, &words)
}

/// The bits of a region. `Malformed` for a page that is no map of this region, or of a generation that `root` does not know.
pub(super) fn decode_map(page: &Page, region: usize, root: &Root) -> PageResult<Vec<u64>> {
    let words = decode(page, PageKind::ALLOCATOR_MAP)?;
    if words[0] != region as u64 || words[1] == 0 || words[1] > root.generation {
        return Err(malformed(page.id(), "the map of another region, or of a generation to come"));
    }
    let bits = words[MAP_WORDS..].to_vec();
    let first = region as u64 * region_bits(page.page_size());
    for own in (first..first + HEAD_PAGES).filter(|id| is_own(*id, page.page_size())) {
        if bits[0] >> (own - first) & 1 == 0 {
            return Err(malformed(page.id(), "a map that gives out a page of the allocator's own"));
        }
    }
    Ok(bits)
}

/// A map in which only the allocator's own ids are in use.
pub(super) fn empty_map(region: usize, size: PageSize) -> Vec<u64> {
    let mut bits = vec![0; region_bits(size) as usize / 64];
    let first = region as u64 * region_bits(size);
    for own in (first..first + HEAD_PAGES).filter(|id| is_own(*id, size)) {
        bits[0] |= 1 << (own - first);
    }
    bits
}

fn encode(store: &dyn PageStore, kind: PageKind, id: PageId, words: &[u64]) -> Page {
    let mut page = store.allocate_page(id);
    PageHeader::new(kind, id).encode(page.bytes_mut());
    for (chunk, word) in page.payload_mut().as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    page
}

fn decode(page: &Page, kind: PageKind) -> PageResult<Vec<u64>> {
    if page.header().kind != kind {
        return Err(malformed(page.id(), "not a page of an allocator"));
    }
    Ok(page.payload().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// What stands at the place of a copy of the root.
#[derive(Debug)]
pub(super) enum Copy {
    Whole(Root),
    /// Nothing was ever written there.
    Unwritten,
    /// Something that cannot be read.
    Damaged(PageError),
}

impl Copy {
    /// An error that is none of the page's own, or a whole page of somebody else's, comes out as an error.
    pub(super) fn read(store: &dyn PageStore, id: PageId) -> PageResult<Self> {
        if store.is_unwritten(id)? {
            return Ok(Self::Unwritten);
        }
        let mut page = store.allocate_page(id);
        match store.read_into(id, &mut page) {
            Ok(()) => Root::decode(&page).map(Self::Whole),
            Err(
                error @ (PageError::ChecksumMismatch { .. }
                | PageError::BadMagic { .. }
                | PageError::ShortRead { .. }),
            ) => Ok(Self::Damaged(error)),
            Err(error) => Err(error),
        }
    }
}
