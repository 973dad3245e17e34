//! Segment files: where blocks are on disk.
//!
//! Invariant: a file under a segment's name is whole: every byte of it was written once and synced before it got that
//! name, and the name was synced before anything in it was acknowledged. What is half made has another name.
//!
//! ```text
//!   0000000000001000.seg     named for the LSN of its first block, in hexadecimal
//!   ┌────────┬────────┬───────┬─ … ─┬─────────┬───────────┬─ … ─┬───────────────┐
//!   │ tail 0 │ tail 1 │ spare │     │ block n │ block n+1 │     │ block n+m-1   │
//!   └────────┴────────┴───────┴─ … ─┴─────────┴───────────┴─ … ─┴───────────────┘
//! ```
//!
//! A block is written to its home when it is final. Until then its versions go to the two tail slots by turns, so that no
//! write touches the slot of the newest durable one. The spare slots are recovery's, which writes there what it is about to write
//! home once more: one, and one more for every 256 blocks of the file, 62 at most.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagestone_direct_io::{Create, DirectIo, Disk, DurableBy, File, OpenHow, read_exact_at, write_all_at};
use pagestone_page_format::{AlignedBuf, Lsn};

use crate::block::{BLOCK, FIRST_BLOCK, block_lsn};
use crate::error::{WalError, WalResult};

/// Tail slots of a segment; the spare slots follow.
pub(crate) const TAIL_SLOTS: u64 = 2;
/// Slots of a segment at most.
const SLOTS_MAX: u64 = 64;

/// Slots in front of the blocks of a segment, by the blocks of its whole file.
const fn slots(file_blocks: u64) -> u64 {
    let slots = TAIL_SLOTS + 1 + file_blocks / 256;
    if slots < SLOTS_MAX { slots } else { SLOTS_MAX }
}

/// How many blocks of the stream a segment file of so many bytes holds.
pub(crate) const fn blocks_of(bytes: u64) -> u64 {
    let blocks = bytes / BLOCK as u64;
    blocks - slots(blocks)
}
/// What fails when a segment cannot be read.
pub(crate) const READ: &str = "read of the log";
const ZEROS: usize = 1 << 20;

/// An open segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Number of its first block.
    pub(crate) first: u64,
    /// How many blocks it has homes for.
    pub(crate) blocks: u64,
    /// How many slots stand before them: tail slots, then spare ones.
    pub(crate) slots: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    /// How the file was opened.
    pub(crate) direct: DirectIo,
}

impl Segment {
    /// Opens the file of a name that [`parse_name`] took apart.
    pub(crate) fn open(disk: &dyn Disk, path: PathBuf, first: u64, how: &OpenHow) -> WalResult<Self> {
        let file = disk.open(&path, how).map_err(WalError::io("open of a segment"))?;
        let len = file.len().map_err(WalError::io("length of a segment"))?;
        let file_blocks = len / BLOCK as u64;
        if !len.is_multiple_of(BLOCK as u64) || file_blocks <= slots(file_blocks) || len > MAX_FILE {
            return Err(WalError::corrupt(block_lsn(first), "a segment has an impossible length"));
        }
        Ok(Self::of(first, file_blocks, file, path, how.direct))
    }

    pub(crate) fn of(
        first: u64,
        file_blocks: u64,
        file: Arc<dyn File>,
        path: PathBuf,
        direct: DirectIo,
    ) -> Self {
        let slots = slots(file_blocks);
        Self { first, blocks: file_blocks - slots, slots, file, path, direct }
    }

    /// Number of the block behind its last one.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.blocks
    }

    /// LSN behind its last block.
    pub(crate) fn end_lsn(&self) -> Lsn {
        block_lsn(self.end())
    }

    pub(crate) fn holds(&self, number: u64) -> bool {
        (self.first..self.end()).contains(&number)
    }

    /// Bytes of its file.
    pub(crate) fn bytes(&self) -> u64 {
        (self.blocks + self.slots) * BLOCK as u64
    }

    /// Where a block that it holds is at home.
    pub(crate) fn home(&self, number: u64) -> u64 {
        debug_assert!(self.holds(number));
        (number - self.first + self.slots) * BLOCK as u64
    }

    /// Reads whole blocks at a byte offset; a file that ends before is an error and not the end of the log.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> WalResult<()> {
        let got = read_exact_at(&*self.file, buf, offset).map_err(WalError::io(READ))?;
        if got < buf.len() {
            return Err(WalError::io(READ)(ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Writes whole blocks at a byte offset.
    pub(crate) fn write(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(&*self.file, buf, offset)
    }
}

/// Past every offset that a file can have.
const MAX_FILE: u64 = 1 << 52;

/// The name of the segment that begins with this block.
pub(crate) fn name(first: u64) -> String {
    format!("{:016x}.seg", block_lsn(first).get())
}

/// The first block of the segment with this name. `None` if it is no segment's name.
pub(crate) fn parse_name(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".seg")?;
    let canonical =
        digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let lsn = u64::from_str_radix(digits, 16).ok().filter(|_| canonical)?;
    let number = lsn / BLOCK as u64;
    (lsn.is_multiple_of(BLOCK as u64) && (FIRST_BLOCK..1 << 50).contains(&number)).then_some(number)
}

/// Whether this is the name of a segment in the making.
pub(crate) fn is_unfinished(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.ends_with(".seg.new"))
}

/// Makes, renames and removes segment files.
#[derive(Debug)]
pub(crate) struct SegmentMaker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) direct: DirectIo,
    /// Bytes of a new segment.
    pub(crate) bytes: u64,
    /// By which call batches are made durable.
    pub(crate) durable_by: DurableBy,
}

/// Why a segment could not be made ready.
#[derive(Debug)]
pub(crate) enum MakeError {
    /// Nothing has changed: the handle lives.
    Refused(WalError),
    /// A write, a rename or a sync failed: nobody knows what is on disk (L9).
    Failed(&'static str, io::Error),
}

impl SegmentMaker {
    /// Makes a new segment of zeros and syncs it. Its name is durable after [`SegmentMaker::sync_dir`].
    ///
    /// 1. Allocate, so that a full disk says so before anything is written.
    /// 2. Write the zeros: a sync of written blocks needs no journal commit, one of allocated blocks does.
    /// 3. Sync, and only then give the file its name: what has a segment's name is whole.
    pub(crate) fn make(&self, first: u64) -> Result<Segment, MakeError> {
        let path = self.dir.join(name(first));
        let unfinished = self.dir.join(format!("{}.new", name(first)));
        let how = OpenHow { create: Create::OpenOrNew, write: true, direct: self.direct };
        let refused = |operation| move |source| MakeError::Refused(WalError::io(operation)(source));
        let file = self.disk.open(&unfinished, &how).map_err(refused("creation of a segment"))?;
        self.fill(&*file).inspect_err(|_| {
            // Best effort: if it stays, the next opening removes it.
            let _ = self.disk.remove_file(&unfinished);
        })?;
        file.sync().map_err(|error| MakeError::Failed("sync of a new segment", error))?;
        self.disk
            .rename(&unfinished, &path)
            .map_err(|error| MakeError::Failed("rename of a new segment", error))?;
        let segment = Segment::of(first, self.bytes / BLOCK as u64, file, path, self.direct);
        self.for_batches(segment).map_err(MakeError::Refused)
    }

    /// A segment as batches are written to it: with a file of which every write is durable, if that is the way.
    pub(crate) fn for_batches(&self, segment: Segment) -> WalResult<Segment> {
        if self.durable_by != DurableBy::ODsync {
            return Ok(segment);
        }
        let file =
            self.disk.open_dsync(&segment.path, self.direct).map_err(WalError::io("open of a segment"))?;
        Ok(Segment { file, ..segment })
    }

    fn fill(&self, file: &dyn File) -> Result<(), MakeError> {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                MakeError::Refused(WalError::NoSpace { needed: self.bytes })
            }
            _ => MakeError::Failed("write of a new segment", error),
        };
        file.set_len(0).map_err(failed)?;
        file.reserve(0, self.bytes).map_err(failed)?;
        let zeros = AlignedBuf::zeroed(ZEROS.min(self.bytes as usize));
        let mut at = 0;
        while at < self.bytes {
            let step = (self.bytes - at).min(zeros.len() as u64) as usize;
            write_all_at(file, &zeros[..step], at).map_err(failed)?;
            at += step as u64;
        }
        Ok(())
    }

    /// Gives a segment that nobody needs any more the name of a later one. What it holds stays and is stale: its blocks
    /// say another LSN. The name is durable after [`SegmentMaker::sync_dir`].
    pub(crate) fn recycle(&self, segment: &Segment, first: u64) -> Result<Segment, MakeError> {
        let path = self.dir.join(name(first));
        self.disk
            .rename(&segment.path, &path)
            .map_err(|error| MakeError::Failed("rename of a segment", error))?;
        Ok(Segment { first, path, ..segment.clone() })
    }

    /// Removes a segment that nobody needs any more.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), MakeError> {
        self.disk.remove_file(path).map_err(|error| MakeError::Failed("removal of a segment", error))
    }

    /// Makes the names durable.
    pub(crate) fn sync_dir(&self) -> Result<(), MakeError> {
        self.disk.sync_dir(&self.dir).map_err(|error| MakeError::Failed("sync of the log's directory", error))
    }
}

impl From<MakeError> for WalError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Refused(error) => error,
            MakeError::Failed(operation, source) => Self::Io { operation, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical() {
        assert_eq!(name(1), "0000000000001000.seg");
        assert_eq!(parse_name(OsStr::new(&name(0xabc_def))), Some(0xabc_def));
        for bad in [
            "0000000000000000.seg",
            "0000000000001001.seg",
            "000000000000A000.seg",
            "+000000000001000.seg",
            "1000.seg",
            "0000000000001000.seg.new",
            "ffffffffffffe000.seg",
            "é00000000001000.seg",
        ] {
            assert_eq!(parse_name(OsStr::new(bad)), None, "{bad}");
        }
        assert!(is_unfinished(OsStr::new("0000000000001000.seg.new")));
    }
}
