//! How a file is made and opened.
//!
//! Invariant: a file has its name only once it is whole and durable; nothing of a file is mapped or written before it is known to be ours
//! and long enough; and what is believed when it is opened is on the disk and not only in a cache (T4, L10).
//!
//! ```text
//!   create   NAME.new ──► superblock, root ──► sync ──► rename ──► sync the directory
//!   open     lock ──► superblock ──► sync, drop the cache ──► root, blocks
//!   use      the first page of a part of the file ──► reserve ──► map
//! ```

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pagestone_direct_io::{
    Create, DirectIo, Disk, File, MapAccess, OpenHow, PathKind, RealDisk, lock_shared_within, lock_within,
};
use pagestone_page_format::{Poison, StoreUuid};
use pagestone_sync::faults::planted;

use crate::layout::Layout;
use crate::maps::Maps;
use crate::metadata::Metadata;
use crate::metrics::MappedMetrics;
use crate::space::Space;
use crate::superblock::Superblock;
use crate::{DynPager, MappedPageError, MappedResult, ReadOnly};

/// A lock is waited for so long (E1).
const LOCK_WAIT: Duration = Duration::from_millis(250);

/// How a file of mapped pages is made and opened.
///
/// ```
/// use pagestone_mapped_pages::{MappedOptions, Pager};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pages");
/// let mut pager: Pager<4096> = MappedOptions::new().reserve(false).create(&path, 12)?.typed()?;
/// pager.alloc()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedOptions {
    reserve: bool,
    accept_older: bool,
}

impl Default for MappedOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MappedOptions {
    /// Blocks are reserved; damage is refused.
    pub const fn new() -> Self {
        Self { reserve: true, accept_older: false }
    }

    /// Whether the blocks of a new file's pages are reserved as it grows, so that a full disk is an error then. Without that the file has
    /// blocks only where it was written, and a page that finds none when it is written to ends the process by a signal (SIGBUS). A
    /// file keeps what it was made with.
    #[must_use]
    pub const fn reserve(mut self, reserve: bool) -> Self {
        self.reserve = reserve;
        self
    }

    /// Whether to open a file whose last commit is damaged as the commit before it left it, where that is still there.
    ///
    /// Files of this kind often do so by themselves. Here it has to be asked for, because it takes back what was acknowledged: pages
    /// that were allocated are free, pages that were freed are somebody's, protected pages show older bytes or are damaged. What a power
    /// cut left in the middle of a commit is no damage and needs no option.
    #[must_use]
    pub const fn accept_older(mut self, accept: bool) -> Self {
        self.accept_older = accept;
        self
    }

    /// Makes a file with pages of two to this power bytes, 10 to 30, and opens it. It is made under its name with `.new` behind, which
    /// must be free or hold what a creation left that was cut.
    ///
    /// Errors: `Io` with `AlreadyExists` if there is one, and with whatever the system says; `InvalidPageSize`; `Locked` while another
    /// process makes the same file.
    pub fn create(&self, path: impl AsRef<Path>, page_size_log2: u32) -> MappedResult<DynPager> {
        self.create_on(&RealDisk, path.as_ref(), page_size_log2)
    }

    /// As [`MappedOptions::create`], on another disk than the system's.
    pub fn create_on(&self, disk: &dyn Disk, path: &Path, page_size_log2: u32) -> MappedResult<DynPager> {
        Layout::new(page_size_log2)?;
        let unfinished = unfinished(path);
        let kind = |path: &Path| disk.kind(path).map_err(io("look at a file of mapped pages"));
        let exists = || MappedPageError::io("make a file of mapped pages", ErrorKind::AlreadyExists.into());
        if kind(path)?.is_some() {
            return Err(exists());
        }
        let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Off };
        let file = disk.open(&unfinished, &how).map_err(io("make a file of mapped pages"))?;
        lock_within(&*file, &unfinished, LOCK_WAIT)?;
        // Another process may have made it while this one waited.
        if kind(path)?.is_some()
            || kind(&unfinished)? != Some(PathKind::File)
            || !Superblock::may_be_unfinished(&*file)?
        {
            return Err(exists());
        }
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid)
            .map_err(|error| MappedPageError::io("draw a UUID", io::Error::other(error)))?;
        let superblock =
            Superblock { page_log2: page_size_log2, uuid: StoreUuid::new(uuid), reserve: self.reserve };
        file.set_len(0).map_err(io("empty an unfinished file"))?;
        superblock.write(&*file)?;
        Metadata::create(&*file, superblock.uuid)?;
        file.sync().map_err(io("sync a new file"))?;
        disk.rename(&unfinished, path).map_err(io("name a new file"))?;
        sync_parent(disk, path)?;
        self.existing(file, superblock, MapAccess::Write)
    }

    /// Opens a file, which knows its page size, and locks it.
    ///
    /// Errors, with the file as it was: `Locked` within 300 ms; `CorruptSuperblock` for what is no file of mapped pages, an empty one
    /// among it; `CorruptMetadata`, `CorruptProtectedDirectory`, `CorruptDirectoryIndex` for damage, a file that was cut among it; `Io`.
    pub fn open(&self, path: impl AsRef<Path>) -> MappedResult<DynPager> {
        self.open_on(&RealDisk, path.as_ref())
    }

    /// As [`MappedOptions::open`], on another disk than the system's.
    pub fn open_on(&self, disk: &dyn Disk, path: &Path) -> MappedResult<DynPager> {
        let file =
            disk.open(path, &OpenHow::write(DirectIo::Off)).map_err(io("open a file of mapped pages"))?;
        lock_within(&*file, path, LOCK_WAIT)?;
        let superblock = Superblock::read(&*file)?;
        sync_parent(disk, path)?;
        // What a killed process left in the cache becomes durable before it is believed; what a failed sync left there is forgotten.
        if !planted("an opening believes what only a cache holds") {
            file.sync().map_err(io("sync a file of mapped pages"))?;
        }
        drop_cache(&*file)?;
        self.existing(file, superblock, MapAccess::Write)
    }

    /// Opens a file to read, beside others that do so: nothing is written, and what would write does not compile. Errors are those of
    /// [`MappedOptions::open`].
    pub fn read_only(&self, path: impl AsRef<Path>) -> MappedResult<ReadOnly<DynPager>> {
        self.read_only_on(&RealDisk, path.as_ref())
    }

    /// As [`MappedOptions::read_only`], on another disk than the system's.
    pub fn read_only_on(&self, disk: &dyn Disk, path: &Path) -> MappedResult<ReadOnly<DynPager>> {
        let file =
            disk.open(path, &OpenHow::read(DirectIo::Off)).map_err(io("open a file of mapped pages"))?;
        lock_shared_within(&*file, path, LOCK_WAIT)?;
        let superblock = Superblock::read(&*file)?;
        drop_cache(&*file)?;
        self.existing(file, superblock, MapAccess::Read).map(ReadOnly)
    }

    fn existing(
        &self,
        file: Arc<dyn File>,
        superblock: Superblock,
        access: MapAccess,
    ) -> MappedResult<DynPager> {
        let layout = Layout::new(superblock.page_log2)?;
        let poison = Poison::new();
        let metadata =
            Metadata::open(Arc::clone(&file), superblock.uuid, layout, self.accept_older, poison.clone())?;
        let pages = metadata.pages();
        let space = Space::of(layout, metadata.words(), pages)?;
        let maps = Maps::new(layout, Arc::clone(&file), access, superblock.reserve, pages);
        let zeros = OnceLock::new();
        let metrics = MappedMetrics::default();
        let mut pager = DynPager { maps, metadata, space, superblock, layout, file, poison, zeros, metrics };
        pager.lend_all();
        pager.read_patched()?;
        Ok(pager)
    }
}

impl DynPager {
    /// Makes a file with pages of two to this power bytes and opens it: [`MappedOptions::create`].
    pub fn create(path: impl AsRef<Path>, page_size_log2: u32) -> MappedResult<Self> {
        MappedOptions::new().create(path, page_size_log2)
    }

    /// Opens a file, whatever its page size: [`MappedOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> MappedResult<Self> {
        MappedOptions::new().open(path)
    }

    /// Opens a file to read: [`MappedOptions::read_only`].
    pub fn read_only(path: impl AsRef<Path>) -> MappedResult<ReadOnly<Self>> {
        MappedOptions::new().read_only(path)
    }
}

fn io(operation: &'static str) -> impl Fn(io::Error) -> MappedPageError {
    move |error| MappedPageError::io(operation, error)
}

fn drop_cache(file: &dyn File) -> MappedResult<()> {
    match file.drop_cache() {
        Err(error) if error.kind() != ErrorKind::Unsupported => {
            Err(MappedPageError::io("drop the cache of a file of mapped pages", error))
        }
        _ => Ok(()),
    }
}

/// The name of a file while it is being made.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".new");
    PathBuf::from(name)
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> MappedResult<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new("."))).map_err(io("sync the directory of a file"))
}
