//! The simulated disk: names, and what its user may do to it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagestone_direct_io::{Create, DirectIo, Disk, File, OpenHow, PathKind};
use pagestone_sync::{Mutex, MutexGuard};

use super::audit::Violation;
use super::content::Bytes;
use super::fault::{DiskOp, Fault, FaultId, FaultPlan, Faults, errno};
use super::file::{LARGEST, SimFile};
use super::journal::{Operation, SyncOutcome, Write};
use super::model::{Change, Medium, Model, Stored};
use super::names::{DirId, FileId, NameChange, Names, Node};
use crate::crash::{CrashOptions, CrashStates};
use crate::rng::Rng;

/// How a simulated disk behaves when nothing fails.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// From which every choice of the disk follows.
    pub seed: u64,
    /// Whether files can be opened for direct I/O. Those that are refuse what is not aligned to 4096 bytes.
    pub direct: bool,
    /// Whether a write gives other threads a chance between its start and its effect, so that writes that can overlap
    /// do.
    pub yield_in_writes: bool,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { seed: 0, direct: true, yield_in_writes: false }
    }
}

/// What a power cut keeps of what no sync has covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Nothing.
    Synced,
    /// Everything.
    Everything,
    /// Some sectors, lengths and names, by this seed.
    Random(u64),
}

/// A disk in memory, behind the same seam as the real one, that keeps what is durable apart from what is only written.
///
/// It begins with an empty root directory; `/a`, `a` and `./a` are one path. A clone is the same disk. Direct files refuse
/// what is not aligned; files end at 16 GiB. Whatever is written stays in the journal until [`SimDisk::settle`].
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// Everything behind the lock of a [`SimDisk`].
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    /// What callers see. Files that lost their name stay for the handles that have them.
    pub(super) live: Medium,
    pub(super) model: Model,
    /// The model before the journal.
    base: Model,
    journal: Vec<Operation>,
    pub(super) rng: Rng,
    next_node: u32,
    next_handle: u64,
    /// The handle that holds each lock.
    pub(super) locks: BTreeMap<FileId, u64>,
    /// Writes between their start and their effect: handle, file, bytes.
    in_flight: Vec<(u64, FileId, Range<u64>)>,
    /// When the last sync of a file failed, counted in handles.
    pub(super) sync_failed: BTreeMap<FileId, u64>,
    /// The error number that the next sync of a file reports.
    pub(super) late: BTreeMap<FileId, i32>,
    faults: Faults,
    calls: [u64; DiskOp::ALL.len()],
    violations: Vec<Violation>,
}

impl SimDisk {
    /// An empty disk. Every choice that it makes follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self::with(SimOptions { seed, ..SimOptions::default() })
    }

    /// An empty disk that behaves so.
    pub fn with(options: SimOptions) -> Self {
        Self::from_medium(Medium::default(), options, 1)
    }

    /// A disk on which all of `medium` is durable.
    pub(crate) fn from_medium(mut medium: Medium, options: SimOptions, next_node: u32) -> Self {
        medium.trim();
        let model = Model { durable: medium.clone(), pending: Vec::new() };
        let state = State {
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
            faults: Faults::default(),
            calls: [0; DiskOp::ALL.len()],
            violations: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Remembers a number at this point of the journal: that something was acknowledged, say. After a crash at any later
    /// point [`crate::CrashImage::acknowledged`] has it.
    pub fn note(&self, value: u64) {
        self.state().record(Operation::Note(value));
    }

    /// Every state that a power cut at any point of the journal can leave, or as many as the options say.
    pub fn crash_states(&self, options: &CrashOptions) -> CrashStates {
        let state = self.state();
        CrashStates::new(
            options.clone(),
            state.base.clone(),
            state.journal.clone(),
            state.options.clone(),
            state.next_node,
        )
    }

    /// The disk after a power cut now. This disk goes on as if nothing had happened.
    pub fn power_cut(&self, keep: Keep) -> SimDisk {
        let state = self.state();
        let medium = match keep {
            Keep::Synced => state.model.durable.clone(),
            Keep::Everything => {
                let mut model = state.model.clone();
                model.settle();
                model.durable
            }
            Keep::Random(seed) => crate::crash::random_medium(&state.model, seed),
        };
        Self::from_medium(medium, state.options.clone(), state.next_node)
    }

    /// Operations in the journal: those that changed something, and notes.
    pub fn journal_len(&self) -> usize {
        self.state().journal.len()
    }

    /// Makes everything durable and begins a new journal, so that the enumeration starts from here.
    pub fn settle(&self) {
        let mut state = self.state();
        state.model.settle();
        state.base = state.model.clone();
        state.journal.clear();
    }

    /// Plans a fault. Several plans may be active; each counts the calls that it matches.
    pub fn fail(&self, plan: FaultPlan) -> FaultId {
        self.state().faults.add(plan)
    }

    /// How often this plan really made a call fail.
    pub fn injected(&self, id: FaultId) -> u64 {
        self.state().faults.injected(id)
    }

    /// Ends every plan. What they did stays done.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.heal();
        state.late.clear();
    }

    /// How many calls of this kind were made, failed ones among them.
    pub fn calls(&self, op: DiskOp) -> u64 {
        self.state().calls[op as usize]
    }

    /// How many calls were made in all. A plan that skips one less than this, made at the start, hits the last one.
    pub fn calls_total(&self) -> u64 {
        self.state().calls.iter().sum()
    }

    /// What was done to this disk that no correct store does.
    pub fn audit(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    /// All bytes of a file as callers see them now. No call of the seam: nothing is counted and nothing fails.
    pub fn contents(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.file(path.as_ref())?.1.to_vec())
    }

    /// The bytes of a file that were written and that no sync has covered, in the order of the writes: who acknowledges
    /// them now acknowledges what can be lost.
    pub fn unsynced(&self, path: impl AsRef<Path>) -> io::Result<Vec<Range<u64>>> {
        let state = self.state();
        let (file, _) = state.file(path.as_ref())?;
        let range = |pending: &super::model::Pending| match &pending.change {
            Change::Write(write) if write.file == file => Some(write.offset..write.offset + write.len),
            _ => None,
        };
        Ok(state.model.pending.iter().filter_map(range).collect())
    }

    /// Changes bytes on the medium behind everybody's back, at once and durably: a flipped bit, a write that went astray
    /// (M1, M6). The file does not grow: `InvalidInput`.
    pub fn overwrite(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let (file, there) = state.file(path.as_ref())?;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > there.len) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the medium has no bytes there"));
        }
        state.live.overwrite(file, offset, bytes);
        state.record(Operation::Media { file, offset, bytes: bytes.into() });
        Ok(())
    }
}

impl State {
    /// Counts a call and says what befalls it; a plain error number is an error already.
    pub(super) fn gate(&mut self, op: DiskOp, path: &Path) -> io::Result<Option<Fault>> {
        self.calls[op as usize] += 1;
        match self.faults.befall(op, path) {
            Some(Fault::Errno(number)) if op != DiskOp::Sync => Err(errno(number)),
            fault => Ok(fault),
        }
    }

    /// Appends to the journal and takes the operation in.
    pub(super) fn record(&mut self, operation: Operation) {
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
        Write { file, offset, len: bytes.len() as u64, pieces, extend }
    }

    /// Shows the durable bytes again wherever a write to this file is pending. The length stays.
    pub(super) fn show_old(&mut self, file: FileId) {
        let durable = Arc::clone(&self.model.durable.files[&file].bytes);
        let live = self.live.bytes_mut(file);
        for pending in &self.model.pending {
            let Change::Write(write) = &pending.change else { continue };
            if write.file != file {
                continue;
            }
            for piece in &*write.pieces {
                let at = piece.index * super::content::CHUNK + piece.from * super::SECTOR;
                let mut old = vec![0; (piece.to - piece.from) * super::SECTOR];
                durable.content.read(at, &mut old);
                live.content.write(at, &old);
            }
        }
        let len = live.len;
        live.content.cut(len as usize);
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

    /// A sync of this file failed: handles opened later may sync it, others may not.
    pub(super) fn fail_sync(&mut self, file: FileId, outcome: SyncOutcome) {
        self.sync_failed.insert(file, self.next_handle);
        self.record(Operation::Sync { file, outcome });
    }

    fn names_mut(&mut self) -> &mut Names {
        Arc::make_mut(&mut self.live.names)
    }

    /// The file under a name.
    fn file(&self, path: &Path) -> io::Result<(FileId, &Bytes)> {
        let entry = self.live.names.entry(path)?;
        match self.live.names.get(&entry) {
            Some(Node::File(file)) => Ok((file, &self.live.files[&file].bytes)),
            Some(Node::Dir(_)) => Err(not_regular()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn new_node(&mut self) -> u32 {
        self.next_node += 1;
        self.next_node - 1
    }

    /// Takes a change of names in, both live and into the journal.
    fn rename_live(&mut self, operation: Operation) {
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

    fn create_file(&mut self, path: &Path) -> io::Result<FileId> {
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

fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "a directory stands where a regular file is wanted")
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let there = match state.file(path) {
            Ok((file, _)) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                state.gate(DiskOp::Open, path)?;
                let taken = how.create == Create::New && state.live.names.directory(path).is_ok();
                return Err(if taken { ErrorKind::AlreadyExists.into() } else { error });
            }
        };
        let create = there.is_none() && how.create != Create::Existing;
        let fault = state.gate(if create { DiskOp::Create } else { DiskOp::Open }, path)?;
        if how.direct == DirectIo::Required && !state.options.direct {
            return Err(io::Error::new(ErrorKind::Unsupported, "direct I/O was required"));
        }
        let file = match (there, how.create) {
            (Some(_), Create::New) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, Create::Existing) => return Err(ErrorKind::NotFound.into()),
            (None, _) => state.create_file(path)?,
        };
        reported(fault)?;
        let id = state.next_handle;
        state.next_handle += 1;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
            path: path.to_path_buf(),
            id,
            write: how.write || how.create != Create::Existing,
            direct: how.direct != DirectIo::Off && state.options.direct,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.gate(DiskOp::CreateDir, path)?;
        let at = state.live.names.entry(path)?;
        if state.live.names.get(&at).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let dir = DirId(state.new_node());
        state.rename_live(Operation::CreateDir { dir, at });
        reported(fault)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.gate(DiskOp::Rename, from)?;
        let (from_entry, to_entry) = (state.live.names.entry(from)?, state.live.names.entry(to)?);
        let node = state.live.names.get(&from_entry).ok_or(ErrorKind::NotFound)?;
        match (node, state.live.names.get(&to_entry)) {
            _ if from_entry == to_entry => return reported(fault),
            (Node::Dir(_), _) if normal(to).starts_with(normal(from)) => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "a directory cannot stand in itself"));
            }
            (_, Some(Node::Dir(_))) if normal(from).starts_with(normal(to)) => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Dir(_))) => return Err(ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(ErrorKind::NotADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(_))) => return Err(ErrorKind::AlreadyExists.into()),
        }
        state.rename_live(Operation::Rename { from: from_entry, to: to_entry, node });
        reported(fault)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.gate(DiskOp::Remove, path)?;
        let at = state.live.names.entry(path)?;
        let (file, _) = state.file(path)?;
        state.rename_live(Operation::Remove { at, node: Node::File(file) });
        reported(fault)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut state = self.state();
        state.gate(DiskOp::List, dir)?;
        let id = state.live.names.directory(dir)?;
        Ok(state.live.names.list(id))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let mut state = self.state();
        state.gate(DiskOp::Kind, path)?;
        if state.live.names.directory(path).is_ok() {
            return Ok(Some(PathKind::Directory));
        }
        match state.live.names.entry(path) {
            Ok(entry) => Ok(state.live.names.get(&entry).map(|_| PathKind::File)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.gate(DiskOp::SyncDir, dir)?;
        let dir = state.live.names.directory(dir)?;
        state.record(Operation::SyncDir { dir });
        reported(fault)
    }
}

/// A path as the names of its parts.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state.try_lock() {
            Some(state) => write!(f, "SimDisk({} operations)", state.journal.len()),
            None => write!(f, "SimDisk(in use)"),
        }
    }
}

const _: () = assert!(LARGEST <= usize::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

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
