//! The directory of protected pages: which two copies each has, and which one counts.
//!
//! Invariant: copies of protected pages are whole granules, in use, of one region, and no two entries share one; nobody is given their
//! ids. An entry that is not in use is zero.
//!
//! ```text
//!   word 0   63: in use │ 31: ever written │ 30: which copy is active │ 27..14: copy 1 │ 13..0: copy 0     pages, by place in the region
//!   word 1   31..0: CRC32C of UUID, id and the bytes of the active copy, once there was any
//!
//!   id of a protected page = region · 8192 + entry
//! ```

use pagestone_page_format::{Crc32c, StoreUuid};

use crate::layout::{ENTRY_LOG2, REGION_PAGES};

const IN_USE: u64 = 1 << 63;
const WRITTEN: u64 = 1 << 31;
const ACTIVE: u64 = 1 << 30;
const PLACE: u64 = REGION_PAGES - 1;

/// A protected page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The places of its copies in the region.
    pub(crate) copies: [u64; 2],
    /// The copy that counts.
    pub(crate) active: usize,
    /// The checksum of that; none before the first commit, when the page reads as zeros.
    pub(crate) checksum: Option<u32>,
}

impl Entry {
    /// `Ok(None)` for one that is free; an error for words that no pager writes.
    pub(crate) fn decode(words: [u64; 2]) -> Result<Option<Self>, &'static str> {
        if words == [0; 2] {
            return Ok(None);
        }
        let entry = Self {
            copies: [words[0] & PLACE, words[0] >> 14 & PLACE],
            active: usize::from(words[0] & ACTIVE != 0),
            checksum: (words[0] & WRITTEN != 0).then_some(words[1] as u32),
        };
        if words[0] & IN_USE == 0 || entry.encode() != words {
            return Err("an entry with bits that have no meaning");
        }
        Ok(Some(entry))
    }

    pub(crate) fn encode(&self) -> [u64; 2] {
        let written = if self.checksum.is_some() { WRITTEN } else { 0 };
        let active = if self.active == 1 { ACTIVE } else { 0 };
        [IN_USE | written | active | self.copies[1] << 14 | self.copies[0], self.checksum.unwrap_or(0).into()]
    }
}

/// The checksum of a protected page: another page's bytes do not pass, nor those of another file.
pub(crate) fn checksum(uuid: StoreUuid, id: u64, bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(uuid.bytes());
    crc.update(&id.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// The protected page of an entry.
pub(crate) const fn id_of(region: usize, entry: usize) -> u64 {
    (region as u64) << ENTRY_LOG2 | entry as u64
}

/// Region and entry of a protected page.
pub(crate) const fn place_of(id: u64) -> (usize, usize) {
    ((id >> ENTRY_LOG2) as usize, (id & ((1 << ENTRY_LOG2) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_encoding_and_every_other_word_is_refused() {
        for (copies, active, checksum) in
            [([0, 1], 0, None), ([16_383, 0], 1, Some(0)), ([7, 9], 0, Some(u32::MAX))]
        {
            let entry = Entry { copies, active, checksum };
            let words = entry.encode();
            assert_eq!(Entry::decode(words), Ok(Some(entry)));
            for bit in [28, 29, 32, 62] {
                Entry::decode([words[0] | 1 << bit, words[1]]).expect_err("a bit without meaning");
            }
            Entry::decode([words[0], words[1] | 1 << 32]).expect_err("a bit without meaning");
            Entry::decode([words[0] & !IN_USE, words[1]]).expect_err("not in use and not zero");
        }
        assert_eq!(Entry::decode([0; 2]), Ok(None));
        Entry::decode([IN_USE, 5]).expect_err("a checksum of nothing");
    }
}
