//! What is fixed when a file is made, in two copies.
//!
//! Invariant: both copies are written before the file gets its name and never again, so a file under its name has at least one that is
//! whole unless its medium was damaged; and what is not ours is found before anything is mapped or written (R7).
//!
//! ```text
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGMAPPED"                                             │
//!   8  │ format version                │ page size, log2               │
//!  16  │ UUID                                                          │
//!  24  │                                                               │
//!  32  │ flags: bit 0, blocks are not reserved │ zeros up to 4088      │
//! 4088 │ CRC32C of all before                                          │
//!      └───────────────────────────────────────────────────────────────┘
//! ```

use pagestone_direct_io::{File, read_exact_at, write_all_at};
use pagestone_page_format::{FORMAT_VERSION, StoreUuid, crc32c};

use crate::layout::{BLOCK, LOG2_MAX, LOG2_MIN, REGIONS_AT};
use crate::{MappedPageError, MappedResult};

const MAGIC: [u8; 8] = *b"PGMAPPED";
const FLAGS_AT: usize = 32;
const FIELDS_END: usize = 40;
const CHECKSUM_AT: usize = BLOCK - 8;
const SPARSE: u64 = 1;

const _: () = assert!(FLAGS_AT + 8 == FIELDS_END && CHECKSUM_AT == 4088 && 2 * BLOCK as u64 <= REGIONS_AT);

/// What is fixed when a file is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Superblock {
    pub(crate) page_log2: u32,
    pub(crate) uuid: StoreUuid,
    /// Whether blocks are reserved for what is mapped to write.
    pub(crate) reserve: bool,
}

impl Superblock {
    fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&u32::from(FORMAT_VERSION).to_le_bytes());
        block[12..16].copy_from_slice(&self.page_log2.to_le_bytes());
        block[16..32].copy_from_slice(self.uuid.bytes());
        let flags = if self.reserve { 0 } else { SPARSE };
        block[FLAGS_AT..FIELDS_END].copy_from_slice(&flags.to_le_bytes());
        let checksum = u64::from(crc32c(&block[..CHECKSUM_AT]));
        block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    fn decode(block: &[u8]) -> Result<Self, String> {
        if block.len() != BLOCK {
            return Err(format!("{} of {BLOCK} bytes", block.len()));
        }
        if block[..8] != MAGIC {
            return Err("no file of mapped pages begins like this".into());
        }
        let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        let (stored, computed) = (u64_at(CHECKSUM_AT), u64::from(crc32c(&block[..CHECKSUM_AT])));
        if stored != computed {
            return Err(format!("checksum {stored:#x} stored, {computed:#x} computed"));
        }
        let (version, flags, page_log2) = (u32_at(8), u64_at(FLAGS_AT), u32_at(12));
        if version != u32::from(FORMAT_VERSION) {
            return Err(format!("format version {version}, this is {FORMAT_VERSION}"));
        }
        if flags & !SPARSE != 0 || block[FIELDS_END..CHECKSUM_AT].iter().any(|byte| *byte != 0) {
            return Err("fields that this version does not have".into());
        }
        if !(LOG2_MIN..=LOG2_MAX).contains(&page_log2) {
            return Err(format!("pages of 2^{page_log2} bytes"));
        }
        let uuid = StoreUuid::new(block[16..32].try_into().expect("sixteen bytes"));
        Ok(Self { page_log2, uuid, reserve: flags & SPARSE == 0 })
    }

    /// Writes both copies. The caller syncs.
    pub(crate) fn write(&self, file: &dyn File) -> MappedResult<()> {
        let block = self.encode();
        (0..2).try_for_each(|copy| {
            write_all_at(file, &block, copy * BLOCK as u64)
                .map_err(|error| MappedPageError::io("write the superblock", error))
        })
    }

    /// The copy that is whole, or what both say. `CorruptSuperblock` if neither is, or if both are and differ.
    pub(crate) fn read(file: &dyn File) -> MappedResult<Self> {
        let mut blocks = vec![0; 2 * BLOCK];
        let got = read_exact_at(file, &mut blocks, 0)
            .map_err(|error| MappedPageError::io("read the superblock", error))?;
        let corrupt = |reason| Err(MappedPageError::CorruptSuperblock { reason });
        if got < blocks.len() {
            return corrupt(format!("{got} bytes are no file of mapped pages"));
        }
        match (Self::decode(&blocks[..BLOCK]), Self::decode(&blocks[BLOCK..])) {
            (Ok(first), Ok(second)) if first == second => Ok(first),
            (Ok(_), Ok(_)) => corrupt("the two copies are of two files".into()),
            (Ok(whole), Err(_)) | (Err(_), Ok(whole)) => Ok(whole),
            (Err(first), Err(second)) if first == second => corrupt(first),
            (Err(first), Err(second)) => corrupt(format!("{first}; in the second copy, {second}")),
        }
    }

    /// Whether the file is what a creation can leave that was cut before it gave the file its name: nothing, or ours or zeros at its
    /// head. What is anything else is somebody's.
    pub(crate) fn may_be_unfinished(file: &dyn File) -> MappedResult<bool> {
        let mut head = vec![0; BLOCK];
        let got = read_exact_at(file, &mut head, 0)
            .map_err(|error| MappedPageError::io("read the superblock", error))?;
        let magic = head.iter().zip(MAGIC).all(|(found, ours)| [0, ours].contains(found));
        let zeros = head[FIELDS_END..CHECKSUM_AT].iter().all(|byte| *byte == 0);
        Ok(got == 0 || (magic && zeros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_survives_encoding_and_every_flipped_byte_is_found() {
        for reserve in [false, true] {
            let superblock = Superblock { page_log2: 10, uuid: StoreUuid::new([9; 16]), reserve };
            let block = superblock.encode();
            assert_eq!(Superblock::decode(&block), Ok(superblock));
            for at in 0..BLOCK {
                let mut broken = block.clone();
                broken[at] ^= 0x40;
                Superblock::decode(&broken).expect_err("a flipped byte is found wherever it stands");
            }
        }
    }
}
