//! What the files of a log take.

use std::fs;
use std::path::Path;

/// What is measured is the sum of the lengths of all files in the directory of the log: of the segments that recovery would
/// read, of the spare ones, and of one that is being made. A file that goes while it is looked at counts nothing.
#[derive(Debug, Default)]
pub(crate) struct LogFiles {
    /// Measurements.
    pub(crate) looks: u64,
    /// The most bytes that one of them gave.
    pub(crate) most: u64,
}

impl LogFiles {
    /// What they may take: `--log 4MiB`.
    pub(crate) const LIMIT: u64 = 4 << 20;
    /// One segment, as the command cuts it.
    pub(crate) const SEGMENT: u64 = Self::LIMIT / 16;
    /// The budget that the command gives the store: the files may take two segments more.
    pub(crate) const BUDGET: u64 = Self::LIMIT - 2 * Self::SEGMENT;

    /// Measures the log of the store in `store`, if there is one yet. Panics if it takes more than it may.
    pub(crate) fn measure(&mut self, store: &Path, context: &str) {
        let Ok(files) = fs::read_dir(store.join("log")) else { return };
        let bytes = files.flatten().flat_map(|file| file.metadata()).map(|about| about.len()).sum();
        self.looks += 1;
        self.most = self.most.max(bytes);
        assert!(
            bytes <= Self::LIMIT,
            "{context}: the files of the log take {bytes} bytes of {}",
            Self::LIMIT
        );
    }

    /// In half a line.
    pub(crate) fn to_line(&self) -> String {
        format!("files of {} bytes at most, of {} (measured {} times)", self.most, Self::LIMIT, self.looks)
    }
}
