//! One block of metadata: some words of a region's map or directory.
//!
//! Invariant: a block that decodes is whole, of this file and of its place.
//!
//! ```text
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGMBLOCK"                                             │
//!   8  │ number of the block: region · 64 + block in it                │
//!  16  │ sequence of the commit that wrote it                          │
//!  24  │ zeros                                                         │
//!  56  │ CRC32C of UUID and all other bytes                            │
//!  64  │ 504 words                                                     │
//!      └───────────────────────────────────────────────────────────────┘
//!
//!   block 0 of a region   256 words of its map, bit i of word w: page 64 w + i is in use │ entries of the directory │ zeros
//!   block n               252 entries of two words (`directory.rs`)
//! ```

use pagestone_page_format::{Crc32c, StoreUuid};

use crate::layout::{BLOCK, BLOCK_WORDS, BlockId};

const MAGIC: [u8; 8] = *b"PGMBLOCK";
const CHECKSUM_AT: usize = 56;
const WORDS_AT: usize = 64;

const _: () = assert!(WORDS_AT + BLOCK_WORDS * 8 == BLOCK);

/// A block that was read, or is to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) id: BlockId,
    /// Of the commit that wrote it: never 0.
    pub(crate) sequence: u64,
    pub(crate) words: Vec<u64>,
}

impl Block {
    /// The bytes, and the checksum in them.
    pub(crate) fn encode(&self, uuid: StoreUuid) -> (Vec<u8>, u32) {
        let mut bytes = vec![0; BLOCK];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        for (bytes, word) in bytes[WORDS_AT..].chunks_exact_mut(8).zip(&self.words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let checksum = checksum(&bytes, uuid);
        bytes[CHECKSUM_AT..WORDS_AT].copy_from_slice(&u64::from(checksum).to_le_bytes());
        (bytes, checksum)
    }

    /// The block and its checksum, if these 4096 bytes are one, and this one.
    pub(crate) fn decode(bytes: &[u8], uuid: StoreUuid, id: BlockId) -> Option<(Self, u32)> {
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let sequence = u64_at(16);
        // Cheap looks first: most slots of a large file are empty.
        if bytes[..8] != MAGIC || u64_at(8) != id.0 || sequence == 0 {
            return None;
        }
        let checksum = checksum(bytes, uuid);
        if u64_at(CHECKSUM_AT) != u64::from(checksum) || bytes[24..CHECKSUM_AT].iter().any(|byte| *byte != 0)
        {
            return None;
        }
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let words = bytes[WORDS_AT..].chunks_exact(8).map(word).collect();
        Some((Self { id, sequence, words }, checksum))
    }
}

fn checksum(bytes: &[u8], uuid: StoreUuid) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(uuid.bytes());
    crc.update(&bytes[..CHECKSUM_AT]);
    crc.update(&bytes[WORDS_AT..]);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_survives_encoding_and_every_flipped_byte_is_found() {
        let (uuid, id) = (StoreUuid::new([5; 16]), BlockId::new(3, 2));
        let words = (0..BLOCK_WORDS as u64).map(|word| word * word).collect();
        let block = Block { id, sequence: 9, words };
        let (bytes, checksum) = block.encode(uuid);
        assert_eq!(Block::decode(&bytes, uuid, id), Some((block, checksum)));
        assert_eq!(Block::decode(&bytes, uuid, BlockId::new(3, 1)), None);
        assert_eq!(Block::decode(&bytes, StoreUuid::new([6; 16]), id), None);
        for at in 0..BLOCK {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert_eq!(Block::decode(&broken, uuid, id), None, "byte {at}");
        }
    }
}
