//! The simulated disk: names, and what its user may do to it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagestone_direct_io::{Create, DirectIo, Disk, File, OpenHow, PathKind};
use pagestone_sync::{Mutex, MutexGuard};

use super::audit::Violation;
use super::fault::{DiskOp, FaultId, FaultPlan};
use super::file::{Hold, LARGEST, SimFile};
use super::journal::Operation;
use super::model::{Change, Medium, Pending};
use super::names::{DirId, Node};
use super::state::{State, reported};
use crate::crash::{CrashOptions, CrashStates};

/// What a simulated disk says of writes that are whole or undone after a power cut
/// ([`File::write_batch_atomic`](pagestone_direct_io::File::write_batch_atomic)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AtomicWrites {
    /// That it has none.
    #[default]
    None,
    /// That direct ones of 512 to 4096 bytes are, and keeps it.
    Kept,
    /// The same, and tears them: what relies on them must then be found to lose pages.
    Torn,
}

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
    /// Atomic writes of its files.
    pub atomic_writes: AtomicWrites,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { seed: 0, direct: true, yield_in_writes: false, atomic_writes: AtomicWrites::None }
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
        let state = State::new(medium, options, next_node);
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The state, with everything in it that maps hold at this instant: whoever looks at the disk sees it, and from here on it
    /// can be on the medium (C10).
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.see_maps(None);
        state
    }

    /// The state without a look at the maps.
    pub(super) fn state_unseen(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Remembers a number at this point of the journal: that something was acknowledged, say. After a crash at any later
    /// point [`crate::CrashImage::acknowledged`] has it.
    pub fn note(&self, value: u64) {
        self.state().record(Operation::Note(value));
    }

    /// Like [`SimDisk::note`], of something that stands in these bytes of a file: that they, the length that shows them and the
    /// file's name are durable is audited at once, without a crash ([`Violation::AcknowledgedUnsynced`]). Bytes past the end of the
    /// file are not asked for. Errors: `NotFound`.
    pub fn acknowledge(&self, value: u64, path: impl AsRef<Path>, bytes: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        state.audit_acknowledged(path.as_ref(), &bytes)?;
        state.record(Operation::Note(value));
        Ok(())
    }

    /// From now on nobody may write these bytes of a file, or change them through a map: those of a page that is free, say. It is
    /// not refused, but told ([`Violation::ForbiddenWrite`]). Changes through maps are told by whole sectors.
    pub fn forbid_writes(&self, path: impl AsRef<Path>, bytes: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        let (file, _) = state.file(path.as_ref())?;
        state.forbidden.add(file, bytes);
        Ok(())
    }

    /// Takes [`SimDisk::forbid_writes`] back for these bytes.
    pub fn permit_writes(&self, path: impl AsRef<Path>, bytes: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        let (file, _) = state.file(path.as_ref())?;
        state.forbidden.remove(file, &bytes);
        Ok(())
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
        let ranges = |pending: &Pending| match &pending.change {
            Change::Write(write) if write.file == file => write.ranges(),
            _ => Vec::new(),
        };
        Ok(state.model.pending.iter().flat_map(ranges).collect())
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
        state.maps.changed_behind(file);
        state.record(Operation::Media { file, offset, bytes: bytes.into() });
        Ok(())
    }

    /// What opening a file gives.
    fn open_file(&self, path: &Path, how: &OpenHow) -> io::Result<SimFile> {
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
        Ok(SimFile {
            disk: self.clone(),
            file,
            path: path.to_path_buf(),
            id,
            write: how.write || how.create != Create::Existing,
            direct: how.direct != DirectIo::Off && state.options.direct,
            dsync: false,
            mappable: how.direct == DirectIo::Off,
            hold: Arc::new(Hold { disk: self.clone(), file, id }),
        })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_file(path, how)?))
    }

    fn open_dsync(&self, path: &Path, direct: DirectIo) -> io::Result<Arc<dyn File>> {
        let mut file = self.open_file(path, &OpenHow::write(direct))?;
        file.dsync = true;
        Ok(Arc::new(file))
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
