//! A new store: whole, or not there at all.
//!
//! Invariant: `data` is renamed into place after everything that it needs is durable, so a store killed at any instant of its
//! creation is either absent, and made anew by the next opening, or complete and empty.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pagestone_allocator::{FormatMap, SetBits};
use pagestone_btree::{BTree, TREE_BASE_ID};
use pagestone_direct_io::{Create, Disk, File, OpenHow, PageFile, PathKind, lock_within};
use pagestone_page_format::{
    Lsn, Page, PageChecksum, PageId, PageKind, PageOp, PageResult, PageSize, PageStore, PageWriter, StoreUuid,
};
use pagestone_sync::atomic::AtomicU64;
use pagestone_wal::Wal;

use crate::catalog::CATALOG_TREE;
use crate::superblock::{PAGES_AT, Superblock, SuperblockCopies};
use crate::{Options, StoreError, StoreResult, TornWrites, torn_writes};

/// The data file while it is being made.
const UNFINISHED: &str = "data.new";
/// The one tree that every store has, rooted at the page behind the first map page.
pub(crate) const DEFAULT_ROOT: PageId = PageId::new(1);
/// The list of all others stands behind it.
pub(crate) const CATALOG_ROOT: PageId = PageId::new(2);
/// How long a lock that outlives its killed holder is waited for (I18); E1 allows 300 ms in all.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(200);

/// Makes a store in `dir`, which may exist if it is empty but for the remains of an unfinished creation. Gives the locked
/// data file, or nothing if another process finished one meanwhile.
pub(crate) fn create(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &Options,
) -> StoreResult<Option<Arc<dyn File>>> {
    // 1. The directory, durable in its parent.
    match disk.create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_strangers(disk, dir)?,
        Err(error) => return Err(StoreError::io("creating the store's directory", error)),
    }
    // Also if it was there: whoever made it may have been killed before it was durable.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new(".")))
        .map_err(|error| StoreError::io("syncing the parent directory", error))?;
    // 2. The unfinished data file, locked before anything in it is believed or changed.
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: options.direct_io };
    let path = dir.join(UNFINISHED);
    let file = disk.open(&path, &how).map_err(|error| StoreError::io("creating the data file", error))?;
    lock_within(&*file, &path, LOCK_WAIT)?;
    let kind = |name: &str| {
        disk.kind(&dir.join(name)).map_err(|error| StoreError::io("looking at the data file", error))
    };
    if kind("data")?.is_some() {
        // Another process was faster, and this name is one that we made a moment ago.
        if kind(UNFINISHED)?.is_some() {
            disk.remove_file(&path).map_err(|error| StoreError::io("removing a spare data file", error))?;
        }
        return Ok(None);
    }
    if kind(UNFINISHED)?.is_none() {
        return Ok(None);
    }
    // 3. The log, the double-write file, the data file, each durable in itself.
    let uuid = new_uuid()?;
    Wal::create(Arc::clone(disk), dir.join("log"), &crate::open::wal_options(options), uuid)?;
    if matches!(options.torn_writes, TornWrites::Best | TornWrites::DoubleWrite) {
        torn_writes::make(disk, dir, options, options.page_size)?;
    }
    file.set_len(0).map_err(|error| StoreError::io("emptying the unfinished data file", error))?;
    let first = Superblock {
        page_size: options.page_size,
        uuid,
        sequence: 1,
        generation: 0,
        checksum: options.checksum,
        checkpoint: Lsn::ZERO,
        data_pages: 3,
        root: DEFAULT_ROOT,
        user_meta: [0; 8],
        catalog: CATALOG_ROOT,
        removals_from: 0,
    };
    let checksum = PageChecksum::new(options.checksum, uuid);
    let pages = PageFile::new(Arc::clone(&file), PAGES_AT, options.page_size, checksum);
    pages.grow(3)?;
    SuperblockCopies::create(Arc::clone(&file), first)?;
    let roots = SetBits { first: DEFAULT_ROOT, count: 2 };
    let mut made = [
        page_after(options.page_size, PageId::new(0), &[&FormatMap { region: 0 }, &roots])?,
        page_after(options.page_size, DEFAULT_ROOT, &[&BTree::empty_root(TREE_BASE_ID)])?,
        page_after(options.page_size, CATALOG_ROOT, &[&BTree::empty_root(CATALOG_TREE)])?,
    ];
    pages.write_many(&mut made)?;
    pages.sync()?;
    // 4. Into place; the opening that called syncs the directory before it goes on.
    disk.rename(&path, &dir.join("data")).map_err(|error| StoreError::io("renaming the data file", error))?;
    Ok(Some(file))
}

/// A directory that holds something else is not turned into a store.
fn refuse_strangers(disk: &Arc<dyn Disk>, dir: &Path) -> StoreResult<()> {
    let names = disk.list(dir).map_err(|error| StoreError::io("listing the store's directory", error))?;
    let ours = [UNFINISHED, "data", "log", torn_writes::NAME];
    let stranger = names.iter().find(|name| ours.iter().all(|ours| name != ours));
    match stranger {
        Some(name) => Err(StoreError::NotAStore {
            path: dir.to_path_buf(),
            found: format!("a directory without a data file and with {}", name.display()),
        }),
        None => Ok(()),
    }
}

/// A page as these operations leave it, changed by no log.
fn page_after(size: PageSize, id: PageId, ops: &[&dyn PageOp]) -> PageResult<Page> {
    let words: Box<[AtomicU64]> = (0..size.words()).map(|_| AtomicU64::new(0)).collect();
    let writer = PageWriter::new(&words);
    writer.format(PageKind::PLAIN, id);
    for op in ops {
        op.apply(&writer)?;
    }
    let mut page = Page::new(size, id);
    writer.read().copy_out(page.bytes_mut());
    page.set_id(id);
    page.set_lsn(Lsn::ZERO);
    pagestone_swip::mask_hints(page.bytes_mut()).map_err(|error| error.malformed(id))?;
    Ok(page)
}

fn new_uuid() -> StoreResult<StoreUuid> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::io("drawing a UUID", std::io::Error::other(error)))?;
    Ok(StoreUuid::new(bytes))
}

/// What stands where the store's directory should be.
pub(crate) fn check_directory(disk: &Arc<dyn Disk>, dir: &Path, create: bool) -> StoreResult<()> {
    let not_a_store = |found: &str| StoreError::NotAStore { path: dir.to_path_buf(), found: found.into() };
    match disk.kind(dir).map_err(|error| StoreError::io("looking at the store's directory", error))? {
        Some(PathKind::Directory) => Ok(()),
        None if create => Ok(()),
        None => Err(StoreError::NotFound { path: dir.to_path_buf() }),
        Some(PathKind::File) => Err(not_a_store("a file, a store is a directory")),
        Some(PathKind::Other) => Err(not_a_store("neither a file nor a directory")),
    }
}
