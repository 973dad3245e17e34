//! How a command ends.

use std::io;
use std::path::PathBuf;

use kvstore::StoreError;

use super::encoding::Malformed;

/// A command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it was asked.
    Done,
    /// The key is not there.
    Missing,
    /// The store is damaged; how stands on stderr.
    Unsound,
}

/// Why a command failed. Carries positions and sizes, never keys or values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An argument makes no sense.
    #[error("{name}: {reason}")]
    Argument {
        /// Which one.
        name: &'static str,
        /// Why not.
        reason: String,
    },
    /// A line cannot be read.
    #[error("line {line}: {reason}; {kept}")]
    Line {
        /// Counted from one.
        line: u64,
        /// Why not.
        reason: Malformed,
        /// What the store holds of the lines before it.
        kept: &'static str,
    },
    /// A line cannot be applied.
    #[error("line {line}: {source}; {kept}")]
    Put {
        /// Counted from one.
        line: u64,
        /// Why not.
        source: StoreError,
        /// What the store holds of the lines before it.
        kept: &'static str,
    },
    /// The lines of a batch are more than are kept in memory.
    #[error(
        "line {line}: a batch of more than {limit} bytes; nothing was changed; an import takes any number of lines"
    )]
    BatchTooLarge {
        /// Counted from one.
        line: u64,
        /// Keys and values together, at most.
        limit: usize,
    },
    /// An entry does not fit into a line.
    #[error(
        "entry {entry}: a value of {found} bytes, of which a line holds {limit} at most; `get KEY --output FILE` gives it whole"
    )]
    TooLarge {
        /// Counted from one, in the order of the listing.
        entry: u64,
        /// The length of its value.
        found: usize,
        /// The longest value of a line.
        limit: usize,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value cannot be read out of the store; what was read of it before is right.
    #[error("reading the value: {0}")]
    Value(#[source] io::Error),
    /// Stdout cannot be written.
    #[error("writing to stdout: {0}")]
    Output(#[source] io::Error),
    /// Stdout cannot be written, and an import stopped for it.
    #[error("writing the acknowledgements: {source}; stopped behind line {lines}")]
    Acks {
        /// Lines that were put.
        lines: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("starting a thread: {0}")]
    Thread(#[source] io::Error),
}

impl Failure {
    /// Whether the reader of stdout has left, as `head` does.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
