//! Where recovery begins, for an engine without a superblock of its own.
//!
//! Invariant (L6): two copies, each a page of its own, are written by turns, each with the next sequence number and a sync behind it;
//! the newest valid one counts, and the log reaches back to the older one's checkpoint, so that either can recover.
//!
//! ```text
//!   file:  [ copy 0, a page of 4096 ][ copy 1 ]
//!
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ page header: magic, version, id of the copy, checksum         │
//!  32  │ magic "PGMASTER"                                              │
//!  40  │ sequence                                                      │
//!  48  │ log generation                                                │
//!  56  │ checkpoint LSN                                                │
//!  64  │ pages of the data file at the checkpoint                      │
//!      └───────────────────────────────────────────────────────────────┘  zeros up to 4096
//! ```
//!
//! The master record of ARIES (Mohan et al., TODS 1992). All that changes stands in the first 512 bytes, the checksum among it, and is
//! seeded with the data file's UUID: a torn copy and another store's are told. The file gets its name when both copies are durable,
//! so a file without a whole copy is damage and never a new one (M5).

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::options::WalStart;
use crate::recover::ReplayReport;
use pagestone_direct_io::{Create, DirectIo, Disk, File, OpenHow, PageFile};
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, Page, PageChecksum, PageError, PageId, PageResult, PageStore,
    Poison, StoreUuid,
};

const MAGIC: &[u8; 8] = b"PGMASTER";
const COPIES: u64 = 2;

/// What one copy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Master {
    sequence: u64,
    generation: u64,
    checkpoint: Lsn,
    data_pages: u64,
}

impl Master {
    fn encode(&self, page: &mut Page) {
        let words = [self.sequence, self.generation, self.checkpoint.get(), self.data_pages];
        let payload = page.payload_mut();
        payload[..8].copy_from_slice(MAGIC);
        for (word, bytes) in words.iter().zip(payload[8..].chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn decode(page: &Page) -> PageResult<Self> {
        let payload = page.payload();
        if payload[..8] != *MAGIC {
            return Err(PageError::Malformed { page_id: page.id(), reason: "this is no master record" });
        }
        let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("eight bytes"));
        Ok(Self {
            sequence: word(8),
            generation: word(16),
            checkpoint: Lsn::new(word(24)),
            data_pages: word(32),
        })
    }
}

/// The generation of the log and the LSN that recovery begins at, durable and twice: what [`crate::Recovery::open`] has to be told.
///
/// For an engine that puts page file, pool, log and allocator together itself, and for a log alone ([`crate::Wal::open`]); `store` keeps
/// the same in its superblock. The file is not locked: the data file's lock is the engine's.
///
/// ```
/// use std::path::Path;
/// use pagestone_wal::MasterRecord;
/// use pagestone_page_format::{Lsn, Poison, StoreUuid};
/// use pagestone_testkit::SimDisk;
///
/// let (disk, path, uuid) = (SimDisk::new(1), Path::new("/master"), StoreUuid::new([7; 16]));
/// let mut master = MasterRecord::open(&disk, path, uuid)?; // made, if there is none
/// assert_eq!((master.generation(), master.checkpoint()), (0, Lsn::ZERO));
/// master.publish(&Poison::new(), Lsn::new(4096), 12)?;
/// drop(master);
///
/// let master = MasterRecord::open(&disk, path, uuid)?;
/// assert_eq!((master.checkpoint(), master.keep_from()), (Lsn::new(4096), Lsn::ZERO));
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
#[derive(Debug)]
pub struct MasterRecord {
    copies: PageFile,
    uuid: StoreUuid,
    current: Master,
    /// Where the current copy stands; the next one goes to the other place.
    slot: u64,
    /// The other copy's checkpoint; the current one's if the other is unusable.
    keep_from: Lsn,
    damage: Option<PageError>,
    /// The current copy is known to be durable: by [`MasterRecord::secure`], or because this handle wrote it.
    secured: bool,
}

impl MasterRecord {
    /// Opens the record of the data file with this UUID; makes it, durably, if there is none.
    ///
    /// Errors: what reading a page gives if neither copy is whole, `ChecksumMismatch` if they are another data file's; `Io`.
    /// Nothing was changed then.
    pub fn open(disk: &dyn Disk, path: &Path, uuid: StoreUuid) -> PageResult<Self> {
        let how = OpenHow { create: Create::Existing, write: true, direct: DirectIo::Prefer };
        let file = match disk.open(path, &how) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => make(disk, path, uuid)?,
            Err(error) => return Err(PageError::io("open the master record", error)),
        };
        // Whoever gave it its name may have been killed before that was durable.
        sync_parent(disk, path)?;
        let copies = page_file(file, uuid);
        let read = |slot| copies.read_page(PageId::new(slot)).and_then(|page| Master::decode(&page));
        let (current, slot, other) = match (read(0), read(1)) {
            // Neither damage nor a torn update: to write over it would be to overwrite what we do not understand (R7).
            (Err(error @ (PageError::UnsupportedVersion { .. } | PageError::Io { .. })), _)
            | (_, Err(error @ (PageError::UnsupportedVersion { .. } | PageError::Io { .. }))) => {
                return Err(error);
            }
            (Ok(a), Ok(b)) if a.sequence > b.sequence => (a, 0, Ok(b)),
            (Ok(a), Ok(b)) => (b, 1, Ok(a)),
            (Ok(whole), Err(error)) => (whole, 0, Err(error)),
            (Err(error), Ok(whole)) => (whole, 1, Err(error)),
            (Err(error), Err(_)) => return Err(error),
        };
        let keep_from = other.as_ref().map_or(current.checkpoint, |other| other.checkpoint);
        Ok(Self { copies, uuid, current, slot, keep_from, damage: other.err(), secured: false })
    }

    /// The log's generation: that of the last opening for writing, 0 if there was none.
    pub fn generation(&self) -> u64 {
        self.current.generation
    }

    /// Where recovery begins; [`Lsn::ZERO`] before the first checkpoint.
    pub fn checkpoint(&self) -> Lsn {
        self.current.checkpoint
    }

    /// The older copy's checkpoint: the log is kept from there on (L6).
    pub fn keep_from(&self) -> Lsn {
        self.keep_from
    }

    /// What is wrong with a copy; the other one was used, and the next [`MasterRecord::publish`] writes it anew.
    pub fn damage(&self) -> Option<&PageError> {
        self.damage.as_ref()
    }

    /// What the log is opened with.
    pub fn log_start(&self, poison: &Poison) -> WalStart {
        WalStart {
            uuid: self.uuid,
            generation: self.current.generation,
            checkpoint: self.current.checkpoint,
            keep_from: self.keep_from,
            newest_copy_lost: self.damage.is_some(),
            poison: poison.clone(),
        }
    }

    /// A data file that is shorter than it was at the checkpoint lost pages that no log describes (M9): `Mismatch`.
    pub fn check_len(&self, data: &dyn PageStore) -> PageResult<()> {
        let (len, at_checkpoint) = (data.len()?, self.current.data_pages);
        if len < at_checkpoint {
            return Err(PageError::Mismatch {
                expected: format!("a data file of at least {at_checkpoint} pages"),
                found: format!("{len} pages"),
            });
        }
        Ok(())
    }

    /// The generation for [`crate::Recovery::start`], durable when this returns and so before the first block that carries
    /// it. Errors as [`MasterRecord::publish`].
    pub fn next_generation(&mut self, replayed: &ReplayReport, poison: &Poison) -> PageResult<u64> {
        // Two further if a newer copy may be lost: it may have had the next one.
        let further = if self.damage.is_some() { 2 } else { 1 };
        let last = self.current.generation.max(replayed.max_generation);
        let generation = last.checked_add(further).ok_or_else(|| PageError::InvalidSuperblock {
            reason: "the log's generation has no successor".into(),
        })?;
        self.write(poison, Master { generation, ..self.current })?;
        Ok(generation)
    }

    /// Moves the start of recovery up to `checkpoint`, durably: every change before it is durable in the data file, which has
    /// `data_pages` pages. A lower LSN than before leaves the start where it is.
    ///
    /// A failed write leaves the current copy as it is, and can be tried again; a failed sync ends the handle (L9).
    pub fn publish(&mut self, poison: &Poison, checkpoint: Lsn, data_pages: u64) -> PageResult<()> {
        let checkpoint = checkpoint.max(self.current.checkpoint);
        self.write(poison, Master { checkpoint, data_pages, ..self.current })
    }

    /// Makes the copy that counts durable, before the other one is written over: after a sync that failed it may stand in the system's
    /// cache alone (L10). In its own place, as the other one is durable and the log reaches back to it; not where the other one is
    /// unusable, because then it was being written, which begins only once this one is durable.
    fn secure(&mut self, poison: &Poison) -> PageResult<()> {
        if !self.secured && self.damage.is_none() {
            write_copy(&self.copies, self.slot, &self.current)?;
            self.sync(poison)?;
        }
        self.secured = true;
        Ok(())
    }

    /// Writes the next copy over the older one, and syncs.
    fn write(&mut self, poison: &Poison, next: Master) -> PageResult<()> {
        poison.check()?;
        let sequence = self.current.sequence.checked_add(1).ok_or_else(|| PageError::InvalidSuperblock {
            reason: "the master record's sequence has no successor".into(),
        })?;
        let next = Master { sequence, ..next };
        self.secure(poison)?;
        let slot = 1 - self.slot;
        write_copy(&self.copies, slot, &next)?;
        self.sync(poison)?;
        self.keep_from = self.current.checkpoint;
        (self.current, self.slot, self.damage) = (next, slot, None);
        Ok(())
    }

    fn sync(&self, poison: &Poison) -> PageResult<()> {
        let failed = |error| poison.poison(format_args!("syncing the master record failed: {error}"));
        self.copies.sync().map_err(failed)
    }
}

/// Makes the file under another name, both copies in it, and renames it. The caller syncs the directory.
fn make(disk: &dyn Disk, path: &Path, uuid: StoreUuid) -> PageResult<Arc<dyn File>> {
    let io = |operation: &'static str| move |error| PageError::io(operation, error);
    let mut unfinished = OsString::from(path.as_os_str());
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Prefer };
    let file = disk.open(&unfinished, &how).map_err(io("make the master record"))?;
    file.set_len(0).map_err(io("empty an unfinished master record"))?;
    let copies = page_file(Arc::clone(&file), uuid);
    copies.grow(COPIES)?;
    for slot in 0..COPIES {
        write_copy(&copies, slot, &Master { sequence: slot, ..Master::default() })?;
    }
    copies.sync()?;
    disk.rename(&unfinished, path).map_err(io("name the master record"))?;
    Ok(file)
}

fn page_file(file: Arc<dyn File>, uuid: StoreUuid) -> PageFile {
    PageFile::new(file, 0, DEFAULT_PAGE_SIZE, PageChecksum::new(ChecksumKind::Crc32c, uuid))
}

fn write_copy(copies: &PageFile, slot: u64, master: &Master) -> PageResult<()> {
    let mut page = copies.allocate_page(PageId::new(slot));
    master.encode(&mut page);
    copies.write_page(&mut page)
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> PageResult<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new(".")))
        .map_err(|error| PageError::io("sync the directory of the master record", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_testkit::{AfterFailedSync, CrashOptions, FaultPlan, SimDisk};

    const PATH: &str = "/master";
    const UUID: StoreUuid = StoreUuid::new([7; 16]);

    fn open(disk: &SimDisk) -> PageResult<MasterRecord> {
        MasterRecord::open(disk, Path::new(PATH), UUID)
    }

    #[test]
    fn what_was_published_survives_every_power_cut() {
        let disk = SimDisk::new(5);
        let mut master = open(&disk).expect("a healthy disk");
        for step in 1..=4 {
            master.publish(&Poison::new(), Lsn::new(4096 * step), step).expect("a healthy disk");
            disk.note(step);
        }
        let mut images = 0;
        for image in disk.crash_states(&CrashOptions::default()) {
            images += 1;
            let acknowledged = image.acknowledged().last().copied().unwrap_or(0);
            let found = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
            let step = found.checkpoint().get() / 4096;
            assert!(step == acknowledged || step == acknowledged + 1, "{step}: {}", image.explain());
            assert!(found.keep_from() <= found.checkpoint());
            assert!(found.keep_from().get() >= (step.saturating_sub(1)) * 4096, "{}", image.explain());
        }
        assert!(images > 30, "{images} images");
    }

    /// L10: the newest copy stands in the cache alone, because the sync behind it failed. Whoever opens then, and writes the other copy
    /// over, may give the log below the checkpoint that it was shown back: from then on no power cut may show an older one.
    #[test]
    fn a_copy_that_only_the_cache_has_is_secured_before_the_other_is_written_over() {
        const EIO: i32 = 5;
        type Next = fn(&mut MasterRecord, &Poison) -> PageResult<()>;
        let first_writes: [Next; 2] = [
            |master, poison| master.next_generation(&ReplayReport::default(), poison).map(drop),
            |master, poison| master.publish(poison, Lsn::new(9 * 4096), 9),
        ];
        let mut images = 0;
        for (after, next) in
            AfterFailedSync::ALL.into_iter().flat_map(|after| first_writes.map(|next| (after, next)))
        {
            let disk = SimDisk::new(5);
            drop(open(&disk).expect("made")); // under another name
            let mut master = open(&disk).expect("opens");
            for step in 1..=3 {
                master.publish(&Poison::new(), Lsn::new(4096 * step), step).expect("a healthy disk");
            }
            disk.settle();
            disk.fail(FaultPlan::failed_sync(EIO, after));
            let told = master.publish(&Poison::new(), Lsn::new(4 * 4096), 4);
            assert!(told.is_err() || after == AfterFailedSync::ReportedLate, "a failed sync is told");
            drop(master);
            disk.heal();
            // A failure that is reported late may be told to this handle; to no second one.
            let mut master = open(&disk).expect("a copy is whole");
            if next(&mut master, &Poison::new()).is_err() {
                master = open(&disk).expect("a copy is whole");
                next(&mut master, &Poison::new()).expect("nothing fails any more");
            }
            disk.note(1);
            let (checkpoint, keep_from) = (master.checkpoint(), master.keep_from());
            assert!(keep_from >= Lsn::new(3 * 4096));
            for image in disk.crash_states(&CrashOptions { garbage: true, ..CrashOptions::default() }) {
                let found =
                    open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
                // What is acknowledged may be under way again, and garbage: the log reaches back to the copy before it.
                assert!(found.checkpoint() >= Lsn::new(2 * 4096), "{after:?}: {}", image.explain());
                if !image.acknowledged().is_empty() {
                    let told = (found.checkpoint(), found.keep_from());
                    assert_eq!(told, (checkpoint, keep_from), "{after:?}: {}", image.explain());
                }
                images += 1;
            }
        }
        assert!(images > 50, "{images} images");
    }

    #[test]
    fn a_flipped_byte_costs_a_copy_and_two_are_an_error() {
        for at in [0, 9, 33, 41, 57, 65, 500, 4095] {
            let disk = SimDisk::new(5);
            let mut master = open(&disk).expect("made");
            master.publish(&Poison::new(), Lsn::new(4096), 1).expect("published"); // over copy 0
            drop(master);
            let flip = |copy: u64| {
                let at = copy * 4096 + at;
                let byte = disk.contents(PATH).expect("there")[at as usize];
                disk.overwrite(PATH, at, &[byte ^ 0x40]).expect("there");
            };
            flip(0);
            let mut found = open(&disk).expect("the other copy");
            assert!(found.damage().is_some(), "byte {at}");
            assert_eq!((found.checkpoint(), found.keep_from()), (Lsn::ZERO, Lsn::ZERO), "the older copy");
            assert!(found.log_start(&Poison::new()).newest_copy_lost);
            // The lost copy may have had generation 1.
            assert_eq!(found.next_generation(&ReplayReport::default(), &Poison::new()).expect("written"), 2);
            assert!(found.damage().is_none() && open(&disk).expect("whole").damage().is_none());
            (0..2).for_each(flip);
            open(&disk).expect_err("neither copy is whole, and that is no new file");
        }
    }

    #[test]
    fn another_file_s_record_and_a_shorter_data_file_are_refused() {
        let disk = SimDisk::new(5);
        let mut master = open(&disk).expect("made");
        master.publish(&Poison::new(), Lsn::new(4096), 9).expect("published");
        let data = pagestone_page_format::MemoryStore::new(DEFAULT_PAGE_SIZE);
        data.grow(8).expect("room");
        assert!(matches!(master.check_len(&data), Err(PageError::Mismatch { .. })));
        data.grow(9).expect("room");
        master.check_len(&data).expect("long enough");
        let other = MasterRecord::open(&disk, Path::new(PATH), StoreUuid::new([8; 16]));
        assert!(matches!(other, Err(PageError::ChecksumMismatch { .. })));
    }
}
