//! What a sync of a file does, and what one that fails leaves.
//!
//! Invariant: a sync that fails says so to the handle that made it, and what it had to cover is marked as lost until somebody writes it
//! again, whichever of the four after-effects was planned.
//!
//! ```text
//!   done ─────────────────► durable
//!   failed, new in cache ─► live as it is, durable as it was      failed, old in cache ─► live goes back to durable
//!   failed, in part ──────► some sectors durable                  reported late ────────► durable; the next sync fails
//! ```

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::content::{CHUNK, SECTOR};
use super::errno::errno;
use super::fault::{AfterFailedSync, DiskOp, Fault};
use super::journal::{Operation, SyncOutcome};
use super::model::Change;
use super::names::FileId;
use super::state::{State, reported};

impl State {
    /// A sync of a file or of some of its chunks, by a handle with this number.
    pub(super) fn sync_file(
        &mut self,
        op: DiskOp,
        handle: u64,
        file: FileId,
        path: &Path,
        chunks: Option<Range<usize>>,
    ) -> io::Result<()> {
        let fault = self.gate(op, path)?;
        self.audit_sync(handle, file, path);
        let (number, after) = match fault {
            Some(Fault::FailedSync { errno, after: AfterFailedSync::ReportedLate }) => {
                self.late.insert(file, errno);
                self.record(Operation::Sync { file, outcome: SyncOutcome::Done, chunks });
                return Ok(());
            }
            Some(Fault::FailedSync { errno, after }) => (errno, after),
            Some(Fault::Errno(errno)) => (errno, AfterFailedSync::CleanWithNew),
            _ => match self.late.remove(&file) {
                Some(errno) => (errno, AfterFailedSync::CleanWithNew),
                None => {
                    let reported = reported(fault);
                    if reported.is_err() {
                        self.sync_failed.insert(file, self.next_handle);
                    }
                    self.record(Operation::Sync { file, outcome: SyncOutcome::Done, chunks });
                    return reported;
                }
            },
        };
        let outcome = match after {
            AfterFailedSync::PartlyPersisted => SyncOutcome::Partly { seed: self.rng.next_u64() },
            _ => SyncOutcome::Lost,
        };
        if after == AfterFailedSync::CleanWithOld {
            self.show_old(file, chunks.as_ref());
        }
        self.mark_lost(file, chunks.as_ref());
        // Handles opened later may sync it, others may not.
        self.sync_failed.insert(file, self.next_handle);
        self.record(Operation::Sync { file, outcome, chunks });
        Err(errno(number))
    }

    /// The pending writes that a failed sync had to cover are lost from here on, or may be.
    fn mark_lost(&mut self, file: FileId, chunks: Option<&Range<usize>>) {
        for pending in &self.model.pending {
            let Change::Write(write) = &pending.change else { continue };
            if write.file != file {
                continue;
            }
            for bytes in write.ranges() {
                let covered =
                    chunks.map_or(0..u64::MAX, |them| (them.start * CHUNK) as u64..(them.end * CHUNK) as u64);
                let lost = bytes.start.max(covered.start)..bytes.end.min(covered.end);
                if !lost.is_empty() {
                    self.lost.add(file, lost);
                }
            }
        }
    }

    /// Shows the durable bytes again wherever a write to these chunks of the file is pending. The length stays.
    fn show_old(&mut self, file: FileId, chunks: Option<&Range<usize>>) {
        let durable = Arc::clone(&self.model.durable.files[&file].bytes);
        let live = self.live.bytes_mut(file);
        for pending in &self.model.pending {
            let Change::Write(write) = &pending.change else { continue };
            if write.file != file {
                continue;
            }
            for piece in
                write.pieces.iter().filter(|piece| chunks.is_none_or(|them| them.contains(&piece.index)))
            {
                let at = piece.index * CHUNK + piece.from * SECTOR;
                let mut old = vec![0; (piece.to - piece.from) * SECTOR];
                durable.content.read(at, &mut old);
                live.content.write(at, &old);
            }
        }
        let len = live.len;
        live.content.cut(len as usize);
        self.maps.changed_behind(file);
    }
}
