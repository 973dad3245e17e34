//! What the allocator's own pages say.
//!
//! Invariant: what is decoded here is whole, ours, and of the place where it stands, and adds up; anything else is an error.
//!
//! ```text
//!   root    magic "PGALLOC\0" │ generation │ regions │ levels │ high water │ ids in use │ 0 │ 0 │ entries
//!   index   level │ number │ generation │ 0 …                                             │ 0 │ entries
//!   map     region │ generation │ bit i: id N · region + i is in use
//! ```
//!
//! What a root of no regions says stands in its first 96 bytes, so in one sector: it is there or it is not, however a crash tears it.

use pagestone_page_format::{Page, PageError, PageHeader, PageId, PageKind, PageResult, PageStore};

use super::entry::Entry;
use super::layout::{FRONT_WORDS, LEVELS, Layout, Node};
use crate::space_map::malformed;

const MAGIC: u64 = u64::from_le_bytes(*b"PGALLOC\0");
/// Words in front of a map's bits.
const MAP_WORDS: usize = 2;

/// The state of one commit, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Root {
    /// One more at each commit.
    pub(super) generation: u64,
    /// Regions that have a map.
    pub(super) regions: u64,
    /// Levels of index pages between the root and the maps.
    pub(super) levels: u32,
    /// One past the highest id in use.
    pub(super) high_water: u64,
    /// Ids in use, the allocator's own without.
    pub(super) in_use: u64,
    /// Of the nodes of the highest level.
    pub(super) entries: Vec<Entry>,
}

impl Root {
    /// Of a file without a region.
    pub(super) fn first() -> Self {
        Self { generation: 1, regions: 0, levels: 0, high_water: 1, in_use: 0, entries: Vec::new() }
    }

    pub(super) fn encode(&self, store: &dyn PageStore, id: PageId) -> Page {
        let front = [MAGIC, self.generation, self.regions, self.levels.into(), self.high_water, self.in_use];
        encode(store, PageKind::ALLOCATOR_ROOT, id, &front, &self.entries)
    }

    /// `Malformed` for a page that is not an allocator's root, or contradicts itself.
    pub(super) fn decode(page: &Page, layout: &Layout) -> PageResult<Self> {
        let words = decode(page, PageKind::ALLOCATOR_ROOT)?;
        let [magic, generation, regions, levels, high_water, in_use, ..] = words[..] else {
            return Err(malformed(page.id(), "too small for the root of an allocator"));
        };
        if magic != MAGIC || generation == 0 {
            return Err(malformed(page.id(), "not the root of an allocator"));
        }
        let levels = u32::try_from(levels).ok().filter(|levels| *levels <= LEVELS);
        let levels = levels.filter(|_| regions <= layout.end().div_ceil(layout.bits));
        let Some(levels) = levels.filter(|levels| regions.div_ceil(layout.span(*levels)) <= layout.fanout)
        else {
            return Err(malformed(page.id(), "more regions than a root has"));
        };
        let used = regions.div_ceil(layout.span(levels)) as usize;
        let mut entries = entries(&words);
        if entries.drain(used..).any(|entry| !entry.is_absent())
            || entries.iter().any(|entry| entry.is_absent())
        {
            return Err(malformed(page.id(), "entries that do not fit the number of regions"));
        }
        let end = regions * layout.bits;
        let counted: u64 = entries.iter().map(|entry| entry.used()).sum();
        let adds_up = counted.checked_sub(layout.own_below(end)) == Some(in_use)
            && (1..=end.max(1)).contains(&high_water)
            && in_use <= high_water - layout.own_below(high_water);
        if !adds_up {
            return Err(malformed(page.id(), "ids in use that do not add up"));
        }
        Ok(Self { generation, regions, levels, high_water, in_use, entries })
    }
}

/// An index page.
pub(super) fn encode_index(
    store: &dyn PageStore,
    id: PageId,
    node: Node,
    generation: u64,
    entries: &[Entry],
) -> Page {
    encode(store, PageKind::ALLOCATOR_INDEX, id, &[node.level.into(), node.number, generation], entries)
}

/// The entries of an index page. `Malformed` for one that is not the one that `entry` names.
pub(super) fn decode_index(page: &Page, node: Node, entry: Entry) -> PageResult<Vec<Entry>> {
    let words = decode(page, PageKind::ALLOCATOR_INDEX)?;
    if words[0] != u64::from(node.level) || words[1] != node.number || !entry.is_of(words[2]) {
        return Err(malformed(page.id(), "an index page of another place or commit"));
    }
    let entries = entries(&words);
    if entries.iter().map(|entry| entry.used()).sum::<u64>() != entry.used() {
        return Err(malformed(page.id(), "ids in use that do not add up"));
    }
    Ok(entries)
}

/// A map page.
pub(super) fn encode_map(
    store: &dyn PageStore,
    id: PageId,
    region: u64,
    generation: u64,
    bits: &[u64],
) -> Page {
    let mut page = start(store, PageKind::ALLOCATOR_MAP, id);
    put(&mut page, [region, generation].into_iter().chain(bits.iter().copied()));
    page
}

/// The bits of a region. `Malformed` for a page that is not the one that `entry` names, or says what cannot be.
pub(super) fn decode_map(page: &Page, region: u64, entry: Entry, layout: &Layout) -> PageResult<Vec<u64>> {
    let words = decode(page, PageKind::ALLOCATOR_MAP)?;
    if words[0] != region || !entry.is_of(words[1]) {
        return Err(malformed(page.id(), "a map of another region or commit"));
    }
    let bits = words[MAP_WORDS..].to_vec();
    if bits[0] & layout.own_bits(region) != layout.own_bits(region) {
        return Err(malformed(page.id(), "a map that gives out a page of the allocator's own"));
    }
    if count(&bits) != entry.used() {
        return Err(malformed(page.id(), "ids in use that do not add up"));
    }
    Ok(bits)
}

/// Set bits.
pub(super) fn count(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

fn encode(store: &dyn PageStore, kind: PageKind, id: PageId, front: &[u64], entries: &[Entry]) -> Page {
    let mut page = start(store, kind, id);
    let padding = std::iter::repeat_n(0, FRONT_WORDS - front.len());
    put(&mut page, front.iter().copied().chain(padding).chain(entries.iter().map(|entry| entry.word())));
    page
}

fn start(store: &dyn PageStore, kind: PageKind, id: PageId) -> Page {
    let mut page = store.allocate_page(id);
    PageHeader::new(kind, id).encode(page.bytes_mut());
    page
}

fn put(page: &mut Page, words: impl Iterator<Item = u64>) {
    for (chunk, word) in page.payload_mut().as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
}

fn decode(page: &Page, kind: PageKind) -> PageResult<Vec<u64>> {
    if page.header().kind != kind {
        return Err(malformed(page.id(), "not a page of an allocator"));
    }
    Ok(page.payload().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

fn entries(words: &[u64]) -> Vec<Entry> {
    words[FRONT_WORDS..].iter().map(|word| Entry::from_word(*word)).collect()
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
    pub(super) fn read(store: &dyn PageStore, id: PageId, layout: &Layout) -> PageResult<Self> {
        if store.is_unwritten(id)? {
            return Ok(Self::Unwritten);
        }
        let mut page = store.allocate_page(id);
        match store.read_into(id, &mut page) {
            Ok(()) => Root::decode(&page, layout).map(Self::Whole),
            Err(
                error @ (PageError::ChecksumMismatch { .. }
                | PageError::BadMagic { .. }
                | PageError::ShortRead { .. }),
            ) => Ok(Self::Damaged(error)),
            Err(error) => Err(error),
        }
    }
}
