//! How the batches of one file are done.
//!
//! Invariant: it is decided once in the life of a handle, with its first batch or when somebody asks, and never changed in silence.
//!
//! ```text
//!   Best ──► a ring? ──► IoUring
//!              └ none ──► threads? ──► Threads
//!                            └ none ──► Blocking
//! ```

use std::io::{self, ErrorKind};
use std::sync::{Arc, OnceLock};

use super::platform::Descriptor;
use super::pool::Pool;
use super::ring::{InRing, RingOwned, Rings};
use crate::{Backend, OwnedRead, OwnedWrite, ReadAt, WriteAt};

/// How batches are to be done, and are.
#[derive(Debug)]
pub(super) struct Batches {
    wanted: Backend,
    way: OnceLock<Way>,
}

#[derive(Debug)]
enum Way {
    Blocking,
    IoUring(Rings),
    Threads(Pool),
}

impl Batches {
    /// Decides nothing yet, but for a ring that is required: `Unsupported` if there is none.
    pub(super) fn new(wanted: Backend) -> io::Result<Self> {
        let way = OnceLock::new();
        if wanted == Backend::IoUring {
            let refused =
                |error| io::Error::new(ErrorKind::Unsupported, format!("io_uring was required: {error}"));
            let rings = Rings::new().map_err(refused)?;
            way.get_or_init(|| Way::IoUring(rings));
        }
        Ok(Self { wanted, way })
    }

    /// How they are done.
    pub(super) fn backend(&self, file: &Arc<Descriptor>) -> Backend {
        match self.way(file) {
            Way::Blocking => Backend::Blocking,
            Way::IoUring(_) => Backend::IoUring,
            Way::Threads(_) => Backend::Threads,
        }
    }

    /// Reads the batch. False, with nothing done, where it has to be done one by one.
    pub(super) fn read(&self, file: &Arc<Descriptor>, batch: &mut [ReadAt<'_>]) -> bool {
        match self.way(file) {
            Way::Blocking => return false,
            Way::IoUring(rings) => return rings.read(file, batch),
            Way::Threads(pool) => pool.read(batch),
        }
        true
    }

    /// Reads that are begun one after another. `None` where transfers do not go on by themselves.
    pub(super) fn reads<'f>(&'f self, file: &'f Arc<Descriptor>) -> Option<RingOwned<'f, OwnedRead>> {
        self.owned(file)
    }

    /// The same of writes.
    pub(super) fn writes<'f>(&'f self, file: &'f Arc<Descriptor>) -> Option<RingOwned<'f, OwnedWrite>> {
        self.owned(file)
    }

    fn owned<'f, O: InRing>(&'f self, file: &'f Arc<Descriptor>) -> Option<RingOwned<'f, O>> {
        match self.way(file) {
            Way::IoUring(rings) => rings.owned(file),
            Way::Blocking | Way::Threads(_) => None,
        }
    }

    /// Writes the batch. False, with nothing done, where it has to be done one by one.
    pub(super) fn write(&self, file: &Arc<Descriptor>, batch: &mut [WriteAt<'_>]) -> bool {
        match self.way(file) {
            Way::Blocking => return false,
            Way::IoUring(rings) => return rings.write(file, batch),
            Way::Threads(pool) => pool.write(batch),
        }
        true
    }

    /// Writes the batch, each range whole or not at all. False, with nothing done, where it has to be done one by one.
    pub(super) fn write_atomic(&self, file: &Arc<Descriptor>, batch: &mut [WriteAt<'_>]) -> bool {
        match self.way(file) {
            Way::Blocking | Way::Threads(_) => false,
            Way::IoUring(rings) => rings.write_atomic(file, batch),
        }
    }

    /// Writes what the iterator gives, each that `may_begin` as soon as it is there; one that may not is left as one that was interrupted. `None`,
    /// with nothing asked of the iterator, where transfers do not go on by themselves.
    pub(super) fn write_stream<'b>(
        &self,
        file: &Arc<Descriptor>,
        writes: &mut dyn Iterator<Item = WriteAt<'b>>,
        may_begin: &dyn Fn(&WriteAt<'_>) -> bool,
    ) -> Option<Vec<WriteAt<'b>>> {
        match self.way(file) {
            Way::IoUring(rings) => rings.write_stream(file, writes, may_begin),
            Way::Blocking | Way::Threads(_) => None,
        }
    }

    /// Writes the batch, and syncs the file when all of it has ended. `None`, with nothing done, where that is not one call; else
    /// whether it was synced.
    pub(super) fn write_and_sync(
        &self,
        file: &Arc<Descriptor>,
        batch: &mut [WriteAt<'_>],
    ) -> Option<io::Result<bool>> {
        match self.way(file) {
            Way::IoUring(rings) => rings.write_and_sync(file, batch),
            Way::Blocking | Way::Threads(_) => None,
        }
    }

    fn way(&self, file: &Arc<Descriptor>) -> &Way {
        self.way.get_or_init(|| {
            let rings = || if self.wanted == Backend::Best { Rings::new().ok() } else { None };
            let pool = || Pool::start(Arc::clone(file)).ok();
            match self.wanted {
                Backend::Blocking => Way::Blocking,
                _ => rings().map(Way::IoUring).or_else(|| pool().map(Way::Threads)).unwrap_or(Way::Blocking),
            }
        })
    }
}
