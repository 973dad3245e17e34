//! What is wrong without any crash.
//!
//! Invariant: a list here says of no correct store anything; so every test may end with an empty one, whatever it was about.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::names::FileId;

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
    /// Something was acknowledged that no successful sync has covered ([`SimDisk::acknowledge`](crate::SimDisk::acknowledge)): it
    /// can be lost (R1).
    AcknowledgedUnsynced {
        /// The file.
        path: PathBuf,
        /// What of it is not durable.
        what: NotDurable,
    },
    /// Bytes were written that must not be ([`SimDisk::forbid_writes`](crate::SimDisk::forbid_writes)): those of a free page, say.
    ForbiddenWrite {
        /// The file.
        path: PathBuf,
        /// The bytes that were written.
        bytes: Range<u64>,
    },
    /// A sync of a handle that was open when a sync of its file failed: its success says nothing (I9, L9).
    SyncRetried {
        /// The file.
        path: PathBuf,
    },
}

/// What of a file is not durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotDurable {
    /// These bytes were written after the last sync.
    Pending(Range<u64>),
    /// A sync that failed had to cover these bytes, and nobody has written them since.
    Lost(Range<u64>),
    /// The file was made longer after the last sync: a crash can end it here.
    Length(u64),
    /// Its name, or that of a directory above it: no sync of the directory has covered it.
    Name,
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
            Self::AcknowledgedUnsynced { path, what } => {
                write!(f, "{}: acknowledged and not durable: {what:?}", path.display())
            }
            Self::ForbiddenWrite { path, bytes } => {
                write!(f, "{}: {bytes:?} are written and must not be", path.display())
            }
            Self::SyncRetried { path } => write!(f, "{}: a sync after a failed sync", path.display()),
        }
    }
}

/// Bytes of files, for the audit.
#[derive(Clone, Debug, Default)]
pub(super) struct Marked(Vec<(FileId, Range<u64>)>);

impl Marked {
    pub(super) fn add(&mut self, file: FileId, bytes: Range<u64>) {
        self.remove(file, &bytes);
        self.0.push((file, bytes));
    }

    pub(super) fn remove(&mut self, file: FileId, bytes: &Range<u64>) {
        let around = |(of, there): (FileId, Range<u64>)| {
            let (before, behind) =
                (there.start..there.end.min(bytes.start), there.start.max(bytes.end)..there.end);
            let parts = if of == file { [before, behind] } else { [there, 0..0] };
            parts.into_iter().filter(|part| !part.is_empty()).map(move |part| (of, part))
        };
        self.0 = std::mem::take(&mut self.0).into_iter().flat_map(around).collect();
    }

    /// The first bytes that are marked and in the range.
    pub(super) fn meets(&self, file: FileId, bytes: &Range<u64>) -> Option<Range<u64>> {
        let common = |there: &Range<u64>| there.start.max(bytes.start)..there.end.min(bytes.end);
        let of_file = self.0.iter().filter(|(of, _)| *of == file);
        of_file.map(|(_, there)| common(there)).find(|common| !common.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_cut_out_of_what_they_meet() {
        let (file, other) = (FileId(1), FileId(2));
        let mut marked = Marked::default();
        marked.add(file, 10..20);
        marked.add(other, 10..20);
        marked.remove(file, &(13..15));
        assert_eq!(marked.meets(file, &(0..100)), Some(10..13));
        assert_eq!(marked.meets(file, &(13..15)), None);
        assert_eq!(marked.meets(file, &(14..16)), Some(15..16));
        assert_eq!(marked.meets(other, &(13..15)), Some(13..15));
        marked.remove(file, &(0..13));
        marked.remove(file, &(15..20));
        assert_eq!(marked.meets(file, &(0..100)), None);
    }
}
