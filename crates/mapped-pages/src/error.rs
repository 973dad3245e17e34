//! What can go wrong with a pager, with what was expected and what was found.

use std::io;
use std::sync::Arc;

use pagestone_page_format::PageError;

/// The result of everything that touches a pager.
pub type MappedResult<T> = Result<T, MappedPageError>;

/// Why a pager refused or could not believe what it read. Carries ids and sizes, never user bytes.
///
/// | error | cause | what to do |
/// |---|---|---|
/// | `Io` | the system refused or failed a call | see the source; a full disk is `StorageFull` |
/// | `InvalidPageSize` | no page size, or another than the file's | ask with the file's size |
/// | `CorruptSuperblock` | no file of ours, or both copies are damaged | another file, or a backup |
/// | `CorruptMetadata` | metadata that no torn commit explains | a backup, or [`crate::MappedOptions::accept_older`] |
/// | `OutOfBounds`, `ReservedPage`, `NotAllocated`, `DoubleFree`, `StaleHandle`, `BorrowedTwice` | a wrong id | a bug of the caller's |
/// | `Unavailable` | a growth or a sync failed before | drop the pager and open it anew |
/// | `CorruptProtectedDirectory`, `CorruptDirectoryIndex`, `CorruptProtectedPage` | damage | a backup |
/// | `DirectoryFull` | the file is as long as its format allows | free protected pages |
/// | `Locked` | another handle has the file | close that one |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappedPageError {
    /// The system refused or failed an operation.
    #[error("{operation} failed: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No page size, or not that of the file.
    #[error("pages of {found} bytes, {expected}")]
    InvalidPageSize {
        /// What would have been right.
        expected: String,
        /// Bytes of the size that was found or asked for; 2 to this power where it is past counting.
        found: String,
    },
    /// What stands at the head of the file is not ours, or damaged in both copies.
    #[error("corrupt superblock: {reason}")]
    CorruptSuperblock {
        /// What was wrong.
        reason: String,
    },
    /// Metadata that is damaged, or missing, or contradicts itself, in a way that no torn commit leaves behind.
    #[error("corrupt metadata: {reason}")]
    CorruptMetadata {
        /// What was wrong.
        reason: String,
    },
    /// An id past the end.
    #[error("page {page} of {page_count}")]
    OutOfBounds {
        /// The id.
        page: u64,
        /// Pages, or protected pages, that there can be now.
        page_count: u64,
    },
    /// An id that nobody was given: of the superblock and the metadata (0 to 2), or of a copy of a protected page.
    #[error("page {page} is reserved")]
    ReservedPage {
        /// The id.
        page: u64,
    },
    /// A page that is free was to be read or written.
    #[error("page {page} is not allocated")]
    NotAllocated {
        /// The id.
        page: u64,
    },
    /// A page was to be freed that is free, or twice in one call. Nothing was changed.
    #[error("page {page} is freed twice")]
    DoubleFree {
        /// The id.
        page: u64,
    },
    /// A handle of a sub-page that was freed since. Nothing was changed.
    #[error("slot {slot} of page {page} was freed, and is no longer what the handle was for")]
    StaleHandle {
        /// The parent page.
        page: u64,
        /// The slot in it.
        slot: usize,
    },
    /// One page was to be borrowed twice at once to write.
    #[error("page {page} is asked for twice")]
    BorrowedTwice {
        /// The id.
        page: u64,
    },
    /// A growth or a sync failed before: nobody knows what is on disk, and nothing is read or written until the file is opened anew.
    #[error("unavailable until it is opened anew: {cause}")]
    Unavailable {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The directory of protected pages says of one what cannot be.
    #[error("corrupt protected page directory, protected page {page}: {reason}")]
    CorruptProtectedDirectory {
        /// The protected page's id.
        page: u64,
        /// What was wrong.
        reason: &'static str,
    },
    /// What says how much of the directory is in use says what cannot be.
    #[error("corrupt directory index of region {region}: {entries} entries, {max} are possible")]
    CorruptDirectoryIndex {
        /// The region of the file.
        region: u64,
        /// Entries that it is said to have.
        entries: u64,
        /// The most that it can have.
        max: u64,
    },
    /// The active copy of a protected page is not what was committed.
    #[error("corrupt protected page {page}: checksum {stored:#x} expected, {computed:#x} found")]
    CorruptProtectedPage {
        /// The protected page's id.
        page: u64,
        /// The checksum in the directory.
        stored: u32,
        /// That of the bytes.
        computed: u32,
    },
    /// No room for another protected page, and none to grow into. Nothing was changed.
    #[error("the directory of protected pages is full: {capacity} entries")]
    DirectoryFull {
        /// Entries that the file can have in all.
        capacity: u64,
    },
    /// Another handle, here or in another process, has the file open.
    #[error("{path} is locked by another handle")]
    Locked {
        /// The file.
        path: String,
    },
}

impl MappedPageError {
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Self {
        Self::Io { operation, source }
    }

    pub(crate) fn metadata(reason: impl Into<String>) -> Self {
        Self::CorruptMetadata { reason: reason.into() }
    }
}

impl From<PageError> for MappedPageError {
    /// Of what the layer of files says: a lock that was not had, a poisoned handle, what the system said.
    fn from(error: PageError) -> Self {
        match error {
            PageError::Locked { path } => Self::Locked { path },
            PageError::Poisoned { cause } => Self::Unavailable { cause },
            PageError::Io { operation, source } => Self::Io { operation, source },
            other => Self::Io { operation: "an operation on the file", source: io::Error::other(other) },
        }
    }
}
