//! What can go wrong with pages and files, with what was expected and what was found.
//!
//! | error | cause | what to do |
//! |---|---|---|
//! | `Io` | the system failed the operation; its `source` says why | see below |
//! | `Io`, `NotFound` | no file, and none was to be made | `create(true)`, or another path |
//! | `Io`, `PermissionDenied` | the file or its directory is another user's | run as its owner, or have the mode changed |
//! | `Io`, `StorageFull` and `QuotaExceeded` of a write | the disk is full; the page is as it was, or torn | free space, then write it again |
//! | `Io`, `Unsupported` | direct I/O was required, and the file system has none | `DirectIo::Prefer` or `Off` |
//! | `Io`, `EMFILE`, `ENFILE`, `ENOMEM` | the process or the system is at a limit | raise it, then again; nothing was changed |
//! | `Io`, `EIO` of a read | the device cannot read this page | the others can be read; restore a backup |
//! | `Io` of a sync | what was written since the last sync may be lost | open again; the handle is `Poisoned` |
//! | `NoSpace` | no room for more pages | free space, then again: nothing was changed, all pages can be read |
//! | `ReadOnly` | the file system, or the handle, takes no writes | open it read-only, or mount it for writing |
//! | `Locked` | another handle has the file open | close it |
//! | `Poisoned` | an earlier write or sync failed for good | mend the cause, open again |
//! | `BadMagic`, `ChecksumMismatch`, `Malformed` | other bytes than were written, or never written | restore a backup; the other pages are good |
//! | `MisdirectedPage` | a write or a read went astray | restore a backup |
//! | `ShortRead` | the file was cut off | restore a backup |
//! | `UnsupportedVersion` | of a later version, or broken | a build that knows it |
//! | `InvalidSuperblock` | no page file, or both copies are broken | another path, or restore a backup |
//! | `Mismatch` | files of another kind, size or store | give what belongs together |
//! | `LsnBeyondLog` | a newer data file beside an older log | restore both from one backup |
//! | `InvalidPageId` | an id that the file has no place for | `grow`, or another id |
//! | `InvalidPageSize` | no power of two from 4 KiB to 1 MiB, or a page of another file | another size |
//! | `AllocationState` | freed twice, or given out twice | a bug of the caller's |
//! | `BufferPoolExhausted` | every frame is pinned | drop pins, or a larger pool |
//! | `BudgetRefused` | a pool's budget below its pins or a tree's least, or above its reservation | drop pins, or reserve more |
//! | `Closed` | the handle was closed | open again |

use std::sync::Arc;

use crate::{Lsn, PageId};

/// The result of everything that touches pages or files.
pub type PageResult<T> = Result<T, PageError>;

/// Why a page or a file could not be read, written or believed. Carries ids and sizes, never user bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The system refused or failed an operation.
    #[error("{operation} failed: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A page size that is no power of two from 4 KiB to 1 MiB.
    #[error("page size {size} is not a power of two from 4096 to 1048576")]
    InvalidPageSize {
        /// The size asked for, in bytes.
        size: usize,
    },
    /// The page does not begin as a page of this format does.
    #[error("page {page_id}: magic {found:#06x}, expected {expected:#06x}")]
    BadMagic {
        /// The page that was read.
        page_id: PageId,
        /// What stood there.
        found: u16,
        /// What must stand there.
        expected: u16,
    },
    /// A format version that this build does not know.
    #[error("format version {found}, this build supports {supported}")]
    UnsupportedVersion {
        /// What stood there.
        found: u32,
        /// What is supported.
        supported: u32,
    },
    /// The bytes are not those that were written (M1), or belong to another file.
    #[error("page {page_id}: checksum {stored:#x} stored, {computed:#x} computed")]
    ChecksumMismatch {
        /// The page that was read.
        page_id: PageId,
        /// The checksum in the header.
        stored: u64,
        /// The checksum of the bytes.
        computed: u64,
    },
    /// A whole page, at the wrong place (M6, M8).
    #[error("page {requested} was asked for, page {found} stands there")]
    MisdirectedPage {
        /// The page asked for.
        requested: PageId,
        /// The page found.
        found: PageId,
    },
    /// The file ended inside the page (I2, M9).
    #[error("page {page_id}: {got} of {page_size} bytes")]
    ShortRead {
        /// The page asked for.
        page_id: PageId,
        /// Bytes that were there.
        got: usize,
        /// Bytes of a page.
        page_size: usize,
    },
    /// Every frame stayed pinned for the whole bounded wait (E9).
    #[error("all {capacity} frames of the pool are pinned")]
    BufferPoolExhausted {
        /// Frames of the pool.
        capacity: usize,
    },
    /// A pool's budget cannot be moved there: fewer frames than it works with, or than are pinned, or more than were reserved.
    #[error("a budget of {frames} frames, from {least} to {most} can be had now")]
    BudgetRefused {
        /// Frames asked for.
        frames: usize,
        /// The fewest that could be had: what somebody needs at least, and what holds all that is pinned or admitted.
        least: usize,
        /// Frames that were reserved.
        most: usize,
    },
    /// An id that the file does not have, or that no file can have.
    #[error("page {page_id} is outside the file")]
    InvalidPageId {
        /// The id asked for.
        page_id: PageId,
    },
    /// No copy of the superblock can be used, or a parameter in it makes no sense.
    #[error("invalid superblock: {reason}")]
    InvalidSuperblock {
        /// What was wrong.
        reason: String,
    },
    /// A page whose checksum is right and whose structure is not (E4).
    #[error("page {page_id} is malformed: {reason}")]
    Malformed {
        /// The page.
        page_id: PageId,
        /// What was wrong.
        reason: &'static str,
    },
    /// A page carries an LSN past the end of the log (E2: a newer data file beside an older log).
    #[error("page {page_id} carries LSN {found}, the log is durable up to {durable}")]
    LsnBeyondLog {
        /// The page.
        page_id: PageId,
        /// The LSN in its header.
        found: Lsn,
        /// Where the log is known to be durable.
        durable: Lsn,
    },
    /// Another handle, here or in another process, has the file open (E1).
    #[error("{path} is locked by another handle")]
    Locked {
        /// The locked file.
        path: String,
    },
    /// The disk or the quota is full; nothing was changed (I10, I11).
    #[error("no space: {needed} bytes needed")]
    NoSpace {
        /// Bytes that could not be had.
        needed: u64,
    },
    /// The file system, or the handle, takes no writes (I13). Nothing was changed.
    #[error("{operation} failed: read-only")]
    ReadOnly {
        /// What was tried.
        operation: &'static str,
    },
    /// Files that do not belong together, or not to us (E2, E3).
    #[error("mismatch: {expected} expected, {found} found")]
    Mismatch {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// An id was freed that is not allocated (a double free), or allocated twice.
    #[error("page {page_id} is {state}, which this change does not allow")]
    AllocationState {
        /// The page.
        page_id: PageId,
        /// The state it is in: `"free"` or `"allocated"`.
        state: &'static str,
    },
    /// The handle was closed.
    #[error("the handle is closed")]
    Closed,
    /// The handle saw a failure on the write path and is dead for writes until it is reopened (R5, L9).
    #[error("poisoned by an earlier failure: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
}

impl PageError {
    /// Wraps what the system said of an operation: `ReadOnly` for a file system that takes no writes, `Io` for all else. `NoSpace` and `QuotaExceeded` stay I/O errors here: only the caller
    /// knows whether anything was changed.
    pub fn io(operation: &'static str, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { operation },
            _ => Self::Io { operation, source },
        }
    }

    /// The same error for somebody else who waited for the same operation. Of what the system said it keeps the number, or
    /// else the kind and the words.
    pub fn again(&self) -> Self {
        match self {
            Self::Io { operation, source } => {
                let source = match source.raw_os_error() {
                    Some(number) => std::io::Error::from_raw_os_error(number),
                    None => std::io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { operation, source }
            }
            Self::InvalidPageSize { size } => Self::InvalidPageSize { size: *size },
            Self::BadMagic { page_id, found, expected } => {
                Self::BadMagic { page_id: *page_id, found: *found, expected: *expected }
            }
            Self::UnsupportedVersion { found, supported } => {
                Self::UnsupportedVersion { found: *found, supported: *supported }
            }
            Self::ChecksumMismatch { page_id, stored, computed } => {
                Self::ChecksumMismatch { page_id: *page_id, stored: *stored, computed: *computed }
            }
            Self::MisdirectedPage { requested, found } => {
                Self::MisdirectedPage { requested: *requested, found: *found }
            }
            Self::ShortRead { page_id, got, page_size } => {
                Self::ShortRead { page_id: *page_id, got: *got, page_size: *page_size }
            }
            Self::BufferPoolExhausted { capacity } => Self::BufferPoolExhausted { capacity: *capacity },
            Self::BudgetRefused { frames, least, most } => {
                Self::BudgetRefused { frames: *frames, least: *least, most: *most }
            }
            Self::InvalidPageId { page_id } => Self::InvalidPageId { page_id: *page_id },
            Self::InvalidSuperblock { reason } => Self::InvalidSuperblock { reason: reason.clone() },
            Self::Malformed { page_id, reason } => Self::Malformed { page_id: *page_id, reason },
            Self::LsnBeyondLog { page_id, found, durable } => {
                Self::LsnBeyondLog { page_id: *page_id, found: *found, durable: *durable }
            }
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::NoSpace { needed } => Self::NoSpace { needed: *needed },
            Self::ReadOnly { operation } => Self::ReadOnly { operation },
            Self::Mismatch { expected, found } => {
                Self::Mismatch { expected: expected.clone(), found: found.clone() }
            }
            Self::AllocationState { page_id, state } => Self::AllocationState { page_id: *page_id, state },
            Self::Closed => Self::Closed,
            Self::Poisoned { cause } => Self::Poisoned { cause: Arc::clone(cause) },
        }
    }
}

/// The first failure on the write path of one handle, shared by every layer of it: sticky, and told to all (R5, L9).
#[derive(Debug, Clone, Default)]
pub struct Poison {
    first: Arc<std::sync::OnceLock<Arc<str>>>,
}

impl Poison {
    /// Nothing has failed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a failure if it is the first one, and gives the error that everybody gets from now on.
    pub fn poison(&self, cause: impl std::fmt::Display) -> PageError {
        let first = self.first.get_or_init(|| cause.to_string().into());
        PageError::Poisoned { cause: Arc::clone(first) }
    }

    /// Refuses if anything has failed before.
    pub fn check(&self) -> PageResult<()> {
        match self.first.get() {
            None => Ok(()),
            Some(cause) => Err(PageError::Poisoned { cause: Arc::clone(cause) }),
        }
    }

    /// Whether anything has failed before: for paths on which an error is too much to carry along.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.first.get().is_some()
    }

    /// The first failure, if there was one.
    pub fn cause(&self) -> Option<Arc<str>> {
        self.first.get().map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_told_again_says_the_same() {
        let id = PageId::new(7);
        for error in [
            PageError::io("read a page", std::io::Error::from_raw_os_error(5)),
            PageError::io("read a page", std::io::Error::other("a store of another kind")),
            PageError::BadMagic { page_id: id, found: 1, expected: 2 },
            PageError::ChecksumMismatch { page_id: id, stored: 1, computed: 2 },
            PageError::MisdirectedPage { requested: id, found: PageId::new(8) },
            PageError::ShortRead { page_id: id, got: 1, page_size: 4096 },
            PageError::LsnBeyondLog { page_id: id, found: Lsn::new(9), durable: Lsn::new(8) },
            PageError::Poisoned { cause: "a sync failed".into() },
        ] {
            let again = error.again();
            assert_eq!(again.to_string(), error.to_string());
            assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&error));
            if let (PageError::Io { source: again, .. }, PageError::Io { source, .. }) = (&again, &error) {
                assert_eq!((again.kind(), again.raw_os_error()), (source.kind(), source.raw_os_error()));
            }
        }
    }
}
