//! What is wrong without any crash.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// A use of the disk that no correct store makes, whatever happens to come of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Violation {
    /// Two writes to the same bytes were in flight at once: which of them stays is anybody's guess (C3).
    OverlappingWrites {
        /// The file.
        path: PathBuf,
        /// The bytes of the write that was there.
        first: Range<u64>,
        /// The bytes of the write that came.
        second: Range<u64>,
    },
    /// A write or a cut met bytes that another handle had mapped: it has no lock, and slices of the map are unsound (E14).
    WriteUnderMap {
        /// The file.
        path: PathBuf,
        /// The bytes of the map.
        bytes: Range<u64>,
    },
    /// A sync of a handle that was open when a sync of its file failed: its success says nothing (I9, L9).
    SyncRetried {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverlappingWrites { path, first, second } => {
                write!(f, "{}: writes of {first:?} and {second:?} in flight at once", path.display())
            }
            Self::WriteUnderMap { path, bytes } => {
                write!(f, "{}: {bytes:?} are mapped and changed by another handle", path.display())
            }
            Self::SyncRetried { path } => write!(f, "{}: a sync after a failed sync", path.display()),
        }
    }
}
