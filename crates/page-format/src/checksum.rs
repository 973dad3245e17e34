//! Checksums: CRC32C by default, CRC-64/NVME by choice, both by crc-fast with the machine's instructions.

use crc_fast::{CrcAlgorithm, Digest};

use crate::header::CHECKSUM_AT;
use crate::{PAGE_HEADER_SIZE, PageError, PageHeader, PageId, PageResult, StoreUuid};

/// CRC32C (Castagnoli) of a whole buffer.
///
/// ```
/// assert_eq!(pagestone_page_format::crc32c(b"123456789"), 0xe306_9283);
/// ```
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC32C over a stream of buffers.
///
/// ```
/// use pagestone_page_format::{Crc32c, crc32c};
/// let mut crc = Crc32c::new();
/// crc.update(b"1234");
/// crc.update(b"56789");
/// assert_eq!(crc.finalize(), crc32c(b"123456789"));
/// ```
#[derive(Clone, Debug)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything taken in.
    pub fn finalize(self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// Which checksum the pages of a file carry; chosen when the file is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum ChecksumKind {
    /// 32 bits; finds every burst up to 32 bits.
    #[default]
    Crc32c = 1,
    /// 64 bits, for files so large that 2^-32 is not small.
    Crc64Nvme = 2,
}

impl ChecksumKind {
    /// From its number in a superblock.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Crc32c),
            2 => Some(Self::Crc64Nvme),
            _ => None,
        }
    }
}

/// Stamps and verifies the pages of one file: the checksum covers every byte of a page but its own field, and is seeded
/// with the file's UUID, so that a page of another file does not pass.
#[derive(Clone, Debug)]
pub struct PageChecksum {
    seeded: Digest,
}

impl PageChecksum {
    /// For the file with this UUID.
    pub fn new(kind: ChecksumKind, uuid: StoreUuid) -> Self {
        let mut seeded = Digest::new(match kind {
            ChecksumKind::Crc32c => CrcAlgorithm::Crc32Iscsi,
            ChecksumKind::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
        });
        seeded.update(uuid.bytes());
        Self { seeded }
    }

    /// The checksum that `page` should carry. `page` is at least a header long.
    pub fn compute(&self, page: &[u8]) -> u64 {
        let mut digest = self.seeded;
        digest.update(&page[..CHECKSUM_AT]);
        digest.update(&page[PAGE_HEADER_SIZE..]);
        digest.finalize()
    }

    /// Writes the checksum into its field.
    pub fn stamp(&self, page: &mut [u8]) {
        let checksum = self.compute(page);
        page[CHECKSUM_AT..PAGE_HEADER_SIZE].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Verifies magic, version, checksum and id, in that order; the length is the reader's to check.
    pub fn verify(&self, requested: PageId, page: &[u8]) -> PageResult<PageHeader> {
        let Some(header) = PageHeader::decode(page) else {
            return Err(PageError::ShortRead {
                page_id: requested,
                got: page.len(),
                page_size: PAGE_HEADER_SIZE,
            });
        };
        header.check(requested)?;
        let computed = self.compute(page);
        if header.checksum != computed {
            return Err(PageError::ChecksumMismatch {
                page_id: requested,
                stored: header.checksum,
                computed,
            });
        }
        if header.page_id != requested {
            return Err(PageError::MisdirectedPage { requested, found: header.page_id });
        }
        Ok(header)
    }
}
