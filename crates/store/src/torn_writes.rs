//! The file `doublewrite`: made, found, recovered.
//!
//! Invariant: nothing in it is written over, and no page is written in its place, before every page that it protects is whole and
//! durable. This comes after the log was verified and before redo: redo changes what stands in a page and needs a whole one.

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    Create, Disk, DoubleWrite, DoubleWriteFile, DoubleWriteStats, File, OpenHow, PageFile, PathKind,
};
use pagestone_page_format::{Lsn, PageChecksum, PageId, PageSize, PageStore, Poison};

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
    let how = choose(options, &pages)?;
    let size = superblock.page_size;
    let file = match (find(disk, dir, options)?, how) {
        (Some(file), _) => file,
        (None, TornWrites::DoubleWrite) => {
            let file = make(disk, dir, options, size)?;
            // Before a page is written in its place in reliance on it.
            disk.sync_dir(dir).map_err(|error| StoreError::io("syncing the store's directory", error))?;
            file
        }
        (None, _) => return once(how, pages, 0),
    };
    let checksum = PageChecksum::new(superblock.checksum, superblock.uuid);
    // Behind the file's end, and behind what there must be, every page was free at the checkpoint: a copy would only make a file longer that
    // was cut.
    let end_of_pages = PageId::new(pages.len()?.max(superblock.data_pages));
    let found = DoubleWriteFile::read(file, size, superblock.uuid, checksum)?.before(end_of_pages);
    let copies = found.restore(&pages, superblock.checkpoint, end)?;
    let restored = copies.pages();
    if how == TornWrites::DoubleWrite {
        let twice = Arc::new(copies.write_twice(pages, poison.clone()));
        return Ok((Box::new(Arc::clone(&twice)), Protection { how, restored, twice: Some(twice) }));
    }
    copies.forget()?;
    once(how, pages, restored)
}

/// What is done of what was asked for: never [`TornWrites::Best`].
fn choose(options: &Options, pages: &PageFile) -> StoreResult<TornWrites> {
    match (options.torn_writes, pages.has_atomic_writes()) {
        (TornWrites::Best, true) => Ok(TornWrites::Atomic),
        (TornWrites::Best, false) => Ok(TornWrites::DoubleWrite),
        (TornWrites::Atomic, false) => Err(StoreError::InvalidOption {
            option: "torn_writes",
            found: "Atomic".into(),
            expected: format!(
                "another one: the file system makes no atomic writes of {} bytes",
                pages.page_size().get()
            ),
        }),
        (asked, _) => Ok(asked),
    }
}

/// Pages that are written in their places alone.
fn once(how: TornWrites, pages: PageFile, restored: u64) -> StoreResult<(Box<dyn PageStore>, Protection)> {
    let pages = if how == TornWrites::Atomic { pages.with_atomic_writes()? } else { pages };
    Ok((Box::new(pages), Protection { how, restored, twice: None }))
}

#[cfg(test)]
mod tests {
    use pagestone_direct_io::DirectIo;
    use pagestone_testkit::{AtomicWrites, SimDisk, SimOptions};

    use super::*;

    /// What is asked for, what the disk has, what is done.
    #[test]
    fn atomic_writes_are_taken_where_they_are_offered_for_a_whole_page() {
        use TornWrites::{Atomic, Best, DoubleWrite, Off};
        let chosen = |torn_writes, atomic_writes, direct, bytes| {
            let disk = SimDisk::with(SimOptions { atomic_writes, ..SimOptions::default() });
            let how = OpenHow::create_new(direct);
            let file = pagestone_direct_io::Disk::open(&disk, Path::new("/data"), &how).expect("a file");
            let size = PageSize::new(bytes).expect("a size");
            let uuid = pagestone_page_format::StoreUuid::new([1; 16]);
            let checksum = PageChecksum::new(pagestone_page_format::ChecksumKind::Crc32c, uuid);
            let pages = PageFile::new(file, crate::superblock::PAGES_AT, size, checksum);
            choose(&Options { torn_writes, ..Options::default() }, &pages).ok()
        };
        let (none, kept, direct) = (AtomicWrites::None, AtomicWrites::Kept, DirectIo::Required);
        for asked in [DoubleWrite, Off] {
            assert_eq!(chosen(asked, kept, direct, 4096), Some(asked));
        }
        assert_eq!(chosen(Best, kept, direct, 4096), Some(Atomic));
        assert_eq!(chosen(Atomic, kept, direct, 4096), Some(Atomic));
        // Not offered; through the cache; larger than the largest unit.
        for (offered, direct, bytes) in
            [(none, direct, 4096), (kept, DirectIo::Off, 4096), (kept, direct, 8192)]
        {
            assert_eq!(chosen(Best, offered, direct, bytes), Some(DoubleWrite), "{offered:?}, {bytes}");
            assert_eq!(chosen(Atomic, offered, direct, bytes), None, "{offered:?}, {bytes}");
        }
    }
}
