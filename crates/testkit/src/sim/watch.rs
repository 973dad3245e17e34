//! What the audit looks at while the disk is used.
//!
//! Invariant: it only looks. Whatever is noted here as a violation, the call goes on as on a real disk, which would say nothing.
//!
//! ```text
//!   write begins ──► meets one in flight?         sync ──► by a handle that saw one fail?
//!   write ─────────► to forbidden bytes?          acknowledged ──► pending, lost, too short, without a name?
//! ```

use std::io;
use std::ops::Range;
use std::path::Path;

use super::audit::{NotDurable, Violation};
use super::journal::Write;
use super::model::Change;
use super::names::{FileId, Node};
use super::state::State;

impl State {
    /// Notes that a write is under way, and whether it meets another.
    pub(super) fn begin_write(&mut self, handle: u64, file: FileId, path: &Path, bytes: Range<u64>) {
        let meets = |there: &Range<u64>| there.start < bytes.end && bytes.start < there.end;
        for (_, _, there) in self.in_flight.iter().filter(|(_, other, there)| *other == file && meets(there))
        {
            self.violations.push(Violation::OverlappingWrites {
                path: path.to_path_buf(),
                first: there.clone(),
                second: bytes.clone(),
            });
        }
        self.in_flight.push((handle, file, bytes));
    }

    /// The write is done.
    pub(super) fn end_write(&mut self, handle: u64, file: FileId, bytes: &Range<u64>) {
        let this =
            self.in_flight.iter().position(|(by, of, there)| (*by, *of, there) == (handle, file, bytes));
        self.in_flight.swap_remove(this.expect("a write ends once, after it began"));
    }

    /// Whether a write to these bytes is under way.
    pub(super) fn is_being_written(&self, file: FileId, bytes: &Range<u64>) -> bool {
        let meets = |there: &Range<u64>| there.start < bytes.end && bytes.start < there.end;
        self.in_flight.iter().any(|(_, of, there)| *of == file && meets(there))
    }

    /// Notes a sync of a handle that was open when an earlier one failed.
    pub(super) fn audit_sync(&mut self, opened_at: u64, file: FileId, path: &Path) {
        if self.sync_failed.get(&file).is_some_and(|failed_at| opened_at < *failed_at) {
            self.violations.push(Violation::SyncRetried { path: path.to_path_buf() });
        }
    }

    /// What is written anew is lost no more, and may be forbidden.
    pub(super) fn audit_write(&mut self, write: &Write) {
        for bytes in write.ranges() {
            self.lost.remove(write.file, &bytes);
            if let Some(bytes) = self.forbidden.meets(write.file, &bytes) {
                let path = self.live.files[&write.file].path.to_path_buf();
                self.violations.push(Violation::ForbiddenWrite { path, bytes });
            }
        }
    }

    /// What of these bytes of a file a crash could take away.
    pub(super) fn audit_acknowledged(&mut self, path: &Path, bytes: &Range<u64>) -> io::Result<()> {
        let (file, live) = self.file(path)?;
        let end = bytes.end.min(live.len);
        let mut found = Vec::new();
        for pending in &self.model.pending {
            let Change::Write(write) = &pending.change else { continue };
            let common = |there: Range<u64>| there.start.max(bytes.start)..there.end.min(bytes.end);
            let ranges = if write.file == file { write.ranges() } else { Vec::new() };
            let meets = ranges.into_iter().map(common).filter(|common| !common.is_empty());
            found.extend(meets.map(NotDurable::Pending));
        }
        found.extend(self.lost.meets(file, bytes).map(NotDurable::Lost));
        let durable = &self.model.durable;
        let len = durable.files[&file].bytes.len;
        if len < end {
            found.push(NotDurable::Length(len));
        }
        let entry = durable.names.entry(path).ok();
        if entry.and_then(|entry| durable.names.get(&entry)) != Some(Node::File(file)) {
            found.push(NotDurable::Name);
        }
        let of = |what| Violation::AcknowledgedUnsynced { path: path.to_path_buf(), what };
        self.violations.extend(found.into_iter().map(of));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    #[test]
    fn writes_in_flight_at_once_may_not_meet() {
        let disk = SimDisk::new(1);
        let path = Path::new("/a");
        let meet = |first: (u32, Range<u64>), second: (u32, Range<u64>)| {
            let mut state = disk.state();
            state.violations.clear();
            state.begin_write(1, FileId(first.0), path, first.1.clone());
            state.begin_write(2, FileId(second.0), path, second.1.clone());
            state.end_write(1, FileId(first.0), &first.1);
            state.end_write(2, FileId(second.0), &second.1);
            assert!(state.in_flight.is_empty());
            state.violations.len()
        };
        assert_eq!(meet((1, 0..10), (1, 9..20)), 1);
        assert_eq!(meet((1, 5..6), (1, 0..20)), 1);
        assert_eq!(meet((1, 0..10), (1, 10..20)), 0);
        assert_eq!(meet((1, 0..10), (2, 0..10)), 0);
        let mut state = disk.state();
        state.begin_write(1, FileId(1), path, 0..10);
        state.end_write(1, FileId(1), &(0..10));
        state.begin_write(2, FileId(1), path, 0..10);
        assert_eq!(state.violations.len(), 0, "one after the other");
    }
}
