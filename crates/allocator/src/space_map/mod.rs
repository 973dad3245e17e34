//! A map page, and the operations that change it.
//!
//! Invariant: a bit is set exactly if its id is in use, and the bit of the map page itself is always set. No operation
//! sets a bit that is set or clears one that is clear: two owners of one page are found here at the latest.
//!
//! ```text
//!            0         1         2         3         4         5         6         7
//!       ┌─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┐
//!    0  │                                                                               │
//!       │               page header (32 bytes), kind SPACE_MAP, no swips                │
//!       ├───────────────────────────────────────────────────────────────────────────────┤
//!   32  │                                    region                                     │
//!   40  │             regions that are formatted (page 0; elsewhere zero)               │
//!       ├───────────────────────────────────────────────────────────────────────────────┤
//!   48  │      bits: id region · N + i is bit i % 64 of word i / 64; N = 64 · words     │
//!       └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! All fields are little-endian.
//!
//! ```text
//!   ops.rs    FormatMap, SetRegions, SetBits, ClearBits: what changes a map page, live and in redo
//!   turn.rs   bits checked, then turned over
//! ```

mod ops;
mod turn;

use pagestone_page_format::{
    MIN_PAGE_SIZE, PAGE_HEADER_SIZE, PageError, PageId, PageKind, PageResult, PageSize, PageWriter,
    SpeculativePage,
};

pub(crate) use ops::decode_run;
pub use ops::{ClearBits, FormatMap, SetBits, SetRegions, redo_range};
pub use turn::check_allocated;

/// The word with the region's number.
const REGION_AT: usize = PAGE_HEADER_SIZE / 8;
/// The word with the number of regions.
const REGIONS_AT: usize = REGION_AT + 1;
/// The first word of bits.
pub(crate) const BITS_AT: usize = REGIONS_AT + 1;
const _: () = assert!(BITS_AT * 8 == 48);
const _: () = assert!(region_bits(pagestone_page_format::DEFAULT_PAGE_SIZE) == 32_384);

/// Ids of a region: bits of a map page of this size.
pub const fn region_bits(size: PageSize) -> u64 {
    ((size.words() - BITS_AT) * 64) as u64
}

/// The region that an id belongs to.
pub const fn region_of(id: PageId, size: PageSize) -> u64 {
    id.get() / region_bits(size)
}

/// The map page with the bit of an id.
pub const fn map_page_of(id: PageId, size: PageSize) -> PageId {
    PageId::new(id.get() - id.get() % region_bits(size))
}

/// What a map page says of itself.
pub(crate) struct MapHeader {
    pub(crate) region: u64,
    /// Formatted regions; only page 0 says that.
    pub(crate) regions: Option<u64>,
    /// Ids of the region.
    pub(crate) bits: u64,
    /// The first of them: the map page itself.
    pub(crate) first: PageId,
}

impl MapHeader {
    /// Reads and checks it.
    pub(crate) fn read(page: SpeculativePage<'_>) -> PageResult<Self> {
        let first = id_of(page);
        let header = page.header().map_err(|error| error.malformed(first))?;
        if header.kind != PageKind::SPACE_MAP {
            return Err(malformed(first, "not a map page"));
        }
        let bits = bits_of(page, first)?;
        let word = |index| page.word(index).map_err(|error| error.malformed(first));
        let (region, regions) = (word(REGION_AT)?, word(REGIONS_AT)?);
        if map_page(region, bits) != Some(first) {
            return Err(malformed(first, "the map of another region"));
        }
        if region != 0 {
            return Ok(Self { region, regions: None, bits, first });
        }
        if regions == 0 || map_page(regions - 1, bits).is_none() {
            return Err(malformed(first, "an impossible number of regions"));
        }
        Ok(Self { region, regions: Some(regions), bits, first })
    }
}

/// The map page of a region, if a file can have it.
fn map_page(region: u64, bits: u64) -> Option<PageId> {
    region.checked_mul(bits).map(PageId::new).filter(|id| *id <= PageId::MAX)
}

fn bits_of(page: SpeculativePage<'_>, id: PageId) -> PageResult<u64> {
    let size = PageSize::new(page.len()).map_err(|_| malformed(id, "not of a page's size"))?;
    Ok(region_bits(size))
}

/// The id in the page's header, for errors; a page too small to have one is called 0.
fn id_of(page: SpeculativePage<'_>) -> PageId {
    page.header().map_or(PageId::new(0), |header| header.page_id)
}

fn put(page: &PageWriter<'_>, id: PageId, word: usize, value: u64) -> PageResult<()> {
    page.put_word(word, value).map_err(|error| error.malformed(id))
}

pub(crate) fn malformed(page_id: PageId, reason: &'static str) -> PageError {
    PageError::Malformed { page_id, reason }
}

const _: () = assert!(MIN_PAGE_SIZE / 8 > BITS_AT, "the smallest page has bits");
