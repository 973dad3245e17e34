//! The two copies of the superblock: what a store is, and where its recovery begins.
//!
//! Invariant (L6): the copies stand on blocks of their own and are written by turns, each with the next sequence number and a
//! sync behind it; the newest valid one counts, and the log reaches back to the older one's checkpoint, so that either can
//! recover. A copy is written over only while the other one is durable; opening writes the one that it believes again first.
//!
//! ```text
//!   data file:  [ copy A, 4096 ][ copy B, 4096 ][ page 0 ][ page 1 ] ...
//!
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGSTONE\0"                                            │
//!   8  │ format version                │ page size, bytes              │
//!  16  │ UUID                                                          │
//!  24  │                                                               │
//!  32  │ sequence                                                      │
//!  40  │ log generation                                                │
//!  48  │ checkpoint LSN                                                │
//!  56  │ pages of the data file at the checkpoint                      │
//!  64  │ page id of the root of the default tree                       │
//!  72  │ checksum kind │ 0                                             │
//!  80  │ user metadata, 8 slots of 8 bytes                             │
//! 144  │ page id of the root of the catalog                            │
//! 152  │ number of the first removal of a range whose intent counts    │
//! 160  │ zeros up to 4088                                              │
//! 4088 │ CRC32C of all before                                          │
//!      └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! All that changes from one version to the next stands in the first 512 bytes but the checksum, which stands in the last:
//! a torn update is told by the checksum.

use std::sync::Arc;

use pagestone_direct_io::{File, read_exact_at, write_all_at};
use pagestone_page_format::{
    AlignedBuf, ChecksumKind, FORMAT_VERSION, Lsn, PageError, PageId, PageResult, PageSize, Poison,
    StoreUuid, crc32c,
};

/// Bytes of one copy, and of the block it stands on.
pub(crate) const COPY_BYTES: usize = 4096;
/// Where page 0 begins.
pub(crate) const PAGES_AT: u64 = 2 * COPY_BYTES as u64;
const MAGIC: [u8; 8] = *b"PGSTONE\0";
const CHECKSUM_AT: usize = COPY_BYTES - 8;
/// The largest page that trees take, in bytes.
pub(crate) const MAX_TREE_PAGE: usize = 64 << 10;
/// Typed user metadata: 8 bytes each.
pub(crate) const USER_SLOTS: usize = 8;

/// One copy, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) page_size: PageSize,
    pub(crate) uuid: StoreUuid,
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) checksum: ChecksumKind,
    pub(crate) checkpoint: Lsn,
    pub(crate) data_pages: u64,
    pub(crate) root: PageId,
    pub(crate) user_meta: [u64; USER_SLOTS],
    pub(crate) catalog: PageId,
    /// Intents of removals with a lower number are void: an opening that could not read them has given out a handle.
    pub(crate) removals_from: u64,
}

impl Superblock {
    pub(crate) fn encode(&self) -> AlignedBuf {
        let mut block = AlignedBuf::zeroed(COPY_BYTES);
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &u32::from(FORMAT_VERSION).to_le_bytes());
        put(12, &(self.page_size.get() as u32).to_le_bytes());
        put(16, self.uuid.bytes());
        put(32, &self.sequence.to_le_bytes());
        put(40, &self.generation.to_le_bytes());
        put(72, &[self.checksum as u8]);
        put(48, &self.checkpoint.get().to_le_bytes());
        put(56, &self.data_pages.to_le_bytes());
        put(64, &self.root.get().to_le_bytes());
        for (slot, value) in self.user_meta.iter().enumerate() {
            put(80 + 8 * slot, &value.to_le_bytes());
        }
        put(144, &self.catalog.get().to_le_bytes());
        put(152, &self.removals_from.to_le_bytes());
        let checksum = u64::from(crc32c(&block[..CHECKSUM_AT]));
        block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    pub(crate) fn decode(block: &[u8]) -> PageResult<Self> {
        let invalid = |reason: String| PageError::InvalidSuperblock { reason };
        if block.len() != COPY_BYTES {
            return Err(invalid(format!("{} of {COPY_BYTES} bytes", block.len())));
        }
        let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if block[..8] != MAGIC {
            return Err(invalid("no pagestone store begins like this".into()));
        }
        // The checksum first: a flipped version is damage, another version under its checksum is another version.
        let (stored, computed) = (u64_at(CHECKSUM_AT), u64::from(crc32c(&block[..CHECKSUM_AT])));
        if stored != computed {
            return Err(invalid(format!("checksum {stored:#x} stored, {computed:#x} computed")));
        }
        let version = u32_at(8);
        if version != u32::from(FORMAT_VERSION) {
            return Err(PageError::UnsupportedVersion { found: version, supported: FORMAT_VERSION.into() });
        }
        if u32_at(12) as usize > MAX_TREE_PAGE {
            return Err(PageError::InvalidPageSize { size: u32_at(12) as usize });
        }
        let mut user_meta = [0; USER_SLOTS];
        for (slot, value) in user_meta.iter_mut().enumerate() {
            *value = u64_at(80 + 8 * slot);
        }
        Ok(Self {
            page_size: PageSize::new(u32_at(12) as usize)?,
            uuid: StoreUuid::new(block[16..32].try_into().expect("sixteen bytes")),
            sequence: u64_at(32),
            generation: u64_at(40),
            checksum: ChecksumKind::from_number(block[72])
                .ok_or_else(|| invalid(format!("checksum kind {}", block[72])))?,
            checkpoint: Lsn::new(u64_at(48)),
            data_pages: u64_at(56),
            root: PageId::new(u64_at(64)),
            user_meta,
            catalog: PageId::new(u64_at(144)),
            removals_from: u64_at(152),
        })
    }
}

/// Both copies of an open store, and whose turn it is.
#[derive(Debug)]
pub(crate) struct SuperblockCopies {
    file: Arc<dyn File>,
    current: Superblock,
    current_slot: usize,
    /// Checkpoint of the other copy: the log must reach back to it. The current one's if the other copy is unusable.
    older_checkpoint: Lsn,
    /// Pages that it says the file has, or may say after a write that failed; the current one's if it is unusable.
    older_pages: u64,
    /// Why the other copy is unusable, if it is.
    damage: Option<String>,
}

impl SuperblockCopies {
    /// Writes both copies of a new store. The caller syncs.
    pub(crate) fn create(file: Arc<dyn File>, first: Superblock) -> PageResult<Self> {
        let io = |error| PageError::io("writing the superblock", error);
        for slot in 0..2 {
            write_all_at(&*file, &first.encode(), (slot * COPY_BYTES) as u64).map_err(io)?;
        }
        let (older_checkpoint, older_pages) = (first.checkpoint, first.data_pages);
        Ok(Self { file, older_checkpoint, older_pages, current: first, current_slot: 1, damage: None })
    }

    /// Reads both copies and takes the newest valid one.
    ///
    /// Errors: `InvalidSuperblock` if neither is valid, with the first copy's reason; `UnsupportedVersion` and `Io` if either says
    /// so.
    pub(crate) fn read(file: Arc<dyn File>) -> PageResult<Self> {
        let first = read_copy(&*file, 0);
        let second = read_copy(&*file, 1);
        let (current, current_slot, other) = match (first, second) {
            // Neither damage nor a torn update: to go on with the other copy would overwrite what we do not understand (R7).
            (Err(error @ (PageError::UnsupportedVersion { .. } | PageError::Io { .. })), _)
            | (_, Err(error @ (PageError::UnsupportedVersion { .. } | PageError::Io { .. }))) => {
                return Err(error);
            }
            (Ok(a), Ok(b)) => {
                if a.uuid != b.uuid
                    || a.page_size != b.page_size
                    || a.checksum != b.checksum
                    || a.root != b.root
                    || a.catalog != b.catalog
                {
                    return Err(PageError::InvalidSuperblock {
                        reason: "the two copies are of two stores".into(),
                    });
                }
                if a.sequence > b.sequence { (a, 0, Ok(b)) } else { (b, 1, Ok(a)) }
            }
            (Ok(a), Err(error)) => (a, 0, Err(error)),
            (Err(error), Ok(b)) => (b, 1, Err(error)),
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(Self {
            file,
            older_checkpoint: other.as_ref().map_or(current.checkpoint, |other| other.checkpoint),
            older_pages: other.as_ref().map_or(current.data_pages, |other| other.data_pages),
            damage: other.err().map(|error| format!("copy {} of the superblock: {error}", 1 - current_slot)),
            current,
            current_slot,
        })
    }

    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    pub(crate) fn older_checkpoint(&self) -> Lsn {
        self.older_checkpoint
    }

    /// Pages that one copy or the other says the file has: it must not be shorter.
    pub(crate) fn data_pages(&self) -> u64 {
        self.current.data_pages.max(self.older_pages)
    }

    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Makes the copy that counts durable, before anything is published over the other one: after a sync that failed it may stand in
    /// the system's cache alone (L10). Written again in its own place, because until that is synced the other copy may be the only
    /// one that the disk has, and the log still reaches back to it.
    ///
    /// Not where the other copy is unusable: then it was being written, which begins only once this one is durable.
    pub(crate) fn secure(&self, poison: &Poison) -> PageResult<()> {
        if self.damage.is_some() {
            return Ok(());
        }
        self.write(poison, self.current_slot, &self.current)
    }

    /// Writes `change` of the current copy over the other one, with the next sequence number, and syncs (L6).
    ///
    /// A failed write leaves the current copy as it is, and can be tried again; a failed sync ends the handle (L9).
    pub(crate) fn publish(
        &mut self,
        poison: &Poison,
        change: impl FnOnce(&mut Superblock),
    ) -> PageResult<()> {
        let mut next = self.current.clone();
        change(&mut next);
        next.sequence = next
            .sequence
            .checked_add(1)
            .ok_or_else(|| PageError::InvalidSuperblock { reason: "the sequence has no successor".into() })?;
        let slot = 1 - self.current_slot;
        // A write that fails may be done all the same: then that copy is the newest one for the next opening.
        self.older_pages = self.older_pages.max(next.data_pages);
        self.write(poison, slot, &next)?;
        self.older_checkpoint = self.current.checkpoint;
        self.older_pages = self.current.data_pages;
        self.current = next;
        self.current_slot = slot;
        self.damage = None;
        Ok(())
    }

    /// Writes one copy and syncs. A failed sync ends the handle (L9).
    fn write(&self, poison: &Poison, slot: usize, copy: &Superblock) -> PageResult<()> {
        write_all_at(&*self.file, &copy.encode(), (slot * COPY_BYTES) as u64)
            .map_err(|error| PageError::io("writing the superblock", error))?;
        self.file
            .sync()
            .map_err(|error| poison.poison(format_args!("syncing the superblock failed: {error}")))
    }
}

impl SuperblockCopies {
    /// Reads both copies as they stand in the file; says for each what is wrong with it. The other copy need only be one: a
    /// publication that failed half way may have left it older or newer.
    pub(crate) fn judge(&self) -> Vec<(usize, String)> {
        let judged = (0..2).filter_map(|slot| match read_copy(&*self.file, slot) {
            Err(error) => Some((slot, error.to_string())),
            Ok(copy) if slot == self.current_slot && copy != self.current => {
                Some((slot, format!("sequence {}, not the current {}", copy.sequence, self.current.sequence)))
            }
            Ok(copy) if copy.uuid != self.current.uuid => Some((slot, "a copy of another store's".into())),
            Ok(_) => None,
        });
        judged.collect()
    }
}

fn read_copy(file: &dyn File, slot: usize) -> PageResult<Superblock> {
    let mut block = AlignedBuf::zeroed(COPY_BYTES);
    let got = read_exact_at(file, &mut block, (slot * COPY_BYTES) as u64)
        .map_err(|error| PageError::io("reading the superblock", error))?;
    Superblock::decode(&block[..got])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pagestone_direct_io::{Create, DirectIo, Disk, OpenHow};
    use pagestone_testkit::{DiskOp, FaultPlan, SimDisk};

    use super::*;

    fn sample() -> Superblock {
        Superblock {
            page_size: PageSize::new(8192).expect("a page size"),
            uuid: StoreUuid::new([9; 16]),
            sequence: 7,
            generation: 3,
            checksum: ChecksumKind::Crc64Nvme,
            checkpoint: Lsn::new(12_345),
            data_pages: 99,
            root: PageId::new(1),
            user_meta: [1, 2, 3, 4, 5, 6, 7, 8],
            catalog: PageId::new(2),
            removals_from: 5 << 32,
        }
    }

    #[test]
    fn copy_survives_encoding_and_every_flipped_byte_is_found() {
        let block = sample().encode();
        assert_eq!(Superblock::decode(&block).expect("valid"), sample());
        for at in 0..COPY_BYTES {
            let mut broken = block.clone();
            broken[at] ^= 0x40;
            Superblock::decode(&broken).expect_err("a flipped byte is found wherever it stands");
        }
        for len in [0, 1, 512, 4095] {
            Superblock::decode(&block[..len]).expect_err("a short copy is found");
        }
    }

    /// It may stand in the file all the same, and count after a crash.
    #[test]
    fn file_is_not_cut_below_what_a_publication_that_failed_may_say() {
        let disk = SimDisk::new(1);
        let how = OpenHow { create: Create::New, write: true, direct: DirectIo::Off };
        let file = disk.open(Path::new("/data"), &how).expect("a new file");
        let mut copies = SuperblockCopies::create(file, sample()).expect("written");
        disk.fail(FaultPlan::done_but_reported(5).on(DiskOp::Write));
        let poison = Poison::new();
        copies.publish(&poison, |next| next.data_pages = 120).expect_err("a failed write");
        assert_eq!((copies.current().data_pages, copies.data_pages()), (99, 120));
        for pages in [70, 60, 50] {
            copies.publish(&poison, |next| next.data_pages = pages).expect("a healthy disk");
        }
        assert_eq!(copies.data_pages(), 60);
    }
}
