//! Everything behind the lock of a simulated disk.
//!
//! Invariant: whatever changes the live state is recorded in the journal by the same call, so that the model, which
//! follows the journal, knows of it. Forgetting what is cached takes the live state back to the model and needs no entry.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::audit::{Marked, NotDurable, Violation};
use super::content::{Bytes, CHUNK, SECTOR};
use super::disk::SimOptions;
use super::errno::errno;
use super::fault::{AfterFailedSync, Call, DiskOp, Fault, Faults};
use super::journal::{Operation, SyncOutcome, Write};
use super::lock::Lock;
use super::maps::Maps;
use super::model::{Change, Medium, Model, Stored};
use super::names::{FileId, NameChange, Names, Node};
use crate::rng::Rng;

/// Everything behind the lock of a simulated disk.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    /// What callers see. Files that lost their name stay for the handles that have them.
    pub(super) live: Medium,
    pub(super) model: Model,
    /// The model before the journal.
    pub(super) base: Model,
    pub(super) journal: Vec<Operation>,
    pub(super) rng: Rng,
    pub(super) next_node: u32,
    pub(super) next_handle: u64,
    pub(super) locks: BTreeMap<FileId, Lock>,
    /// Writes between their start and their effect: handle, file, bytes.
    in_flight: Vec<(u64, FileId, Range<u64>)>,
    /// When the last sync of a file failed, counted in handles.
    pub(super) sync_failed: BTreeMap<FileId, u64>,
    /// The error number that the next sync of a file reports.
    pub(super) late: BTreeMap<FileId, i32>,
    pub(super) maps: Maps,
    pub(super) faults: Faults,
    pub(super) calls: [u64; DiskOp::ALL.len()],
    pub(super) violations: Vec<Violation>,
    /// What a failed sync had to cover and nobody has written since.
    lost: Marked,
    /// What must not be written.
    pub(super) forbidden: Marked,
}

impl State {
    /// All of `medium` is durable, and nothing has happened yet.
    pub(super) fn new(medium: Medium, options: SimOptions, next_node: u32) -> Self {
        let model = Model { durable: medium.clone(), pending: Vec::new() };
        Self {
            rng: Rng::new(options.seed),
            options,
            live: medium,
            base: model.clone(),
            model,
            journal: Vec::new(),
            next_node,
            next_handle: 0,
            locks: BTreeMap::new(),
            in_flight: Vec::new(),
            sync_failed: BTreeMap::new(),
            late: BTreeMap::new(),
            maps: Maps::default(),
            faults: Faults::default(),
            calls: [0; DiskOp::ALL.len()],
            violations: Vec::new(),
            lost: Marked::default(),
            forbidden: Marked::default(),
        }
    }

    /// Counts a call and says what befalls it; a plain error number is an error already.
    pub(super) fn gate(&mut self, op: DiskOp, path: &Path) -> io::Result<Option<Fault>> {
        self.gate_call(op, path, Call::Plain)
    }

    /// The same for a read or write that would move so many bytes.
    pub(super) fn gate_transfer(&mut self, op: DiskOp, path: &Path, len: usize) -> io::Result<Option<Fault>> {
        self.gate_call(op, path, Call::Transfer(len))
    }

    fn gate_call(&mut self, op: DiskOp, path: &Path, call: Call) -> io::Result<Option<Fault>> {
        self.calls[op as usize] += 1;
        match self.faults.befall(op, path, call) {
            Some(Fault::Errno(number)) if !matches!(op, DiskOp::Sync | DiskOp::Flush) => Err(errno(number)),
            fault => Ok(fault),
        }
    }

    /// The order in which a batch is done. Its transfers are counted one by one, as they are done.
    pub(super) fn batch_order(&mut self, op: DiskOp, path: &Path, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        if len > 1 && self.faults.befall(op, path, Call::Batch).is_some() {
            // Fisher and Yates, and never the order that was given.
            for at in (1..len).rev() {
                order.swap(at, self.rng.below(at as u64 + 1) as usize);
            }
            if order.is_sorted() {
                order.reverse();
            }
        }
        order
    }

    /// Appends to the journal and takes the operation in.
    pub(super) fn record(&mut self, operation: Operation) {
        if let Operation::Write(write) = &operation {
            self.audit_write(write);
        }
        self.model.step(self.journal.len(), &operation);
        self.journal.push(operation);
    }

    /// Changes the live bytes of a file and gives the change, which the caller records.
    pub(super) fn write_live(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Write {
        let live = self.live.bytes_mut(file);
        let end = offset + bytes.len() as u64;
        let extend = (end > live.len).then_some(end);
        live.content.write(offset as usize, bytes);
        live.extend(end);
        let pieces = Write::pieces(&live.content, offset, bytes.len() as u64);
        Write { file, offset, len: bytes.len() as u64, pieces, extend, mapped: false }
    }

    /// Makes live bytes of a file zero, as far as it has any there, and gives the change, which the caller records: the zeros reach
    /// the medium as written ones would.
    pub(super) fn punch_live(&mut self, file: FileId, range: Range<u64>) -> Option<Write> {
        let live = self.live.bytes_mut(file);
        let (offset, end) = (range.start, range.end.min(live.len));
        let len = end.checked_sub(offset).filter(|len| *len > 0)?;
        live.content.zero(offset as usize, len as usize);
        let pieces = Write::pieces(&live.content, offset, len);
        Some(Write { file, offset, len, pieces, extend: None, mapped: false })
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

    /// Shows of a file what is durable and what is pending, and nothing else: what a failed sync left in the cache as clean
    /// is forgotten. The length stays, as no sync loses it.
    pub(super) fn drop_cache(&mut self, file: FileId) {
        let mut bytes = (*self.model.durable.files[&file].bytes).clone();
        for pending in &self.model.pending {
            match &pending.change {
                Change::Write(write) if write.file == file => write.apply(&mut bytes),
                Change::Length { file: of, change } if *of == file => change.apply(&mut bytes),
                _ => {}
            }
        }
        let live = self.live.bytes_mut(file);
        assert_eq!(bytes.len, live.len, "lengths are never lost");
        // What is mapped stays in the cache, clean or not.
        self.maps.keep_mapped(file, &live.content, &mut bytes.content);
        *live = bytes;
    }

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

    /// Notes a sync of a handle that was open when an earlier one failed.
    pub(super) fn audit_sync(&mut self, opened_at: u64, file: FileId, path: &Path) {
        if self.sync_failed.get(&file).is_some_and(|failed_at| opened_at < *failed_at) {
            self.violations.push(Violation::SyncRetried { path: path.to_path_buf() });
        }
    }

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

    /// What is written anew is lost no more, and may be forbidden.
    fn audit_write(&mut self, write: &Write) {
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

    /// Refuses what would change mapped bytes behind a map's back. That somebody without the lock tries is a violation: on a real
    /// system it would succeed.
    pub(super) fn check_unmapped(
        &mut self,
        handle: u64,
        file: FileId,
        path: &Path,
        bytes: Range<u64>,
    ) -> io::Result<()> {
        let Some((by, there)) = self.maps.meets(file, &bytes) else { return Ok(()) };
        if by != handle {
            let path = path.to_path_buf();
            self.violations.push(Violation::WriteUnderMap { path, bytes: there });
        }
        Err(io::Error::new(ErrorKind::InvalidInput, "the bytes are mapped"))
    }

    /// Whether a write to these bytes is under way.
    pub(super) fn is_being_written(&self, file: FileId, bytes: &Range<u64>) -> bool {
        let meets = |there: &Range<u64>| there.start < bytes.end && bytes.start < there.end;
        self.in_flight.iter().any(|(_, of, there)| *of == file && meets(there))
    }

    /// Takes in what was changed through maps.
    pub(super) fn see_maps(&mut self, only: Option<u64>) {
        for (file, sectors) in self.maps.see(only, &mut self.live) {
            let write = Write::of_sectors(file, &self.live.files[&file].bytes.content, &sectors);
            self.record(Operation::Write(write));
        }
    }

    pub(super) fn names_mut(&mut self) -> &mut Names {
        Arc::make_mut(&mut self.live.names)
    }

    /// The file under a name.
    pub(super) fn file(&self, path: &Path) -> io::Result<(FileId, &Bytes)> {
        let entry = self.live.names.entry(path)?;
        match self.live.names.get(&entry) {
            Some(Node::File(file)) => Ok((file, &self.live.files[&file].bytes)),
            Some(Node::Dir(_)) => Err(not_regular()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn new_node(&mut self) -> u32 {
        self.next_node += 1;
        self.next_node - 1
    }

    /// Takes a change of names in, both live and into the journal.
    pub(super) fn rename_live(&mut self, operation: Operation) {
        let change = match &operation {
            Operation::Create { file, at, .. } => {
                NameChange::Link { at: at.clone(), node: Node::File(*file) }
            }
            Operation::CreateDir { dir, at } => NameChange::Link { at: at.clone(), node: Node::Dir(*dir) },
            Operation::Rename { from, to, node } => {
                NameChange::Rename { from: from.clone(), to: to.clone(), node: *node }
            }
            Operation::Remove { at, node } => NameChange::Unlink { at: at.clone(), node: *node },
            _ => unreachable!("only names change here"),
        };
        self.names_mut().apply(&change);
        self.record(operation);
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<FileId> {
        let at = self.live.names.entry(path)?;
        let file = FileId(self.new_node());
        let path: Arc<Path> = path.into();
        let stored = Stored { bytes: Arc::default(), path: Arc::clone(&path) };
        self.live.files.insert(file, stored);
        self.rename_live(Operation::Create { file, at, path });
        Ok(file)
    }
}

/// The error that a call reports which did its work all the same.
pub(super) fn reported(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        Some(Fault::DoneButReported(number)) => Err(errno(number)),
        _ => Ok(()),
    }
}

pub(super) fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "a directory stands where a regular file is wanted")
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
