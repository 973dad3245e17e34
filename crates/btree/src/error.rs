//! Errors of the tree, and the control flow that is none.

use pagestone_buffer_pool::Restart;
use pagestone_page_format::{OutOfBounds, PageError, PageId};

/// The result of an operation on a tree.
pub type TreeResult<T> = Result<T, TreeError>;

/// Why an operation on a tree could not be done. Nothing was changed unless the cause is `Poisoned`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The key does not fit a page of this size.
    #[error("key of {len} bytes, at most {max} fit this page size")]
    KeyTooLong {
        /// Bytes of the key.
        len: usize,
        /// The most that fit.
        max: usize,
    },
    /// There is an entry of this key already.
    #[error("there is an entry of this key already")]
    KeyExists,
    /// Only an empty tree can be filled so.
    #[error("the tree has entries; only an empty one can be loaded")]
    NotEmpty,
    /// An entry's key does not sort behind the one before.
    #[error("entry {entry} does not sort behind the one before")]
    NotSorted {
        /// Which entry, counted from 0.
        entry: u64,
    },
    /// The value is longer than any may be, or than the place for it.
    #[error("value of at least {len} bytes, at most {max} fit")]
    ValueTooLong {
        /// Bytes of the value, as far as it was looked at.
        len: u64,
        /// The most that fit.
        max: u64,
    },
    /// What a value was to be read from failed, or ended before its announced length.
    #[error("reading a value from its source: {source}")]
    Source {
        /// What it said.
        source: std::io::Error,
    },
    /// A write batch is larger than one mini-transaction may be; split it up.
    #[error("a write batch of {found} {what}, at most {max} fit")]
    BatchTooLarge {
        /// What it has too much of: `log bytes`, `leaves` or `map pages`.
        what: &'static str,
        /// How much of it, at least.
        found: usize,
        /// The most.
        max: usize,
    },
    /// A write batch names a tree that is not in its store.
    #[error("tree {tree_id} is of another store")]
    ForeignTree {
        /// Number of the tree.
        tree_id: u32,
    },
    /// A page could not be read, written or believed.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The cursor met an error before; seek to start anew (E11).
    #[error("the cursor met an error before")]
    CursorFailed,
    /// The tree was dropped; this handle is of no use any more.
    #[error("the tree was dropped")]
    Dropped,
    /// The page is not the node that the path to it promises (E4).
    #[error("page {page_id}: {reason}: expected {expected}, found {found}")]
    WrongNode {
        /// The page.
        page_id: PageId,
        /// What does not fit.
        reason: &'static str,
        /// What was expected.
        expected: u64,
        /// What was found.
        found: u64,
    },
}

/// Why a step of an operation ended early. No operation of a tree gives it: it never leaves the retry loop. Only who walks by
/// [`crate::look_up_in`] is given it, and takes the step again or gives up.
#[derive(Debug)]
pub enum Interrupt {
    /// Take the step again.
    Restart(Restart),
    /// Give up. Boxed, so that what the steps of a look-up hand each other stays small.
    Fail(Box<TreeError>),
}

impl From<Restart> for Interrupt {
    fn from(restart: Restart) -> Self {
        Self::Restart(restart)
    }
}

impl From<TreeError> for Interrupt {
    fn from(error: TreeError) -> Self {
        Self::Fail(Box::new(error))
    }
}

impl From<PageError> for Interrupt {
    fn from(error: PageError) -> Self {
        TreeError::from(error).into()
    }
}

/// The error for an offset that leads outside a page which nobody was changing.
pub(crate) fn malformed(page_id: PageId) -> impl FnOnce(OutOfBounds) -> TreeError {
    move |error| error.malformed(page_id).into()
}
