//! Bits of a map page, checked and turned over.
//!
//! Invariant: first all are checked, then all are changed; the bit of the map page itself never is.

use std::ops::Range;

use pagestone_page_format::{PageError, PageId, PageResult, PageWriter, SpeculativePage};

use super::{BITS_AT, MapHeader, malformed, put};
use crate::bit_runs;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bit {
    Set,
    Clear,
}

/// Refuses ids of a map page's region that are not all in use: `AllocationState` for one that is free, `Malformed` for ids that the
/// region does not have. For whoever is about to free them, and has changed nothing yet.
pub fn check_allocated(page: SpeculativePage<'_>, first: PageId, count: u32) -> PageResult<()> {
    check_bits(page, first, count, Bit::Clear).map(|_| ())
}

/// Turns the bits of `count` ids from `first` over to `to`: first all are checked, then all are changed.
pub(super) fn flip(page: &PageWriter<'_>, first: PageId, count: u32, to: Bit) -> PageResult<()> {
    let (map, range) = check_bits(page.read(), first, count, to)?;
    for (index, mask) in masks(range) {
        let word = page.read().word(index).map_err(|error| error.malformed(map.first))?;
        put(page, map.first, index, word ^ mask)?;
    }
    Ok(())
}

/// The region, and which of its bits can be turned over to `to`.
fn check_bits(
    page: SpeculativePage<'_>,
    first: PageId,
    count: u32,
    to: Bit,
) -> PageResult<(MapHeader, Range<u64>)> {
    let map = MapHeader::read(page)?;
    let offset = first.get().checked_sub(map.first.get());
    let range = offset.and_then(|from| Some(from..from.checked_add(count.into())?));
    // The map page's own bit never changes.
    let Some(range) = range.filter(|range| range.start >= 1 && !range.is_empty() && range.end <= map.bits)
    else {
        return Err(malformed(map.first, "ids that the region does not have"));
    };
    for (index, mask) in masks(range.clone()) {
        let word = page.word(index).map_err(|error| error.malformed(map.first))?;
        let (wrong, state) = match to {
            Bit::Set => (word & mask, "allocated"),
            Bit::Clear => (!word & mask, "free"),
        };
        if wrong != 0 {
            let bit = ((index - BITS_AT) * 64) as u64 + u64::from(wrong.trailing_zeros());
            return Err(PageError::AllocationState { page_id: PageId::new(map.first.get() + bit), state });
        }
    }
    Ok((map, range))
}

/// The words of a page in which these bits stand, and which bits of each.
fn masks(bits: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    bit_runs::masks(bits.start, bits.end - bits.start).map(|(word, mask)| (BITS_AT + word, mask))
}
