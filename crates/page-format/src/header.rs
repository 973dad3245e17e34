//! The 32 bytes in front of every page.
//!
//! ```text
//!            0         1         2         3         4         5         6         7
//!       ┌─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┐
//!    0  │       magic       │ version │  kind   │     swips at      │    swip count     │
//!       ├─────────┴─────────┴─────────┴─────────┴─────────┴─────────┴─────────┴─────────┤
//!    8  │                                   page id                                     │
//!   16  │                                     LSN                                       │
//!   24  │                 checksum (CRC32C in the low half, or CRC-64)                  │
//!       └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! `swips at` counts 8-byte words from the start of the page: there stand `swip count` swips, whose hints are masked out
//! of every image that leaves the pool, so that this crate needs to know nothing else about the page.

use crate::{Lsn, PageError, PageId, PageResult};

/// Bytes of the header.
pub const PAGE_HEADER_SIZE: usize = 32;
/// `PG`, little-endian.
pub const PAGE_MAGIC: u16 = u16::from_le_bytes(*b"PG");
/// The format version of pages, superblocks and log; any other is refused.
pub const FORMAT_VERSION: u8 = 1;

pub(crate) const ID_AT: usize = 8;
pub(crate) const LSN_AT: usize = 16;
pub(crate) const CHECKSUM_AT: usize = 24;
const _: () = assert!(CHECKSUM_AT + 8 == PAGE_HEADER_SIZE);

/// What a page is, for its owner and for tools. Kinds below 128 are pagestone's own, the rest is for engines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PageKind(pub u8);

impl PageKind {
    /// A page of a plain page file.
    pub const PLAIN: PageKind = PageKind(0);
    /// A page of the space map.
    pub const SPACE_MAP: PageKind = PageKind(1);
    /// A leaf of a B+tree.
    pub const LEAF: PageKind = PageKind(2);
    /// An inner node of a B+tree.
    pub const INNER: PageKind = PageKind(3);
    /// A page of a value that is too long for a leaf: bytes of the value and nothing else.
    pub const VALUE: PageKind = PageKind(4);
    /// The root of an allocator that is durable by itself.
    pub const ALLOCATOR_ROOT: PageKind = PageKind(5);
    /// A map page of such an allocator.
    pub const ALLOCATOR_MAP: PageKind = PageKind(6);
    /// A page of such an allocator that says where map pages stand, or other pages of this kind.
    pub const ALLOCATOR_INDEX: PageKind = PageKind(7);
}

/// Where a page keeps its references to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwipArray {
    /// First word, counted in 8 bytes from the start of the page.
    pub at_word: u16,
    /// Number of swips.
    pub count: u16,
}

/// The decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageHeader {
    /// Always [`PAGE_MAGIC`] in a valid page.
    pub magic: u16,
    /// Always [`FORMAT_VERSION`] in a valid page.
    pub version: u8,
    /// What the page is.
    pub kind: PageKind,
    /// Where its swips stand.
    pub swips: SwipArray,
    /// Which page it is.
    pub page_id: PageId,
    /// End LSN of the last group that changed it (L1).
    pub lsn: Lsn,
    /// Over every other byte of the page, seeded with the file's UUID.
    pub checksum: u64,
}

impl PageHeader {
    /// A fresh header, without a checksum yet.
    pub const fn new(kind: PageKind, page_id: PageId) -> Self {
        Self {
            magic: PAGE_MAGIC,
            version: FORMAT_VERSION,
            kind,
            swips: SwipArray { at_word: 0, count: 0 },
            page_id,
            lsn: Lsn::ZERO,
            checksum: 0,
        }
    }

    /// The first word of the page: magic, version, kind, swips.
    pub const fn first_word(&self) -> u64 {
        self.magic as u64
            | (self.version as u64) << 16
            | (self.kind.0 as u64) << 24
            | (self.swips.at_word as u64) << 32
            | (self.swips.count as u64) << 48
    }

    /// Takes the header's four words apart.
    pub const fn from_words(words: [u64; 4]) -> Self {
        let first = words[0];
        Self {
            magic: first as u16,
            version: (first >> 16) as u8,
            kind: PageKind((first >> 24) as u8),
            swips: SwipArray { at_word: (first >> 32) as u16, count: (first >> 48) as u16 },
            page_id: PageId::new(words[1]),
            lsn: Lsn::new(words[2]),
            checksum: words[3],
        }
    }

    /// Reads the header in front of a page's bytes. `None` if there are fewer than 32.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<PAGE_HEADER_SIZE>()?;
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(header.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Some(Self::from_words(words))
    }

    /// Writes the header in front of a page's bytes; does nothing if there are fewer than 32.
    pub fn encode(&self, bytes: &mut [u8]) {
        let words = [self.first_word(), self.page_id.get(), self.lsn.get(), self.checksum];
        for (word, chunk) in words.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *chunk = word.to_le_bytes();
        }
    }

    /// Checks magic and version.
    pub fn check(&self, requested: PageId) -> PageResult<()> {
        if self.magic != PAGE_MAGIC {
            return Err(PageError::BadMagic { page_id: requested, found: self.magic, expected: PAGE_MAGIC });
        }
        if self.version != FORMAT_VERSION {
            return Err(PageError::UnsupportedVersion {
                found: self.version.into(),
                supported: FORMAT_VERSION.into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_encoding_with_every_field_different() {
        let header = PageHeader {
            magic: PAGE_MAGIC,
            version: 1,
            kind: PageKind(0x5a),
            swips: SwipArray { at_word: 0x1234, count: 0x4321 },
            page_id: PageId::new(0x0102_0304_0506_0708),
            lsn: Lsn::new(0x1112_1314_1516_1718),
            checksum: 0x2122_2324_2526_2728,
        };
        let mut bytes = [0xff; PAGE_HEADER_SIZE + 1];
        header.encode(&mut bytes);
        assert_eq!(PageHeader::decode(&bytes), Some(header));
        assert_eq!(&bytes[..4], &[b'P', b'G', 1, 0x5a]);
        assert_eq!(bytes[PAGE_HEADER_SIZE], 0xff);
        assert_eq!(PageHeader::decode(&bytes[..31]), None);
    }
}
