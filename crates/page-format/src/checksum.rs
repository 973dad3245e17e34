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

/// So much of the end of a payload goes into the last step together with the header.
const LAST: usize = 96;
/// That step: a length that crc-fast takes at full speed, which it does not with 24 bytes alone.
const LAST_STEP: usize = LAST + PAGE_HEADER_SIZE;

/// Stamps and verifies the pages of one file: the checksum covers every byte of a page but its own field, and is seeded
/// with the file's UUID, so that a page of another file does not pass.
///
/// ```text
///   in the page:      bytes 0 to 23 │ checksum │ payload
///   in the message:   UUID │ payload │ eight zeros │ bytes 0 to 23
/// ```
///
/// The checksum stands right behind the end of its message, in the page as it would on a wire. That is why every burst of up to 32
/// bits is found that begins before it and ends in it: between a message's parts there is no such promise.
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
        let (header, payload) = page.split_at(PAGE_HEADER_SIZE);
        let (payload, last) = payload.split_at(payload.len().saturating_sub(LAST));
        let mut end = [0; LAST_STEP];
        end[..last.len()].copy_from_slice(last);
        end[LAST_STEP - CHECKSUM_AT..].copy_from_slice(&header[..CHECKSUM_AT]);
        let mut digest = self.seeded;
        digest.update(payload);
        digest.update(&end);
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// What a flip of each of these bits does to the checksum. It is the same whatever the page holds: a CRC is linear.
    fn differences(kind: ChecksumKind, bits: impl Iterator<Item = usize>) -> Vec<u64> {
        let checksum = PageChecksum::new(kind, StoreUuid::new([9; 16]));
        let mut page = vec![0; PAGE];
        let whole = checksum.compute(&page);
        let mut flip = |bit: usize| {
            page[bit / 8] ^= 1 << (bit % 8);
            let difference = checksum.compute(&page) ^ whole;
            page[bit / 8] ^= 1 << (bit % 8);
            difference
        };
        bits.map(&mut flip).collect()
    }

    /// Whether no choice of the rows but the empty one sums up to zero in the bits of `mask`.
    fn are_independent(rows: &[u64], mask: u64) -> bool {
        let mut reduced: Vec<u64> = Vec::new();
        rows.iter().all(|row| {
            let rest = reduced.iter().fold(row & mask, |row, other| row.min(row ^ other));
            reduced.push(rest);
            rest != 0
        })
    }

    #[test]
    fn every_burst_that_begins_or_ends_in_the_checksum_is_found() {
        let (field, behind) = (CHECKSUM_AT * 8, PAGE_HEADER_SIZE * 8);
        for kind in [ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme] {
            for outside in 1..32 {
                let inside = 32 - outside;
                // The burst goes unseen if what it does to the checksum is what it does to the field: nothing outside its part.
                let before = differences(kind, field - outside..field);
                assert!(are_independent(&before, !0 << inside), "{kind:?}, {outside} bits before the field");
                let after = differences(kind, behind..behind + outside);
                assert!(are_independent(&after, !0 >> inside), "{kind:?}, {outside} bits behind the field");
            }
        }
    }

    #[test]
    fn every_burst_beside_the_checksum_is_found() {
        for kind in [ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme] {
            let payload = PAGE_HEADER_SIZE * 8..PAGE * 8;
            for bits in [0..CHECKSUM_AT * 8, payload] {
                let differences = differences(kind, bits);
                assert!(differences.windows(32).all(|burst| are_independent(burst, !0)), "{kind:?}");
            }
        }
    }
}
