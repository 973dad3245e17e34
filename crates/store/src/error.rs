//! What can go wrong with a store.
//!
//! | error | cause | what to do |
//! |---|---|---|
//! | `Page(Locked)` | another handle has the store open | close it |
//! | `Page(ReadOnly)` | the file system takes no writes; nothing was changed | mount it for writing |
//! | `Page(NoSpace)`, `Wal(NoSpace)`, `Io` with `StorageFull` | the disk is full; everything acknowledged is there and can be read | free space, then again, with the same handle |
//! | `Page(Io)`, `PermissionDenied` | the files are another user's | run as their owner, or have the mode changed |
//! | `Page(Io)`, `Unsupported` | direct I/O was required, and the file system has none | `DirectIo::Prefer` or `Off` |
//! | `Page(Io)` of a read | the device cannot read this page | the others can be read; restore a backup |
//! | `Page(InvalidSuperblock)` | not a store, or both copies broken | restore a backup |
//! | `Page(ChecksumMismatch)` and kin | the disk gave other bytes than were written | restore a backup |
//! | `Wal(WalCorrupt)` | the log is broken before its tail | restore a backup; nothing was changed |
//! | `Page(Poisoned)` | an earlier write or sync failed | close, mend the disk, open again |
//! | `Wal(AlreadyExists)` | there is a log and no data file | restore the data file |
//! | `Tree(KeyTooLong)` | it does not fit a page | a larger page size, or a shorter key |
//! | `Tree(KeyExists)` | an insert of a key that is there | `put` replaces; `compare_and_swap` on condition |
//! | `Tree(NotEmpty)`, `Tree(NotSorted)` | a bulk load into a tree with entries, or of entries out of order | an empty tree, sorted entries, each key once |
//! | `Tree(ValueTooLong)` | more than 4 GiB | shorter values, several of them |
//! | `Tree(Source)` | the reader of a value failed | the tree is as it was; again with another reader |
//! | `Tree(BatchTooLarge)` | a batch takes too many leaves, too many regions of the file or too much log | split it up, or a larger pool and log |
//! | `Tree(ForeignTree)` | a tree of another handle in a batch | a batch for each store |
//! | `InvalidOption` | an option makes no sense | see what was expected |
//! | `NotFound` | no store, and none was to be made | `create: true`, or another path |
//! | `NotAStore` | the path holds something else | give another path |
//! | `TreeNotFound`, `TreeExists` | no tree, or already one, has this name | another name |
//! | `TreeName` | a name of no bytes, or of too many | a name within the limit |
//! | `TreeDropped` | the tree of this handle was dropped | `Store::tree` makes a new one |
//! | `BadCatalog` | the list of trees holds what no version writes | restore a backup |
//! | `Closed` | the handle was closed | open again |

use std::path::PathBuf;

use pagestone_btree::TreeError;
use pagestone_page_format::PageError;
use pagestone_wal::WalError;

/// The result of an operation on a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// Why an operation on a store could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Of a page, or of the data file.
    #[error(transparent)]
    Page(PageError),
    /// Of the log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Of a tree.
    #[error(transparent)]
    Tree(TreeError),
    /// There is no store at this path, and none was to be created.
    #[error("no store at {path}")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something stands at this path that is no store.
    #[error("{path} is not a store: {found}")]
    NotAStore {
        /// The path.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// An option makes no sense.
    #[error("option {option}: {found}, expected {expected}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What was given.
        found: String,
        /// What can be given.
        expected: String,
    },
    /// There is no tree of this name.
    #[error("no tree \"{name}\"")]
    TreeNotFound {
        /// The name, bytes that are no printable ASCII escaped.
        name: String,
    },
    /// There is a tree of this name already.
    #[error("there is a tree \"{name}\"")]
    TreeExists {
        /// The name, bytes that are no printable ASCII escaped.
        name: String,
    },
    /// A tree cannot have a name of this length.
    #[error("tree name of {len} bytes, expected 1 to {max}")]
    TreeName {
        /// Bytes of the name.
        len: usize,
        /// The most that there can be.
        max: usize,
    },
    /// The tree was dropped; this handle is of no use any more.
    #[error("the tree was dropped")]
    TreeDropped,
    /// The catalog holds something that is not an entry of it (E4).
    #[error("the catalog of trees: {reason}: expected {expected}, found {found}")]
    BadCatalog {
        /// What does not fit.
        reason: &'static str,
        /// What was expected.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// The handle was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<PageError> for StoreError {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Closed => Self::Closed,
            error => Self::Page(error),
        }
    }
}

impl From<TreeError> for StoreError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Page(error) => error.into(),
            TreeError::Dropped => Self::TreeDropped,
            error => Self::Tree(error),
        }
    }
}

impl StoreError {
    /// Wraps what the system said of an operation.
    pub(crate) fn io(operation: &'static str, source: std::io::Error) -> Self {
        Self::Page(PageError::io(operation, source))
    }
}
