//! What a cell holds in place of a long value.
//!
//! Invariant: a reference that decodes names as many pages as its length takes, in runs that lie each within one region and hold
//! no map page; more is not believed of it before its pages were read.
//!
//! ```text
//!            0         1         2         3         4         5         6         7
//!       ┌───────────────────────────────────────────────────────────────────────────────┐
//!    0  │                             bytes of the value                                │
//!    8  │                          LSN that its pages carry                             │
//!       ├─────────────────────────────┬─────────────────────────────────────────────────┤
//!   16  │       pages (24 bits)       │             first page id (40 bits)             │
//!       └─────────────────────────────┴─────────────────────────────────────────────────┘
//!         one such word for each extent, in the order of the value's bytes; all little-endian
//! ```

use pagestone_allocator::region_bits;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, PageId, PageSize};
use pagestone_swip::MAX_SWIP_PAGE;

use crate::node::{max_inline_value, max_key_len};

/// Bytes of the longest value: 4 GiB.
pub const MAX_VALUE_LEN: u64 = 4 << 30;
/// The flag of a cell that holds a reference.
pub(crate) const OVERFLOW: u8 = 1;
/// The most extents of one value.
pub(crate) const MAX_RUNS: usize = 48;

/// Bytes of the shortest reference: to one extent.
pub(crate) const LEAST_REFERENCE: usize = HEAD + 8;

const HEAD: usize = 16;
const COUNT_BITS: u32 = 24;

// Beside the longest key there is room for the longest reference; with larger pages for more.
const _: () =
    assert!(HEAD + 8 * MAX_RUNS <= max_inline_value(DEFAULT_PAGE_SIZE, max_key_len(DEFAULT_PAGE_SIZE)));
// Whole regions hold the longest value with some runs to spare.
const _: () = assert!(
    MAX_VALUE_LEN / DEFAULT_PAGE_SIZE.payload_len() as u64 / (region_bits(DEFAULT_PAGE_SIZE) - 1) + 12
        < MAX_RUNS as u64
);

/// Where a value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reference {
    /// Bytes of the value.
    pub(crate) len: u64,
    /// What its pages carry.
    pub(crate) lsn: Lsn,
    /// First id and number of pages of each extent.
    pub(crate) runs: Vec<(PageId, u32)>,
}

impl Reference {
    /// Pages that so many bytes take.
    pub(crate) fn pages_for(len: u64, size: PageSize) -> u64 {
        len.div_ceil(size.payload_len() as u64)
    }

    /// Its bytes in a cell.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let runs = self.runs.iter().map(|(first, count)| u64::from(*count) | first.get() << COUNT_BITS);
        [self.len, self.lsn.get()].into_iter().chain(runs).flat_map(u64::to_le_bytes).collect()
    }

    /// Takes a cell's bytes apart; the error says what is wrong with them.
    pub(crate) fn decode(bytes: &[u8], size: PageSize) -> Result<Self, &'static str> {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let (Some(len), Some(lsn), []) = (words.next(), words.next(), rest) else {
            return Err("a reference to a value that is cut short");
        };
        if len == 0 || len > MAX_VALUE_LEN || words.len() > MAX_RUNS {
            return Err("a reference to a value of an impossible length");
        }
        let bits = region_bits(size);
        let (mut runs, mut pages) = (Vec::with_capacity(words.len()), 0);
        for word in words {
            let (first, count) = (word >> COUNT_BITS, word & ((1 << COUNT_BITS) - 1));
            let at = first % bits;
            if at == 0 || count == 0 || at + count > bits || first + count - 1 > MAX_SWIP_PAGE.get() {
                return Err("a reference to pages that no value can have");
            }
            runs.push((PageId::new(first), count as u32));
            pages += count;
        }
        if pages != Self::pages_for(len, size) {
            return Err("a reference to more or fewer pages than its value takes");
        }
        Ok(Self { len, lsn: Lsn::new(lsn), runs })
    }

    /// The ids of the pages from number `from` on, `count` of them at most.
    pub(crate) fn ids(&self, from: u64, count: usize) -> Vec<PageId> {
        let mut ids = Vec::with_capacity(count);
        let mut before = 0;
        for (first, len) in &self.runs {
            let len = u64::from(*len);
            let skip = from.saturating_sub(before).min(len);
            let take = (len - skip).min((count - ids.len()) as u64);
            ids.extend((0..take).map(|n| PageId::new(first.get() + skip + n)));
            before += len;
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: PageSize = DEFAULT_PAGE_SIZE;

    fn sample() -> Reference {
        let runs = vec![(PageId::new(7), 3), (PageId::new(region_bits(SIZE) + 1), 2), (PageId::new(2), 1)];
        Reference { len: 5 * 4064 + 1, lsn: Lsn::new(0x1122_3344_5566), runs }
    }

    #[test]
    fn reference_survives_encoding_and_lists_its_pages_in_order() {
        let reference = sample();
        let bytes = reference.encode();
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[16..24], (7 << 24 | 3u64).to_le_bytes());
        assert_eq!(Reference::decode(&bytes, SIZE), Ok(reference.clone()));
        let next = region_bits(SIZE) + 1;
        let all = [7, 8, 9, next, next + 1, 2].map(PageId::new);
        for from in 0..7 {
            for count in 0..7 {
                let expected: Vec<PageId> = all.iter().skip(from).take(count).copied().collect();
                assert_eq!(reference.ids(from as u64, count), expected);
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let bits = region_bits(SIZE);
        let with = |change: &dyn Fn(&mut Reference)| {
            let mut reference = sample();
            change(&mut reference);
            Reference::decode(&reference.encode(), SIZE)
        };
        assert!(with(&|_| {}).is_ok());
        for (number, change) in [
            (&|r: &mut Reference| r.len = 0) as &dyn Fn(&mut Reference),
            &|r| r.len += 4064,
            &|r| r.len -= 4064,
            &|r| r.len = MAX_VALUE_LEN + 1,
            &|r| r.runs[0].0 = PageId::new(0),
            &|r| r.runs[0].0 = PageId::new(bits),
            &|r| r.runs[0].0 = PageId::new(bits - 2),
            &|r| r.runs[0] = (PageId::new(7), 0),
            &|r| r.runs[0].0 = MAX_SWIP_PAGE,
            &|r| r.runs = vec![(PageId::new(1), 1); 49],
            &|r| r.runs.clear(),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(with(change).is_err(), "change {number}");
        }
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(Reference::decode(&bytes[..len], SIZE).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reference_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(reference) = Reference::decode(&bytes, SIZE) {
                prop_assert_eq!(reference.encode(), bytes);
            }
        }
    }
}
