//! What can go wrong with the log, with what was expected and what was found.

use std::io;
use std::sync::Arc;

use pagestone_page_format::{Lsn, PageError};

/// The result of everything that touches the log.
pub type WalResult<T> = Result<T, WalError>;

/// Why the log could not be read, written or believed. Carries LSNs and sizes, never user bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The system refused or failed an operation.
    #[error("log: {operation} failed: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log is damaged where it is known to have been durable: this is no torn tail (M2). Nothing was changed on disk.
    #[error("log is corrupt at LSN {lsn}: {reason}")]
    WalCorrupt {
        /// Where the readable log ends, or where the damage is.
        lsn: Lsn,
        /// What was wrong.
        reason: &'static str,
    },
    /// No file of the log holds this LSN, which recovery has to start from: the log is gone, or starts behind it.
    #[error("no segment of the log holds LSN {lsn}")]
    Missing {
        /// What was looked for.
        lsn: Lsn,
    },
    /// Files that do not belong together: another store's log, or a log newer than the superblock (E2).
    #[error("mismatch: {expected} expected, {found} found")]
    Mismatch {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A log was to be created where one already holds something.
    #[error("a log with contents is already there")]
    AlreadyExists,
    /// An option that makes no sense.
    #[error("invalid log option: {reason}")]
    InvalidOptions {
        /// What was wrong.
        reason: &'static str,
    },
    /// A group that no buffer, or not the budget, can hold. Nothing was appended.
    #[error("a group of {bytes} bytes is too large for the log, which takes {max}")]
    GroupTooLarge {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that the largest group may have.
        max: usize,
    },
    /// The log's budget is used up and no checkpoint freed any of it in time. Nothing was appended.
    #[error("log is full: {needed} bytes needed, {used} of {budget} in use")]
    LogFull {
        /// Bytes asked for.
        needed: u64,
        /// Bytes between the keep LSN and the end.
        used: u64,
        /// The budget.
        budget: u64,
    },
    /// The disk or the quota has no room for another segment. Nothing was appended; the handle lives (I10).
    #[error("no space for a log segment of {needed} bytes")]
    NoSpace {
        /// Bytes that could not be had.
        needed: u64,
    },
    /// Somebody waits for an LSN that nothing was ever appended at.
    #[error("LSN {lsn} lies beyond the log's end {end}")]
    BeyondEnd {
        /// What was waited for.
        lsn: Lsn,
        /// The end of the log.
        end: Lsn,
    },
    /// The handle was dropped before this LSN was durable: told to who is called back ([`crate::Wal::on_durable`]). What the next opening
    /// finds of it may be anything up to all of it.
    #[error("the log was dropped before LSN {lsn} was durable")]
    Dropped {
        /// What was waited for.
        lsn: Lsn,
    },
    /// The handle saw a failure on the write path and is dead until it is reopened (R5, L9).
    #[error("poisoned by an earlier failure: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// What replay handed a group to could not apply it.
    #[error("a group could not be applied: {0}")]
    Page(#[source] PageError),
}

impl WalError {
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    pub(crate) fn corrupt(lsn: Lsn, reason: &'static str) -> Self {
        Self::WalCorrupt { lsn, reason }
    }
}

impl From<PageError> for WalError {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Poisoned { cause } => Self::Poisoned { cause },
            PageError::Io { operation, source } => Self::Io { operation, source },
            other => Self::Page(other),
        }
    }
}

impl From<WalError> for PageError {
    /// For layers that speak of pages only. What has no counterpart becomes an I/O error with this one as its source.
    fn from(error: WalError) -> Self {
        match error {
            WalError::Io { operation, source } => Self::io(operation, source),
            WalError::Poisoned { cause } => Self::Poisoned { cause },
            WalError::NoSpace { needed } => Self::NoSpace { needed },
            WalError::Mismatch { expected, found } => Self::Mismatch { expected, found },
            WalError::Page(error) => error,
            other => Self::Io { operation: "log", source: io::Error::other(other) },
        }
    }
}
