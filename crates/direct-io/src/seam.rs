//! The seam between pagestone and file systems.
//!
//! Invariant: the seam hides nothing. Short transfers, interruptions, failed syncs and full disks show through it as the
//! system gives them, so that what handles them is written once above it and is proved against a simulated disk.
//!
//! What survives a power cut is part of the contract:
//!
//! ```text
//!   bytes written, length   after File::sync of any handle of that file
//!   bytes of a map          after Map::flush of them, or that sync; or at any instant before
//!   a name made or changed  after Disk::sync_dir of every directory whose entries changed
//!   neither implies the other
//! ```

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use crate::FileMap;
use crate::reads::{BatchedReads, Reads};
use crate::writes::{BatchedWrites, Writes};

/// Directories and names. All calls may come from many threads at once.
pub trait Disk: Send + Sync + Debug {
    /// Opens a regular file.
    ///
    /// The last component of `path` is never followed as a symbolic link. What is no regular file is refused with
    /// `InvalidInput` and never waited for: a FIFO does not hang. Errors of kind `NotFound` for [`Create::Existing`],
    /// `AlreadyExists` for [`Create::New`], `Unsupported` where [`DirectIo::Required`] cannot be had.
    ///
    /// A created file is durable only after [`Disk::sync_dir`] of its directory.
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file to read and write, so that every [`File::write_at`] is durable when it returns, with the length that
    /// it needs (`O_DSYNC`). A write that fails so is a failed sync: final (I9).
    ///
    /// Errors: those of [`Disk::open`]; `Unsupported` where there is no such thing.
    fn open_dsync(&self, path: &Path, direct: DirectIo) -> io::Result<Arc<dyn File>> {
        let _ = (path, direct);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes one directory, for its owner alone (mode 0700). One that exists is the error `AlreadyExists`.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or directory another name; atomically replaces a file of that name. Open handles keep their file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file. Open handles keep their file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted by their bytes, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// What stands under a name; `None` if nothing does. Does not follow a symbolic link.
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>>;

    /// Makes the entries of a directory durable: creations, renames, removals. A failure is final (I9).
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// One open file. All calls may come from many threads at once.
///
/// On a file with direct I/O active, the address and length of every buffer and the offset are multiples of 4096
/// ([`pagestone_page_format::AlignedBuf`]); the system refuses others with `InvalidInput`.
pub trait File: Send + Sync + Debug {
    /// Reads at a position. Raw: may give fewer bytes than asked for, or `Interrupted`; 0 is the end of the file.
    /// [`crate::read_exact_at`] is what to call.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at a position and extends the file if it lies past the end. Raw: may take fewer bytes than given, or give
    /// `Interrupted`. [`crate::write_all_at`] is what to call.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads several ranges, in any order or at once, and puts what came of each into its `result`. Raw, as
    /// [`File::read_at`] is; [`crate::read_exact_batch`] is what to call.
    fn read_batch(&self, batch: &mut [ReadAt<'_>]) {
        for read in batch {
            read.result = self.read_at(read.buf, read.offset);
        }
    }

    /// Reads that go on beside each other, each begun when it is known. Where transfers go on by themselves the next is begun while the
    /// others are under way; by itself it is one [`File::read_batch`] of all that wait to begin.
    fn reads(&self) -> Box<dyn Reads + '_> {
        Box::new(BatchedReads::new(self))
    }

    /// Writes several ranges, in any order or at once, and puts what came of each into its `result`. No two of them overlap.
    /// Raw, as [`File::write_at`] is; [`crate::write_all_batch`] is what to call.
    fn write_batch(&self, batch: &mut [WriteAt<'_>]) {
        for write in batch {
            write.result = self.write_at(write.buf, write.offset);
        }
    }

    /// Writes that go on beside each other, each begun when it is known. Where transfers go on by themselves the next is begun while the
    /// others are under way; by itself it is one [`File::write_batch`] of all that wait to begin.
    fn writes(&self) -> Box<dyn Writes + '_> {
        Box::new(BatchedWrites::new(self))
    }

    /// Writes several ranges that are still being made: where transfers go on by themselves, each begins as soon as the iterator gives
    /// it. Returns when all have ended, with what came of each in its `result`, in their order. No two of them overlap. Raw, as
    /// [`File::write_at`] is; [`crate::write_all_stream`] is what to call. By itself it is one [`File::write_batch`] of all.
    fn write_stream<'b>(&self, writes: &mut dyn Iterator<Item = WriteAt<'b>>) -> Vec<WriteAt<'b>> {
        let mut batch: Vec<WriteAt<'b>> = writes.collect();
        self.write_batch(&mut batch);
        batch
    }

    /// The lengths, in bytes, of writes that a power cut leaves whole or undone: the powers of two from the least to the greatest. `None`
    /// where the system makes no such promise. [`File::write_batch_atomic`] makes them.
    fn atomic_write_units(&self) -> Option<RangeInclusive<usize>> {
        None
    }

    /// Writes several ranges, in any order or at once, of which a power cut leaves each whole or undone (`RWF_ATOMIC`); they are durable after a
    /// sync, as others are. Each has a length of [`File::atomic_write_units`] and stands at a multiple of it; no two overlap. What came of each
    /// is in its `result`: its length or an error, for none is short. Raw: may give `Interrupted`. [`crate::write_all_batch_atomic`] is what
    /// to call. By itself all of them are `Unsupported`.
    fn write_batch_atomic(&self, batch: &mut [WriteAt<'_>]) {
        for write in batch {
            write.result = Err(io::ErrorKind::Unsupported.into());
        }
    }

    /// Reads into several buffers, one behind the other, from one position. Raw, as [`File::read_at`] is: what it gives fills them in
    /// order; [`crate::read_exact_vectored_at`] is what to call. By itself it fills the first that holds anything.
    fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let first = bufs.iter_mut().find(|buf| !buf.is_empty());
        first.map_or(Ok(0), |buf| self.read_at(buf, offset))
    }

    /// Writes several buffers, one behind the other, at one position. Raw, as [`File::write_at`] is: what it takes it takes in order;
    /// [`crate::write_all_vectored_at`] is what to call. By itself it writes the first that holds anything.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        first.map_or(Ok(0), |buf| self.write_at(buf, offset))
    }

    /// Makes durable every write and the length as they were when the call began (`fdatasync`). The name is not
    /// included. On Windows the file must be open to write. A failure is final: what was dirty may be clean now without being durable, so a second sync that
    /// succeeds says nothing. Never retry, not even `Interrupted` (I4, I9).
    fn sync(&self) -> io::Result<()>;

    /// Writes at a position; the bytes taken, and the length that they need, are durable when this returns (`RWF_DSYNC`). Nothing is
    /// said of what was written before. Raw: may take fewer bytes than given. Any error but `Unsupported` is final, as a
    /// failed sync is (I9), `Interrupted` too. [`crate::write_durable`] is what to call.
    fn write_dsync(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let _ = (buf, offset);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes several ranges as [`File::write_batch`] does, and syncs behind all of them as [`File::sync`] does, in one call of the
    /// system. `true` if all were written and the sync succeeded; `false` if a write came short or failed, and so no sync was tried: what
    /// came of each is in its `result`. `Unsupported`, with nothing done, where there is no such call; any other error is that of
    /// the sync. [`crate::write_durable`] is what to call.
    fn write_batch_and_sync(&self, batch: &mut [WriteAt<'_>]) -> io::Result<bool> {
        let _ = batch;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is zero.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file or extends it with zeros that have no blocks.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Allocates blocks for `offset..offset + len` and extends the file to `offset + len` if it is shorter; bytes that
    /// are there stay, new ones are zero. On an error the length is what it was. Where the file system cannot allocate
    /// ahead, zeros are written behind the end of the file instead. Nobody may write past the end meanwhile.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Gives the blocks of `offset..offset + len` back to the file system, those that lie in it as a whole. All bytes of the range are
    /// zero afterwards; the length stays, and what lies past the end is left alone. It is a write: until a sync each part of the
    /// range may be as it was, and nobody may write there meanwhile. `len` 0 does nothing.
    ///
    /// Errors: `Unsupported`, with nothing changed, where the file system cannot; `InvalidInput` past the largest offset.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Err(io::Error::new(io::ErrorKind::Unsupported, "files of this kind have no holes"))
    }

    /// Forgets what the system's cache holds of this file and is not waiting to be written, so that what is read next comes
    /// from the device. After a failed sync a cache may show, as clean, bytes that are on no device (I9): who decides what is
    /// durable by reading drops the cache first. What is waiting to be written stays: it is no lie, and a sync may still save
    /// it. What the device itself caches is not included.
    ///
    /// It is as strong as the system's call: pages that somebody has mapped, or transfers at this moment, may stay. Errors:
    /// `Unsupported` where the system cannot be asked.
    fn drop_cache(&self) -> io::Result<()>;

    /// Locks the whole file against every other handle, in this process and others. `false` if somebody else has it.
    /// The lock ends with the handle.
    fn try_lock(&self) -> io::Result<bool>;

    /// Locks the whole file against every handle that locks it by [`File::try_lock`], beside others that share it: for who only
    /// reads. `false` if somebody has it alone. Where locks cannot be shared this is [`File::try_lock`].
    fn try_lock_shared(&self) -> io::Result<bool> {
        self.try_lock()
    }

    /// How batches of this handle are done: never [`Backend::Best`]. It is decided once, at the latest by this call.
    fn backend(&self) -> Backend {
        Backend::Blocking
    }

    /// Whether direct I/O is active now: under [`DirectIo::Prefer`] the answer tells of a fallback.
    fn is_direct(&self) -> bool;

    /// Maps these bytes of the file into memory, where they stay until the map is dropped; as many maps as one likes, and as the
    /// file grows. Map and file are one cache: reads of the file see what the map holds.
    ///
    /// The file must have been opened with [`DirectIo::Off`], must be locked by this handle ([`File::try_lock_shared`] will do for
    /// [`MapAccess::Read`]), and must reach to the end of the range; one that is to be written should be reserved that far ([`File::reserve`]), because a full disk found by writing
    /// into a hole of a map is no error but a signal that ends the process. Until the map is dropped the lock lasts, though the
    /// handle be dropped, and this handle refuses, with `InvalidInput`, whatever would change the bytes behind the map's back: writes that meet
    /// the range, lengths that end before it (on Windows any cut), another map of the same bytes unless both are for reading, and
    /// another kind of lock.
    ///
    /// That lock is what makes slices of the map sound: everybody who writes the file holds its lock. Another process that
    /// ignores locks can break them, and can cut the file, which ends this process by a signal (E14).
    ///
    /// Errors: `InvalidInput` for an empty range, one that is in use, a direct file or one without a lock; `UnexpectedEof` for a file that is
    /// shorter; `PermissionDenied` for [`MapAccess::Write`] of a file that was opened to read; `OutOfMemory` (I16); `Unsupported` for a file that has no maps.
    fn map(&self, range: Range<u64>, access: MapAccess) -> io::Result<FileMap> {
        let _ = (range, access);
        Err(io::Error::new(io::ErrorKind::Unsupported, "files of this kind have no maps"))
    }
}

/// Bytes of a file in memory, as [`File::map`] gives them in a [`FileMap`]. They never move.
///
/// A page that was changed can reach the disk at any instant (C10), or not at all until a flush or [`File::sync`] has
/// succeeded: what must not be torn or early does not belong into a map.
pub trait Map: Send + Sync + Debug {
    /// The bytes. Their address has the remainder modulo 4096 that their offset in the file has.
    fn bytes(&self) -> &[u8];

    /// The bytes, to change. Panics on a map that was made with [`MapAccess::Read`].
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Makes durable what these bytes of the map were when the call began (`msync`), with the whole pages of memory in which
    /// they lie, and the length of the file. A failure is final, as that of [`File::sync`] is (I9): both are syncs of the file, and
    /// one tells of the other's failure or not. `InvalidInput` if the range leads past the end of the map.
    fn flush(&self, range: Range<usize>) -> io::Result<()>;
}

/// What a map is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MapAccess {
    /// To read.
    Read,
    /// To read and write, shared with the file.
    Write,
}

/// One read of a batch.
#[derive(Debug)]
pub struct ReadAt<'b> {
    /// Where to put the bytes, and how many are wanted.
    pub buf: &'b mut [u8],
    /// Where they stand in the file.
    pub offset: u64,
    /// What came of it: the bytes got, as from [`File::read_at`]. Nothing yet is 0.
    pub result: io::Result<usize>,
}

impl<'b> ReadAt<'b> {
    /// A read to be done.
    pub fn new(buf: &'b mut [u8], offset: u64) -> Self {
        Self { buf, offset, result: Ok(0) }
    }
}

/// One write of a batch.
#[derive(Debug)]
pub struct WriteAt<'b> {
    /// The bytes.
    pub buf: &'b [u8],
    /// Where they shall stand in the file.
    pub offset: u64,
    /// What came of it: the bytes taken, as from [`File::write_at`]. Nothing yet is 0.
    pub result: io::Result<usize>,
}

impl<'b> WriteAt<'b> {
    /// A write to be done.
    pub fn new(buf: &'b [u8], offset: u64) -> Self {
        Self { buf, offset, result: Ok(0) }
    }
}

/// By which of the system's calls written bytes are made durable: see [`crate::write_durable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum DurableBy {
    /// Writes, then a sync of the file. There is no file without it.
    #[default]
    Fdatasync,
    /// Each write is durable when it returns (`pwritev2` with `RWF_DSYNC`).
    Pwritev2Dsync,
    /// The same, because the file was opened for it ([`Disk::open_dsync`], `O_DSYNC`).
    ODsync,
    /// The writes and a sync that is linked to all of them, in one call (io_uring).
    IoUring,
}

impl DurableBy {
    /// All of them, [`DurableBy::Fdatasync`] first.
    pub const ALL: [Self; 4] = [Self::Fdatasync, Self::Pwritev2Dsync, Self::ODsync, Self::IoUring];

    /// Its name: `fdatasync`, `pwritev2_dsync`, `o_dsync`, `io_uring`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fdatasync => "fdatasync",
            Self::Pwritev2Dsync => "pwritev2_dsync",
            Self::ODsync => "o_dsync",
            Self::IoUring => "io_uring",
        }
    }
}

impl std::fmt::Display for DurableBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenHow {
    /// Whether it must exist, must not exist, or either.
    pub create: Create,
    /// Whether it will be written. Creating implies it.
    pub write: bool,
    /// Whether to go past the system's cache.
    pub direct: DirectIo,
}

impl OpenHow {
    /// An existing file, to read.
    pub const fn read(direct: DirectIo) -> Self {
        Self { create: Create::Existing, write: false, direct }
    }

    /// An existing file, to read and write.
    pub const fn write(direct: DirectIo) -> Self {
        Self { create: Create::Existing, write: true, direct }
    }

    /// A file that does not exist yet, to read and write.
    pub const fn create_new(direct: DirectIo) -> Self {
        Self { create: Create::New, write: true, direct }
    }
}

/// Whether opening makes the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Create {
    /// It must exist.
    Existing,
    /// It must not exist; it is made, for its owner alone (mode 0600).
    New,
    /// It is opened, or made as by [`Create::New`].
    OpenOrNew,
}

/// Whether to go past the system's cache (`O_DIRECT` on Linux).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum DirectIo {
    /// Direct, or the file does not open.
    Required,
    /// Direct where the file system can; [`File::is_direct`] reports a fallback.
    #[default]
    Prefer,
    /// Through the system's cache.
    Off,
}

impl From<bool> for DirectIo {
    /// `true` is [`DirectIo::Prefer`], `false` is [`DirectIo::Off`].
    fn from(direct: bool) -> Self {
        if direct { Self::Prefer } else { Self::Off }
    }
}

/// How batches of transfers are done: [`File::read_batch`], [`File::write_batch`]. A transfer alone blocks in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Backend {
    /// As [`Backend::IoUring`] where the system gives a ring to the handle's first batch, else as [`Backend::Threads`].
    /// [`File::backend`] reports which.
    #[default]
    Best,
    /// One by one, by blocking calls.
    Blocking,
    /// At once, through io_uring (Linux); files do not open without. A batch for which the system has no ring left, for want of
    /// descriptors or memory, is done one by one.
    IoUring,
    /// At once, by a few threads of the handle that block. They start with the first batch and end with the handle; where the system
    /// gives none, it is as [`Backend::Blocking`].
    Threads,
}

/// What stands under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a symbolic link, a FIFO, a device, a socket.
    Other,
}
