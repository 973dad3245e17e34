//! The 4 KiB blocks that the log's stream is cut into.
//!
//! Invariant: a block that decodes is, byte for byte, one that this format wrote; which store, which generation and
//! which place it was written for stand in it, so that nothing else can be taken for it.
//!
//! ```text
//!            0         1         2         3         4         5         6         7
//!       ┌─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┬─────────┐
//!    0  │       CRC32C of all other bytes       │       magic       │ version │  flags  │
//!       ├─────────┴─────────┴─────────┴─────────┴─────────┴─────────┴─────────┴─────────┤
//!    8  │                                                                               │
//!   16  │                                  store UUID                                   │
//!       ├───────────────────────────────────────────────────────────────────────────────┤
//!   24  │                                  generation                                   │
//!   32  │                             LSN of this block                                 │
//!   40  │            durable up to: known to be durable when this was sealed            │
//!   48  │     previous end: end of the last whole group before this generation, or 0    │
//!       ├───────────────────┬───────────────────┬───────────────────────────────────────┤
//!   56  │       used        │    first group    │            segment blocks             │
//!       ├───────────────────┴───────────────────┴───────────────────────────────────────┤
//!   64  │ payload: `used` bytes of groups, then zeros                                   │
//!       └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! An LSN is a byte offset in the stream of blocks, headers included: payload byte `p` of block `n` is LSN
//! `4096 n + 64 + p`. The end of what fills a block to its last byte is the next block's LSN. The stream begins with
//! block 1, so that [`Lsn::ZERO`] comes before everything.

use pagestone_page_format::{FORMAT_VERSION, Lsn, StoreUuid, crc32c};

/// Bytes of a block: the unit of writing, and what a device at best writes whole.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of its header.
pub(crate) const HEADER: usize = 64;
/// Bytes of groups that it has room for.
pub(crate) const PAYLOAD: usize = BLOCK - HEADER;
/// The number of the first block of the stream.
pub(crate) const FIRST_BLOCK: u64 = 1;
/// `PL`, little-endian.
pub(crate) const MAGIC: u16 = u16::from_le_bytes(*b"PL");
/// In `first_group`: no group starts in this block.
pub(crate) const NO_GROUP: u16 = u16::MAX;

/// What a block behind the end is filled with when a generation begins. Not with zeros: a block that lacked nothing but a
/// sector of zeros would become whole by that if the wiping itself is torn.
pub(crate) const WIPED: u8 = 0xdb;

/// Nothing will be added to this block, however little of it is used: the stream goes on in the next one.
pub(crate) const CLOSED: u8 = 1;
/// The first block of its generation: the bytes before it that belong to no whole group belong to none at all.
pub(crate) const FIRST_OF_GENERATION: u8 = 2;
/// Recovery wrote this block home, and before that, durably, to a spare slot.
pub(crate) const SETTLED: u8 = 4;

const MAGIC_AT: usize = 4;
const VERSION_AT: usize = 6;
const FLAGS_AT: usize = 7;
const UUID_AT: usize = 8;
const GENERATION_AT: usize = 24;
const LSN_AT: usize = 32;
const DURABLE_AT: usize = 40;
const PREV_END_AT: usize = 48;
const USED_AT: usize = 56;
const FIRST_GROUP_AT: usize = 58;
const SEGMENT_BLOCKS_AT: usize = 60;
const _: () = assert!(UUID_AT + 16 == GENERATION_AT && SEGMENT_BLOCKS_AT + 4 == HEADER);
const _: () = assert!(BLOCK.is_power_of_two() && PAYLOAD < NO_GROUP as usize);

/// The decoded header of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockHeader {
    /// [`CLOSED`], [`FIRST_OF_GENERATION`], [`SETTLED`].
    pub(crate) flags: u8,
    /// Data blocks of the segment that the block was written to: tells a file that was cut (M9).
    pub(crate) segment_blocks: u32,
    /// The store that the log belongs to.
    pub(crate) uuid: StoreUuid,
    /// Which opening for writing wrote it.
    pub(crate) generation: u64,
    /// Its number in the stream.
    pub(crate) number: u64,
    /// Everything before this LSN was durable when the block was sealed.
    pub(crate) durable_up_to: Lsn,
    /// Only with [`FIRST_OF_GENERATION`]: the end of the last whole group before.
    pub(crate) prev_end: Lsn,
    /// Bytes of payload that are filled.
    pub(crate) used: u16,
    /// Where in the payload the first group begins that begins in this block, or [`NO_GROUP`].
    pub(crate) first_group: u16,
}

/// Why bytes are no block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotABlock {
    /// Never written.
    Blank,
    /// Recovery found no block there that it believed.
    Wiped,
    /// No block of the log, or not all of one.
    Torn,
    /// A whole block of another format version.
    Version(u8),
}

impl BlockHeader {
    /// Whether the stream leaves this block behind: it is full, or was closed.
    pub(crate) fn is_final(&self) -> bool {
        self.has(CLOSED) || usize::from(self.used) == PAYLOAD
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// LSN behind its last used byte.
    pub(crate) fn end(&self) -> Lsn {
        lsn_behind(self.number, self.used.into())
    }

    /// What this block proves to have been durable before it was sealed. A first block was sealed only after recovery
    /// had read and synced everything in front of it.
    pub(crate) fn claim(&self) -> Lsn {
        if self.has(FIRST_OF_GENERATION) {
            self.durable_up_to.max(block_lsn(self.number))
        } else {
            self.durable_up_to
        }
    }

    /// Writes the header and stamps the checksum over the whole block. `block` is [`BLOCK`] bytes long.
    pub(crate) fn seal(&self, block: &mut [u8]) {
        block[MAGIC_AT..VERSION_AT].copy_from_slice(&MAGIC.to_le_bytes());
        block[VERSION_AT] = FORMAT_VERSION;
        block[FLAGS_AT] = self.flags;
        block[UUID_AT..GENERATION_AT].copy_from_slice(self.uuid.bytes());
        block[GENERATION_AT..LSN_AT].copy_from_slice(&self.generation.to_le_bytes());
        block[LSN_AT..DURABLE_AT].copy_from_slice(&block_lsn(self.number).get().to_le_bytes());
        block[DURABLE_AT..PREV_END_AT].copy_from_slice(&self.durable_up_to.get().to_le_bytes());
        block[PREV_END_AT..USED_AT].copy_from_slice(&self.prev_end.get().to_le_bytes());
        block[USED_AT..FIRST_GROUP_AT].copy_from_slice(&self.used.to_le_bytes());
        block[FIRST_GROUP_AT..SEGMENT_BLOCKS_AT].copy_from_slice(&self.first_group.to_le_bytes());
        block[SEGMENT_BLOCKS_AT..HEADER].copy_from_slice(&self.segment_blocks.to_le_bytes());
        stamp(block);
    }

    /// Reads and verifies a block, whatever the bytes. `block` is [`BLOCK`] bytes long.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, NotABlock> {
        let Some((header, payload)) = block.split_first_chunk::<HEADER>() else {
            return Err(NotABlock::Torn);
        };
        if block.len() != BLOCK || u16_at(header, MAGIC_AT) != MAGIC {
            // Most blocks of a young log are blank, and all of a recovery looks at them: compared as a whole, not byte by byte.
            return Err(match block {
                blank if *blank == BLANK_BYTES => NotABlock::Blank,
                wiped if *wiped == WIPED_BYTES => NotABlock::Wiped,
                _ => NotABlock::Torn,
            });
        }
        if u32_at(header, 0) != crc32c(&block[MAGIC_AT..]) {
            return Err(NotABlock::Torn);
        }
        if header[VERSION_AT] != FORMAT_VERSION {
            return Err(NotABlock::Version(header[VERSION_AT]));
        }
        let lsn = u64_at(header, LSN_AT);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&header[UUID_AT..GENERATION_AT]);
        let decoded = Self {
            flags: header[FLAGS_AT],
            segment_blocks: u32_at(header, SEGMENT_BLOCKS_AT),
            uuid: StoreUuid::new(uuid),
            generation: u64_at(header, GENERATION_AT),
            number: lsn / BLOCK as u64,
            durable_up_to: Lsn::new(u64_at(header, DURABLE_AT)),
            prev_end: Lsn::new(u64_at(header, PREV_END_AT)),
            used: u16_at(header, USED_AT),
            first_group: u16_at(header, FIRST_GROUP_AT),
        };
        let used = usize::from(decoded.used);
        let well_formed = decoded.flags & !(CLOSED | FIRST_OF_GENERATION | SETTLED) == 0
            && lsn.is_multiple_of(BLOCK as u64)
            && (FIRST_BLOCK..LAST_BLOCK).contains(&decoded.number)
            && (1..=PAYLOAD).contains(&used)
            && (decoded.first_group < decoded.used || decoded.first_group == NO_GROUP)
            && (decoded.has(FIRST_OF_GENERATION) || decoded.prev_end == Lsn::ZERO)
            && decoded.prev_end.get() <= lsn
            && payload[used..].iter().all(|byte| *byte == 0);
        if well_formed { Ok(decoded) } else { Err(NotABlock::Torn) }
    }
}

const BLANK_BYTES: [u8; BLOCK] = [0; BLOCK];
const WIPED_BYTES: [u8; BLOCK] = [WIPED; BLOCK];

/// Past the last block that may be: keeps LSN arithmetic far from overflow on hostile bytes.
const LAST_BLOCK: u64 = 1 << 50;

/// LSN of a block.
pub(crate) const fn block_lsn(number: u64) -> Lsn {
    Lsn::new(number * BLOCK as u64)
}

/// LSN of the payload byte at `at`, where something begins.
pub(crate) const fn lsn_at(number: u64, at: usize) -> Lsn {
    Lsn::new(number * BLOCK as u64 + (HEADER + at) as u64)
}

/// LSN behind `used` bytes of payload, where something ended.
pub(crate) const fn lsn_behind(number: u64, used: usize) -> Lsn {
    if used == PAYLOAD { block_lsn(number + 1) } else { lsn_at(number, used) }
}

/// The block that an LSN lies in, and where in its payload; a block's own LSN is its payload's first byte.
pub(crate) const fn position(lsn: Lsn) -> (u64, usize) {
    let at = (lsn.get() % BLOCK as u64) as usize;
    (lsn.get() / BLOCK as u64, at.saturating_sub(HEADER))
}

/// Clears the header of a block that is about to be filled.
pub(crate) fn begin(block: &mut [u8]) {
    block[..HEADER].fill(0);
    block[FIRST_GROUP_AT..SEGMENT_BLOCKS_AT].copy_from_slice(&NO_GROUP.to_le_bytes());
}

/// Notes in an unsealed block that a group begins at `at`, if it is the first one to.
pub(crate) fn note_group(block: &mut [u8], at: usize) {
    if first_group(block) == NO_GROUP {
        block[FIRST_GROUP_AT..SEGMENT_BLOCKS_AT].copy_from_slice(&(at as u16).to_le_bytes());
    }
}

/// Where the first group of an unsealed block begins.
pub(crate) fn first_group(block: &[u8]) -> u16 {
    u16::from_le_bytes([block[FIRST_GROUP_AT], block[FIRST_GROUP_AT + 1]])
}

/// Writes the checksum of all other bytes in front of them.
fn stamp(block: &mut [u8]) {
    let checksum = crc32c(&block[MAGIC_AT..]);
    block[..MAGIC_AT].copy_from_slice(&checksum.to_le_bytes());
}

fn u16_at(bytes: &[u8; HEADER], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (BlockHeader, Vec<u8>) {
        let header = BlockHeader {
            flags: CLOSED | FIRST_OF_GENERATION,
            segment_blocks: 0x0102_0304,
            uuid: StoreUuid::new(*b"0123456789abcdef"),
            generation: 0x1112_1314_1516_1718,
            number: 0x0a_2122,
            durable_up_to: Lsn::new(0x3132_3334),
            prev_end: Lsn::new(0x4142_4344),
            used: 300,
            first_group: 17,
        };
        let mut block = vec![0; BLOCK];
        block[HEADER..HEADER + 300].fill(0x5a);
        header.seal(&mut block);
        (header, block)
    }

    #[test]
    fn header_survives_encoding_with_every_field_different() {
        let (header, block) = sample();
        assert_eq!(BlockHeader::decode(&block), Ok(header));
        assert_eq!(&block[4..8], &[b'P', b'L', 1, 3]);
        assert_eq!(&block[60..64], &[4, 3, 2, 1]);
        assert_eq!(&block[LSN_AT..DURABLE_AT], &(0x0a_2122u64 * 4096).to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (_, mut block) = sample();
        for at in 0..BLOCK {
            for bit in 0..8 {
                block[at] ^= 1 << bit;
                assert!(BlockHeader::decode(&block).is_err(), "byte {at} bit {bit}");
                block[at] ^= 1 << bit;
            }
        }
    }

    /// The checksum stands before its message and not behind it, so that by itself it would miss some bursts that begin in it. The magic
    /// between them is compared by itself: a burst of 32 bits reaches few bits behind it, and none of those goes unseen.
    #[test]
    fn every_burst_that_begins_in_the_checksum_is_found() {
        let (_, mut block) = sample();
        let whole = crc32c(&block[MAGIC_AT..]);
        for outside in 17..32 {
            let unseen = u32::MAX >> (32 - outside);
            let mut reduced: Vec<u32> = Vec::new();
            for bit in VERSION_AT * 8..MAGIC_AT * 8 + outside {
                block[bit / 8] ^= 1 << (bit % 8);
                let difference = (crc32c(&block[MAGIC_AT..]) ^ whole) & unseen;
                block[bit / 8] ^= 1 << (bit % 8);
                let rest = reduced.iter().fold(difference, |row, other| row.min(row ^ other));
                assert_ne!(rest, 0, "some of the {outside} bits behind the field");
                reduced.push(rest);
            }
        }
    }

    /// A log of 4 MiB as it stands on disk, one byte of it changed at a time.
    #[test]
    fn every_byte_of_four_mebibytes_counts() {
        const BYTES: usize = 4 << 20;
        let mut random = pagestone_testkit::Rng::new(4);
        let (mut block, mut bytes, mut number) = (vec![0; BLOCK], 0, FIRST_BLOCK);
        while bytes < BYTES {
            // Full ones, closed ones with little in them, and everything between.
            let used =
                if number.is_multiple_of(3) { PAYLOAD } else { 1 + random.below(PAYLOAD as u64) as usize };
            begin(&mut block);
            random.fill(&mut block[HEADER..HEADER + used]);
            block[HEADER + used..].fill(0);
            let header = BlockHeader {
                number,
                flags: random.below(2) as u8 * CLOSED,
                generation: 1 + number / 100,
                durable_up_to: Lsn::new(block_lsn(number).get() - random.below(BLOCK as u64)),
                prev_end: Lsn::ZERO,
                used: used as u16,
                first_group: NO_GROUP,
                ..sample().0
            };
            header.seal(&mut block);
            assert_eq!(BlockHeader::decode(&block), Ok(header));
            for at in 0..BLOCK {
                let change = 1 + random.below(255) as u8;
                block[at] ^= change;
                let decoded = BlockHeader::decode(&block);
                assert!(decoded.is_err(), "byte {at} of block {number} changed by {change:#x}: {decoded:?}");
                block[at] ^= change;
            }
            (bytes, number) = (bytes + BLOCK, number + 1);
        }
    }

    #[test]
    fn blank_short_and_foreign_bytes_are_told_apart() {
        assert_eq!(BlockHeader::decode(&[0; BLOCK]), Err(NotABlock::Blank));
        assert_eq!(BlockHeader::decode(&[WIPED; BLOCK]), Err(NotABlock::Wiped));
        assert_eq!(BlockHeader::decode(&[7; BLOCK]), Err(NotABlock::Torn));
        assert_eq!(BlockHeader::decode(&[]), Err(NotABlock::Torn));
        assert_eq!(BlockHeader::decode(&sample().1[..BLOCK - 1]), Err(NotABlock::Torn));
        let mut other = sample().1;
        other[VERSION_AT] = 9;
        stamp(&mut other);
        assert_eq!(BlockHeader::decode(&other), Err(NotABlock::Version(9)));
    }

    #[test]
    fn lsn_and_position_agree() {
        assert_eq!(lsn_at(1, 0), Lsn::new(4160));
        assert_eq!(lsn_behind(1, PAYLOAD), block_lsn(2));
        assert_eq!(lsn_behind(1, 10), Lsn::new(4170));
        assert_eq!(position(block_lsn(2)), (2, 0));
        assert_eq!(position(lsn_at(2, 0)), (2, 0));
        assert_eq!(position(lsn_at(2, 4031)), (2, 4031));
    }

    proptest! {
        #[test]
        fn hostile_headers_under_a_right_checksum_never_panic(mut bytes in prop::collection::vec(any::<u8>(), BLOCK), plausible in any::<bool>()) {
            bytes[MAGIC_AT..VERSION_AT].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[VERSION_AT] = FORMAT_VERSION;
            if plausible {
                bytes[FLAGS_AT] &= 7;
                bytes[LSN_AT + 6..LSN_AT + 8].fill(0);
                bytes[LSN_AT] = 0;
                bytes[LSN_AT + 1] &= 0xf0;
                bytes[USED_AT + 1] &= 0x0f;
                let used = usize::from(u16::from_le_bytes([bytes[USED_AT], bytes[USED_AT + 1]])).min(PAYLOAD);
                bytes[HEADER + used..].fill(0);
            }
            stamp(&mut bytes);
            if let Ok(header) = BlockHeader::decode(&bytes) {
                prop_assert!(usize::from(header.used) <= PAYLOAD);
                let mut again = bytes.clone();
                header.seal(&mut again);
                prop_assert_eq!(again, bytes);
                let _ = (header.end(), header.claim(), header.is_final());
            }
        }
    }
}
