//! What a page file says of itself.
//!
//! Invariant: both copies are written before the file gets its name and never again, so a file under its name has at least one
//! that is whole unless its medium was damaged, and no opening writes to what it does not understand (R7).
//!
//! ```text
//!   file:  [ copy A, 4096 ][ copy B, 4096 ][ page 0 ][ page 1 ] ...
//!
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGPAGES\0"                                            │
//!   8  │ format version                │ page size, bytes              │
//!  16  │ UUID                                                          │
//!  24  │                                                               │
//!  32  │ checksum kind │ zeros up to 4088                              │
//! 4088 │ CRC32C of all before                                          │
//!      └───────────────────────────────────────────────────────────────┘
//! ```

use pagestone_page_format::{
    AlignedBuf, ChecksumKind, FORMAT_VERSION, PageError, PageResult, PageSize, StoreUuid, crc32c,
};

use crate::{File, read_exact_at, write_all_at};

/// Bytes of one copy.
const COPY_BYTES: usize = 4096;
/// Where page 0 begins.
pub(super) const PAGES_AT: u64 = 2 * COPY_BYTES as u64;
const MAGIC: [u8; 8] = *b"PGPAGES\0";
/// Where the zeros begin.
const FIELDS_END: usize = 33;
const CHECKSUM_AT: usize = COPY_BYTES - 8;

/// What is fixed when a page file is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Superblock {
    pub(super) page_size: PageSize,
    pub(super) uuid: StoreUuid,
    pub(super) checksum: ChecksumKind,
}

impl Superblock {
    fn encode(&self) -> AlignedBuf {
        let mut block = AlignedBuf::zeroed(COPY_BYTES);
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&u32::from(FORMAT_VERSION).to_le_bytes());
        block[12..16].copy_from_slice(&(self.page_size.get() as u32).to_le_bytes());
        block[16..32].copy_from_slice(self.uuid.bytes());
        block[32] = self.checksum as u8;
        let checksum = u64::from(crc32c(&block[..CHECKSUM_AT]));
        block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    fn decode(block: &[u8]) -> PageResult<Self> {
        let invalid = |reason: String| PageError::InvalidSuperblock { reason };
        if block.len() != COPY_BYTES {
            return Err(invalid(format!("{} of {COPY_BYTES} bytes", block.len())));
        }
        if block[..8] != MAGIC {
            return Err(invalid("no page file begins like this".into()));
        }
        let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let stored = u64::from_le_bytes(block[CHECKSUM_AT..].try_into().expect("eight bytes"));
        let computed = u64::from(crc32c(&block[..CHECKSUM_AT]));
        if stored != computed {
            return Err(invalid(format!("checksum {stored:#x} stored, {computed:#x} computed")));
        }
        let version = u32_at(8);
        if version != u32::from(FORMAT_VERSION) {
            return Err(PageError::UnsupportedVersion { found: version, supported: FORMAT_VERSION.into() });
        }
        Ok(Self {
            page_size: PageSize::new(u32_at(12) as usize)?,
            uuid: StoreUuid::new(block[16..32].try_into().expect("sixteen bytes")),
            checksum: ChecksumKind::from_number(block[32])
                .ok_or_else(|| invalid(format!("checksum kind {}", block[32])))?,
        })
    }

    /// Writes both copies. The caller syncs.
    pub(super) fn write(&self, file: &dyn File) -> PageResult<()> {
        let block = self.encode();
        (0..2).try_for_each(|copy| {
            write_all_at(file, &block, copy * COPY_BYTES as u64)
                .map_err(|error| PageError::io("write the superblock", error))
        })
    }

    /// Whether the file is what a creation can leave that was cut before it gave the file its name: at most the two copies, of
    /// each sector what was written or zeros. What is anything else is somebody's.
    pub(super) fn may_be_unfinished(file: &dyn File) -> PageResult<bool> {
        let mut bytes = AlignedBuf::zeroed(PAGES_AT as usize + COPY_BYTES);
        let got = read_exact_at(file, &mut bytes, 0)
            .map_err(|error| PageError::io("read the superblock", error))?;
        let is_ours = |copy: &[u8]| {
            let magic = copy.iter().zip(MAGIC).all(|(found, ours)| [0, ours].contains(found));
            magic && copy[FIELDS_END..CHECKSUM_AT].iter().all(|byte| *byte == 0)
        };
        Ok(got <= PAGES_AT as usize && bytes[..PAGES_AT as usize].chunks(COPY_BYTES).all(is_ours))
    }

    /// The first copy that is whole, and what is wrong with the first one if it is not.
    ///
    /// Errors: those of the first copy if neither is; `InvalidSuperblock` if both are and differ.
    pub(super) fn read(file: &dyn File) -> PageResult<(Self, Option<PageError>)> {
        match (Self::read_copy(file, 0), Self::read_copy(file, 1)) {
            (Ok(first), Ok(second)) if first == second => Ok((first, None)),
            (Ok(_), Ok(_)) => {
                Err(PageError::InvalidSuperblock { reason: "the two copies are of two files".into() })
            }
            (Err(error @ (PageError::UnsupportedVersion { .. } | PageError::Io { .. })), _) => Err(error),
            (Ok(whole), Err(error)) | (Err(error), Ok(whole)) => Ok((whole, Some(error))),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn read_copy(file: &dyn File, copy: u64) -> PageResult<Self> {
        let mut block = AlignedBuf::zeroed(COPY_BYTES);
        let got = read_exact_at(file, &mut block, copy * COPY_BYTES as u64)
            .map_err(|error| PageError::io("read the superblock", error))?;
        Self::decode(&block[..got])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_survives_encoding_and_every_flipped_byte_is_found() {
        let superblock = Superblock {
            page_size: PageSize::new(1 << 20).expect("a size"),
            uuid: StoreUuid::new([9; 16]),
            checksum: ChecksumKind::Crc64Nvme,
        };
        let block = superblock.encode();
        assert_eq!(Superblock::decode(&block).expect("whole"), superblock);
        for at in 0..COPY_BYTES {
            let mut broken = block.clone();
            broken[at] ^= 0x40;
            Superblock::decode(&broken).expect_err("a flipped byte is found wherever it stands");
        }
        for len in [0, 1, 512, 4095] {
            Superblock::decode(&block[..len]).expect_err("a short copy is found");
        }
    }
}
