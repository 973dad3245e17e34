//! Everything behind the lock of a simulated disk.
//!
//! Invariant: whatever changes the live state is recorded in the journal by the same call, so that the model, which
//! follows the journal, knows of it. Forgetting what is cached takes the live state back to the model and needs no entry.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::audit::{Marked, Violation};
use super::content::Bytes;
use super::disk::SimOptions;
use super::errno::errno;
use super::fault::{Call, DiskOp, Fault, Faults};
use super::journal::{Operation, Write};
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
    pub(super) in_flight: Vec<(u64, FileId, Range<u64>)>,
    /// When the last sync of a file failed, counted in handles.
    pub(super) sync_failed: BTreeMap<FileId, u64>,
    /// The error number that the next sync of a file reports.
    pub(super) late: BTreeMap<FileId, i32>,
    pub(super) maps: Maps,
    pub(super) faults: Faults,
    pub(super) calls: [u64; DiskOp::ALL.len()],
    pub(super) violations: Vec<Violation>,
    /// What a failed sync had to cover and nobody has written since.
    pub(super) lost: Marked,
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
    pub(super) fn write_live(&mut self, file: FileId, offset: u64, bytes: &[u8], atomic: bool) -> Write {
        let live = self.live.bytes_mut(file);
        let end = offset + bytes.len() as u64;
        let extend = (end > live.len).then_some(end);
        live.content.write(offset as usize, bytes);
        live.extend(end);
        let pieces = Write::pieces(&live.content, offset, bytes.len() as u64);
        Write { file, offset, len: bytes.len() as u64, pieces, extend, atomic, mapped: false }
    }

    /// Makes live bytes of a file zero, as far as it has any there, and gives the change, which the caller records: the zeros reach
    /// the medium as written ones would.
    pub(super) fn punch_live(&mut self, file: FileId, range: Range<u64>) -> Option<Write> {
        let live = self.live.bytes_mut(file);
        let (offset, end) = (range.start, range.end.min(live.len));
        let len = end.checked_sub(offset).filter(|len| *len > 0)?;
        live.content.zero(offset as usize, len as usize);
        let pieces = Write::pieces(&live.content, offset, len);
        Some(Write { file, offset, len, pieces, extend: None, atomic: false, mapped: false })
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
