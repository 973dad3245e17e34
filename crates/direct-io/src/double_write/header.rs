//! The first slot of a region: what stands in the slots behind it.
//!
//! ```text
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGDWRITE"                                             │
//!   8  │ format version                │ page size, bytes              │
//!  16  │ UUID                                                          │
//!  24  │                                                               │
//!  32  │ sequence                                                      │
//!  40  │ needed from: no region with a lower sequence is needed        │
//!  48  │ copies                        │ 0                             │
//!  56  │ 0                                                             │
//!  64  │ for each copy: page id, LSN; then 0                           │
//!      │                               ┌───────────────────────────────┤
//! 4088 │                               │ CRC32C of all before          │
//!      └───────────────────────────────┴───────────────────────────────┘ 4096
//! ```
//!
//! The checksum stands right behind its message, so that every burst of up to 32 bits is found, one that reaches into it as well.
//! No page begins like this: its third byte is the format version, which is no `D`.

use pagestone_page_format::{
    FORMAT_VERSION, Lsn, PageError, PageId, PageResult, PageSize, StoreUuid, crc32c,
};

pub(super) const HEADER_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"PGDWRITE";
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const COPIES_AT: usize = 64;
const COPY_BYTES: usize = 16;
/// So many copies can be listed in one region.
pub(super) const MAX_COPIES: usize = (CHECKSUM_AT - COPIES_AT) / COPY_BYTES;
const _: () = assert!(MAGIC[2] != FORMAT_VERSION && MAX_COPIES == 251);

/// A header, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    /// No region with a lower sequence is needed any more: what it copied is durable in its place, or stands in a later region.
    pub(super) needed_from: u64,
    /// The page in each slot behind the header.
    pub(super) copies: Vec<(PageId, Lsn)>,
}

impl Header {
    /// Writes the header into the first 4096 bytes of `slot`, and zeros behind it.
    pub(super) fn encode(&self, uuid: StoreUuid, size: PageSize, slot: &mut [u8]) {
        slot.fill(0);
        let block = &mut slot[..HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &u32::from(FORMAT_VERSION).to_le_bytes());
        put(12, &(size.get() as u32).to_le_bytes());
        put(16, uuid.bytes());
        put(32, &self.sequence.to_le_bytes());
        put(40, &self.needed_from.to_le_bytes());
        put(48, &(self.copies.len() as u32).to_le_bytes());
        for (index, (id, lsn)) in self.copies.iter().enumerate() {
            put(COPIES_AT + COPY_BYTES * index, &id.get().to_le_bytes());
            put(COPIES_AT + COPY_BYTES * index + 8, &lsn.get().to_le_bytes());
        }
        let checksum = crc32c(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the header at the start of `slot`, if there is a whole one of this store.
    ///
    /// Errors: `UnsupportedVersion` for a whole header of this store in another format: it may protect pages in a way that we do
    /// not understand.
    pub(super) fn decode(uuid: StoreUuid, size: PageSize, slot: &[u8]) -> PageResult<Option<Self>> {
        let Some(block) = slot.get(..HEADER_BYTES).filter(|block| block[..8] == MAGIC) else {
            return Ok(None);
        };
        let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(CHECKSUM_AT) != crc32c(&block[..CHECKSUM_AT]) || block[16..32] != uuid.bytes()[..] {
            return Ok(None);
        }
        if u32_at(8) != u32::from(FORMAT_VERSION) {
            return Err(PageError::UnsupportedVersion { found: u32_at(8), supported: FORMAT_VERSION.into() });
        }
        let count = u32_at(48) as usize;
        if u32_at(12) as usize != size.get() || count == 0 || count > MAX_COPIES {
            return Ok(None);
        }
        let copies: Vec<(PageId, Lsn)> = (0..count)
            .map(|index| COPIES_AT + COPY_BYTES * index)
            .map(|at| (PageId::new(u64_at(at)), Lsn::new(u64_at(at + 8))))
            .collect();
        let legal = copies.iter().all(|(id, _)| *id <= PageId::MAX);
        Ok(legal.then_some(Self { sequence: u64_at(32), needed_from: u64_at(40), copies }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_page_format::DEFAULT_PAGE_SIZE;

    const UUID: StoreUuid = StoreUuid::new([5; 16]);

    fn sample(copies: u64) -> Header {
        let copies = (0..copies).map(|n| (PageId::new(n * 3), Lsn::new(n * 5 + 1))).collect();
        Header { sequence: 77, needed_from: 70, copies }
    }

    fn encoded(header: &Header) -> Vec<u8> {
        let mut slot = vec![0; 4096];
        header.encode(UUID, DEFAULT_PAGE_SIZE, &mut slot);
        slot
    }

    fn decode(slot: &[u8]) -> Option<Header> {
        Header::decode(UUID, DEFAULT_PAGE_SIZE, slot).expect("this version")
    }

    #[test]
    fn header_survives_encoding_and_every_flipped_byte_is_found() {
        for copies in [1, 2, MAX_COPIES as u64] {
            let (header, slot) = (sample(copies), encoded(&sample(copies)));
            assert_eq!(decode(&slot).as_ref(), Some(&header));
            for at in 0..slot.len() {
                let mut broken = slot.clone();
                broken[at] ^= 0x20;
                assert_eq!(decode(&broken), None, "byte {at}");
            }
        }
    }

    /// A burst goes unseen if what it does to the checksum is what it does to the field: nothing outside of its part there.
    #[test]
    fn every_burst_that_ends_in_the_checksum_is_found() {
        let mut block = encoded(&sample(3));
        let whole = crc32c(&block[..CHECKSUM_AT]);
        for outside in 1..32 {
            let unseen = !0 << (32 - outside);
            let mut reduced: Vec<u32> = Vec::new();
            for bit in CHECKSUM_AT * 8 - outside..CHECKSUM_AT * 8 {
                block[bit / 8] ^= 1 << (bit % 8);
                let difference = (crc32c(&block[..CHECKSUM_AT]) ^ whole) & unseen;
                block[bit / 8] ^= 1 << (bit % 8);
                let rest = reduced.iter().fold(difference, |row, other| row.min(row ^ other));
                assert_ne!(rest, 0, "some of the {outside} bits before the field");
                reduced.push(rest);
            }
        }
    }

    #[test]
    fn what_is_no_header_of_this_store_is_none() {
        let slot = encoded(&sample(3));
        assert_eq!(decode(&slot[..4095]), None);
        assert_eq!(decode(&[0; 4096]), None);
        let other = Header::decode(StoreUuid::new([6; 16]), DEFAULT_PAGE_SIZE, &slot).expect("not ours");
        assert_eq!(other, None);
        let size = PageSize::new(8192).expect("a size");
        assert_eq!(Header::decode(UUID, size, &slot).expect("not ours"), None);
    }

    #[test]
    fn hostile_header_under_a_valid_checksum_is_none_or_an_error() {
        let forged = |at: usize, bytes: &[u8]| {
            let mut slot = encoded(&sample(3));
            slot[at..at + bytes.len()].copy_from_slice(bytes);
            let checksum = crc32c(&slot[..CHECKSUM_AT]);
            slot[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
            slot
        };
        for count in [0, MAX_COPIES as u32 + 1, u32::MAX] {
            assert_eq!(decode(&forged(48, &count.to_le_bytes())), None, "{count} copies");
        }
        assert_eq!(decode(&forged(COPIES_AT, &u64::MAX.to_le_bytes())), None, "a page that no file can have");
        let error = Header::decode(UUID, DEFAULT_PAGE_SIZE, &forged(8, &9u32.to_le_bytes()));
        assert!(matches!(error, Err(PageError::UnsupportedVersion { found: 9, .. })), "{error:?}");
    }
}
