//! What can go wrong with a store.
//!
//! | error | cause | what to do |
//! |---|---|---|
//! | `Page(Locked)` | another handle has the store open | close it |
//! | `Page(InvalidSuperblock)` | not a store, or both copies broken | restore a backup |
//! | `Page(ChecksumMismatch)` and kin | the disk gave other bytes than were written | restore a backup |
//! | `Wal(WalCorrupt)` | the log is broken before its tail | restore a backup; nothing was changed |
//! | `Page(Poisoned)` | an earlier write or sync failed | close, mend the disk, open again |
//! | `Wal(AlreadyExists)` | there is a log and no data file | restore the data file |
//! | `Tree(KeyTooLong, ValueTooLong)` | it does not fit a page | a larger page size, or shorter data |
//! | `InvalidOption` | an option makes no sense | see what was expected |
//! | `NotFound` | no store, and none was to be made | `create: true`, or another path |
//! | `NotAStore` | the path holds something else | give another path |
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
