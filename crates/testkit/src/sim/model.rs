//! What is durable, and what may be.
//!
//! Invariant: after a power cut a disk shows, for every sector, its durable version or any pending one; for every length
//! and every name likewise; and nothing else. `step` alone moves a change from pending to durable, at a sync that covers
//! it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::content::Bytes;
use super::journal::{LengthChange, Operation, SyncOutcome, Write};
use super::names::{DirId, Entry, FileId, NameChange, Names, Node};
use crate::Rng;

/// A file as it stands on the medium.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Arc<Bytes>,
    /// The path under which it was made, for predicates and reports.
    pub(crate) path: Arc<Path>,
}

/// Names and files: one state of a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Medium {
    pub(crate) names: Arc<Names>,
    pub(crate) files: BTreeMap<FileId, Stored>,
}

/// A change that no sync has covered yet.
#[derive(Clone)]
pub(crate) struct Pending {
    /// Which operation of the journal it was.
    pub(crate) operation: usize,
    pub(crate) change: Change,
}

#[derive(Clone)]
pub(crate) enum Change {
    Write(Write),
    Length {
        file: FileId,
        change: LengthChange,
    },
    /// Durable when each of these directories has been synced.
    Name {
        change: NameChange,
        waits_for: Vec<DirId>,
    },
}

impl Change {
    /// The file whose sync covers it.
    pub(crate) fn file(&self) -> Option<FileId> {
        match self {
            Self::Write(write) => Some(write.file),
            Self::Length { file, .. } => Some(*file),
            Self::Name { .. } => None,
        }
    }
}

impl Medium {
    /// The bytes of a file, to change.
    pub(crate) fn bytes_mut(&mut self, file: FileId) -> &mut Bytes {
        let stored = self.files.get_mut(&file).expect("a file is created before it is changed");
        Arc::make_mut(&mut stored.bytes)
    }

    /// Changes a length.
    pub(crate) fn change_length(&mut self, file: FileId, change: LengthChange) {
        change.apply(self.bytes_mut(file));
    }

    /// Changes the bytes that are there; those past the length are not.
    pub(crate) fn overwrite(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        let there = self.bytes_mut(file);
        let len = there.len.saturating_sub(offset).min(bytes.len() as u64);
        there.content.write(offset as usize, &bytes[..len as usize]);
    }

    /// Forgets bytes past the lengths: a sector can be written and the length that would show it lost.
    pub(crate) fn trim(&mut self) {
        for stored in self.files.values_mut() {
            if !stored.bytes.content.ends_by(stored.bytes.len as usize) {
                let bytes = Arc::make_mut(&mut stored.bytes);
                bytes.content.cut(bytes.len as usize);
            }
        }
    }

    /// Writes some sectors, by lot; of an atomic write all or none.
    fn persist_some(&mut self, write: &Write, rng: &mut Rng) {
        if write.atomic && rng.chance(128) {
            return;
        }
        let bytes = self.bytes_mut(write.file);
        for piece in &*write.pieces {
            for sector in piece.from..piece.to {
                if write.atomic || rng.chance(128) {
                    bytes.content.put_sectors(piece.index, &piece.chunk, sector, sector + 1);
                }
            }
        }
    }

    /// Makes one change, whole.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(write) => write.apply(self.bytes_mut(write.file)),
            Change::Length { file, change } => self.change_length(*file, *change),
            Change::Name { change, .. } => Arc::make_mut(&mut self.names).apply(change),
        }
    }
}

/// The durable state and what is pending over it.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) durable: Medium,
    pub(crate) pending: Vec<Pending>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} files, {} pending)", self.durable.files.len(), self.pending.len())
    }
}

impl Model {
    /// Takes one operation in, the one with this index in the journal. Says whether anything changed.
    pub(crate) fn step(&mut self, index: usize, operation: &Operation) -> bool {
        let change = match operation {
            Operation::Create { file, at, path } => {
                let stored = Stored { bytes: Arc::default(), path: Arc::clone(path) };
                self.durable.files.insert(*file, stored);
                link(at, Node::File(*file))
            }
            Operation::CreateDir { dir, at } => link(at, Node::Dir(*dir)),
            Operation::Rename { from, to, node } => {
                let mut waits_for = vec![from.dir, to.dir];
                waits_for.dedup();
                let change = NameChange::Rename { from: from.clone(), to: to.clone(), node: *node };
                Change::Name { change, waits_for }
            }
            Operation::Remove { at, node } => {
                let change = NameChange::Unlink { at: at.clone(), node: *node };
                Change::Name { change, waits_for: vec![at.dir] }
            }
            Operation::Write(write) => Change::Write(write.clone()),
            Operation::Length { file, change } => Change::Length { file: *file, change: *change },
            Operation::Sync { file, outcome, chunks } => {
                return self.sync(*file, *outcome, chunks.as_ref());
            }
            Operation::SyncDir { dir } => return self.sync_dir(*dir),
            Operation::Media { file, offset, bytes } => {
                self.durable.overwrite(*file, *offset, bytes);
                return true;
            }
            Operation::Note(_) => return false,
        };
        self.pending.push(Pending { operation: index, change });
        true
    }

    /// A sync of some chunks covers the writes there and the lengths. After a truncation that is pending it covers all: what
    /// came before that may not outlive what came after it.
    fn sync(&mut self, file: FileId, outcome: SyncOutcome, chunks: Option<&Range<usize>>) -> bool {
        let truncates = |pending: &Pending| matches!(&pending.change, Change::Length { file: of, change: LengthChange::Truncate(_) } if *of == file);
        let chunks = chunks.filter(|_| !self.pending.iter().any(truncates));
        let before = self.pending.len();
        let mut rng = match outcome {
            SyncOutcome::Partly { seed } => Some(Rng::new(seed)),
            _ => None,
        };
        let durable = &mut self.durable;
        self.pending.retain_mut(|pending| {
            if pending.change.file() != Some(file) {
                return true;
            }
            let (covered, rest) = match (&pending.change, chunks) {
                (Change::Write(write), Some(chunks)) => write.split(chunks),
                (Change::Write(write), None) => (write.clone(), None),
                (change, _) => {
                    // Lengths are the file system's own business and stay pending where a sync fails.
                    if outcome == SyncOutcome::Done {
                        durable.apply(change);
                    }
                    return outcome != SyncOutcome::Done;
                }
            };
            match (outcome, &mut rng) {
                (SyncOutcome::Done, _) => durable.apply(&Change::Write(covered)),
                (_, Some(rng)) => durable.persist_some(&covered, rng),
                (_, None) => {}
            }
            let extend = match &pending.change {
                Change::Write(write) if outcome != SyncOutcome::Done => write.extend,
                _ => None,
            };
            // The data that were covered are clean, written or not.
            match (rest, extend) {
                (Some(rest), extend) => pending.change = Change::Write(Write { extend, ..rest }),
                (None, Some(to)) => {
                    pending.change = Change::Length { file, change: LengthChange::Extend(to) };
                }
                (None, None) => return false,
            }
            true
        });
        self.pending.len() != before || outcome != SyncOutcome::Done || chunks.is_some()
    }

    /// Commits the changes that waited for this directory alone, and with them every earlier change of the same entries.
    fn sync_dir(&mut self, dir: DirId) -> bool {
        let mut settled: Vec<Entry> = Vec::new();
        let mut commit = vec![false; self.pending.len()];
        for (pending, commit) in self.pending.iter_mut().zip(&mut commit).rev() {
            let Change::Name { change, waits_for } = &mut pending.change else { continue };
            waits_for.retain(|waits_for| *waits_for != dir);
            *commit = waits_for.is_empty() || change.entries().any(|entry| settled.contains(entry));
            if *commit {
                settled.extend(change.entries().cloned());
            }
        }
        let mut commit = commit.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let commit = commit.next().expect("one answer for each");
            if commit {
                durable.apply(&pending.change);
            }
            !commit
        });
        !settled.is_empty()
    }

    /// Everything pending made durable, in order.
    pub(crate) fn settle(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            self.durable.apply(&pending.change);
        }
    }
}

fn link(at: &Entry, node: Node) -> Change {
    Change::Name { change: NameChange::Link { at: at.clone(), node }, waits_for: vec![at.dir] }
}
