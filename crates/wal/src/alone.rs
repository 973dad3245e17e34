//! A log alone: it keeps by itself where its recovery begins, and is locked.
//!
//! Invariant: `master` has its name only behind a whole first segment, so a log without one is new or half made, and making it again
//! finishes it; nothing below the older copy's LSN is given back (L6).
//!
//! ```text
//!   <dir>/lock                   held while the log is open (E1)
//!   <dir>/master                 generation and start, two copies by turns: master.rs
//!   <dir>/0000000000001000.seg   segments
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pagestone_direct_io::{Create, DirectIo, Disk, File, OpenHow, PathKind, RealDisk, lock_within};
use pagestone_page_format::{Lsn, Poison, StoreUuid};
use pagestone_sync::Mutex;

use crate::error::{WalError, WalResult};
use crate::master::MasterRecord;
use crate::options::WalOptions;
use crate::recover::{self, Recovery};
use crate::wal::Wal;

/// How long a lock that outlives its killed holder is waited for (I18); E1 allows 300 ms in all.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// In every block of a log alone: its directory says whose it is.
const NOBODY: StoreUuid = StoreUuid::new([0; 16]);

/// What a log alone has beside its segments.
#[derive(Debug)]
pub(crate) struct Alone {
    master: Mutex<MasterRecord>,
    /// Locked for as long as the log is open.
    _lock: Arc<dyn File>,
}

impl Alone {
    /// Records durably that recovery begins at `lsn`. Gives the LSN below which no copy needs the log.
    pub(crate) fn passed(&self, lsn: Lsn, poison: &Poison) -> WalResult<Lsn> {
        let mut master = self.master.lock();
        master.publish(poison, lsn, 0)?;
        Ok(master.keep_from())
    }
}

impl Wal {
    /// Opens a log alone, on the real file system, and makes it if there is none: an engine that keeps no superblock needs nothing
    /// else. What it holds can then be replayed ([`Recovery::replay`], [`Recovery::recover`]), and [`Recovery::start_alone`] opens it
    /// for writing.
    ///
    /// The log is locked, from here to the drop of the last of both. Its segments carry no UUID: an engine that has one, to tell its
    /// log from another's, keeps a [`MasterRecord`] or a superblock and calls [`Recovery::open`].
    ///
    /// Errors: `Page(Locked)` if another handle has it; [`WalError::AlreadyExists`] for segments with contents and without the
    /// file `master`; those of [`MasterRecord::open`] and [`Recovery::open`]. Nothing was changed then that was not made here.
    pub fn open(dir: impl AsRef<Path>, options: &WalOptions) -> WalResult<Recovery> {
        Self::open_on(Arc::new(RealDisk), dir.as_ref(), options)
    }

    /// The same on any disk.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: &WalOptions) -> WalResult<Recovery> {
        options.check()?;
        let io = WalError::io;
        // 1. The directory and the lock, before anything in it is believed or changed.
        if disk.kind(dir).map_err(io("look at the log's directory"))?.is_none() {
            match disk.create_dir(dir) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => made.map_err(io("creation of the log's directory"))?,
            }
        }
        let path = dir.join("lock");
        let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Off };
        let lock = disk.open(&path, &how).map_err(io("open of the log's lock"))?;
        lock_within(&*lock, &path, LOCK_WAIT)?;
        // 2. A first segment, then the record: in this order, so that a log with a record is whole.
        let path = dir.join("master");
        if disk.kind(&path).map_err(io("look at the log's record"))? != Some(PathKind::File) {
            recover::create(Arc::clone(&disk), PathBuf::from(dir), options)?;
        }
        let master = MasterRecord::open(&*disk, &path, NOBODY)?;
        // 3. The segments.
        let start = master.log_start(&Poison::new());
        let recovery = Recovery::open(disk, dir.into(), options, start)?;
        let alone = Alone { master: Mutex::new(master), _lock: lock };
        Ok(Recovery { alone: Some(alone), ..recovery })
    }

    pub(crate) fn check_alone(&self) -> WalResult<()> {
        self.alone.as_ref().map(|_| ()).ok_or(NOT_ALONE)
    }
}

const NOT_ALONE: WalError = WalError::InvalidOptions { reason: "the log does not keep its start itself" };

impl Recovery {
    /// Opens a log for writing that [`Wal::open`] has opened, under the next generation.
    ///
    /// Replays first, to nobody, if nobody did. Errors: `InvalidOptions` if the caller keeps the log's start; those of
    /// [`Recovery::start`] and of writing the record.
    pub fn start_alone(mut self) -> WalResult<Wal> {
        let alone = self.alone.take().ok_or(NOT_ALONE)?;
        self.secure()?;
        let found = self.found.as_ref().expect("what was secured was found");
        let generation = alone.master.lock().next_generation(&found.report, &self.start.poison)?;
        let mut log = self.start(generation)?;
        log.alone = Some(alone);
        Ok(log)
    }
}
