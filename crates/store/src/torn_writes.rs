//! The file `doublewrite`: made, found, recovered.
//!
//! Invariant: nothing in it is written over, and no page is written in its place, before every page that it protects is whole and
//! durable. This comes after the log was verified and before redo: redo changes what stands in a page and needs a whole one.

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    Create, Disk, DoubleWrite, DoubleWriteFile, DoubleWriteStats, File, OpenHow, PageFile, PathKind,
};
use pagestone_page_format::{Lsn, PageChecksum, PageSize, PageStore, Poison};

use crate::superblock::Superblock;
use crate::{Options, StoreError, StoreResult, TornWrites};

/// Its name in the store's directory.
pub(crate) const NAME: &str = "doublewrite";
/// Slots that a new file has room for: the largest batch of the pool and its header.
const FIRST_SLOTS: u64 = 66;

/// Makes the file, empty and durable in itself. The caller syncs the directory.
pub(crate) fn make(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &Options,
    size: PageSize,
) -> StoreResult<Arc<dyn File>> {
    let io = |error| StoreError::io("making the double-write file", error);
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: options.direct_io };
    let file = disk.open(&dir.join(NAME), &how).map_err(io)?;
    file.set_len(0).map_err(io)?;
    file.reserve(0, FIRST_SLOTS * size.get() as u64).map_err(io)?;
    file.sync().map_err(io)?;
    Ok(file)
}

/// The file, if there is one.
fn find(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> StoreResult<Option<Arc<dyn File>>> {
    let path = dir.join(NAME);
    let not_a_store = |found: &str| StoreError::NotAStore { path: path.clone(), found: found.into() };
    match disk.kind(&path).map_err(|error| StoreError::io("looking at the double-write file", error))? {
        None => Ok(None),
        Some(PathKind::File) => {
            let how = OpenHow { create: Create::Existing, write: true, direct: options.direct_io };
            let file = disk
                .open(&path, &how)
                .map_err(|error| StoreError::io("opening the double-write file", error))?;
            Ok(Some(file))
        }
        Some(PathKind::Directory) => Err(not_a_store("a directory")),
        Some(PathKind::Other) => Err(not_a_store("neither a file nor a directory")),
    }
}

/// How the pages of an open store are kept whole.
#[derive(Debug)]
pub(crate) struct Protection {
    pub(crate) how: TornWrites,
    /// Pages that opening restored.
    pub(crate) restored: u64,
    twice: Option<Arc<DoubleWrite<PageFile>>>,
}

impl Protection {
    /// What was written twice; all zeros where nothing is.
    pub(crate) fn double_write(&self) -> DoubleWriteStats {
        self.twice.as_ref().map(|twice| twice.stats()).unwrap_or_default()
    }
}

/// Restores torn pages, then gives the storage that the pool writes through. `end` is the end of the log, which was verified.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &Options,
    superblock: &Superblock,
    pages: PageFile,
    end: Lsn,
    poison: &Poison,
) -> StoreResult<(Box<dyn PageStore>, Protection)> {
    let protected = |twice, restored| Protection { how: options.torn_writes, restored, twice };
    let size = superblock.page_size;
    let file = match find(disk, dir, options)? {
        Some(file) => file,
        None if options.torn_writes == TornWrites::Off => return Ok((Box::new(pages), protected(None, 0))),
        None => {
            let file = make(disk, dir, options, size)?;
            // Before a page is written in its place in reliance on it.
            disk.sync_dir(dir).map_err(|error| StoreError::io("syncing the store's directory", error))?;
            file
        }
    };
    let checksum = PageChecksum::new(superblock.checksum, superblock.uuid);
    let found = DoubleWriteFile::read(file, size, superblock.uuid, checksum)?;
    let restored = found.restore(&pages, superblock.checkpoint, end)?;
    let count = restored.pages();
    match options.torn_writes {
        TornWrites::DoubleWrite => {
            let twice = Arc::new(restored.write_twice(pages, poison.clone()));
            Ok((Box::new(Arc::clone(&twice)), protected(Some(twice), count)))
        }
        TornWrites::Off => {
            restored.forget()?;
            Ok((Box::new(pages), protected(None, count)))
        }
    }
}
