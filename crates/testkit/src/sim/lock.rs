//! Who holds the lock of a file.
//!
//! Invariant: one handle alone, or any number that share it.

use std::collections::BTreeSet;

use pagestone_direct_io::MapAccess;

/// The lock of one file.
#[derive(Debug, Default)]
pub(super) struct Lock {
    alone: bool,
    by: BTreeSet<u64>,
}

impl Lock {
    /// Takes it, or takes it otherwise. As on a real system a handle that had it and wants it otherwise lets go of it first.
    pub(super) fn take(&mut self, handle: u64, alone: bool) -> bool {
        self.by.remove(&handle);
        let free = self.by.is_empty() || !alone && !self.alone;
        if free {
            self.alone = alone;
            self.by.insert(handle);
        }
        free
    }

    pub(super) fn release(&mut self, handle: u64) {
        self.by.remove(&handle);
    }

    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether a handle may map the file.
    pub(super) fn allows(&self, handle: u64, access: MapAccess) -> bool {
        self.by.contains(&handle) && (self.alone || access == MapAccess::Read)
    }
}
