//! How a page file is opened, and made if there is none.
//!
//! Invariant: a page file gets its name after its superblock is durable, so one that was killed at any instant of its creation is
//! either absent, and made anew by the next opening, or complete and empty.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, PageChecksum, PageError, PageResult, PageSize, StoreUuid,
};

use super::superblock::{PAGES_AT, Superblock};
use super::{PageFile, SelfDescription};
use crate::{
    Create, DirectIo, Disk, File, OpenHow, PathKind, RealDisk, SharedSync, lock_shared_within, lock_within,
};

/// How long a lock that outlives its killed holder is waited for (I18); E1 allows 300 ms in all.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// How a page file is opened.
///
/// ```
/// use pagestone_direct_io::{PageFile, PageFileOptions};
/// use pagestone_page_format::{Lsn, PageId, PageSize};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pages");
/// let file = PageFileOptions::new().page_size(PageSize::new(8192)?).direct_io(false).open(&path)?;
/// let mut page = file.allocate_page(PageId::new(0));
/// page.payload_mut()[..5].copy_from_slice(b"hello");
/// page.set_lsn(Lsn::new(7));
/// file.write_page(&mut page)?; // the file grows as pages are written
/// file.sync()?;
/// drop(file); // and its lock with it
///
/// let file = PageFileOptions::new().open(&path)?;
/// let page = file.read_page(PageId::new(0))?;
/// assert_eq!((page.page_size().get(), page.lsn(), &page.payload()[..5]), (8192, Lsn::new(7), &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFileOptions {
    page_size: Option<PageSize>,
    direct: DirectIo,
    create: bool,
    read_only: bool,
    checksum: ChecksumKind,
}

impl Default for PageFileOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PageFileOptions {
    /// A file that is made if there is none, with pages of 4 KiB under CRC32C, past the system's cache where that can be; one that
    /// is there keeps the size and the checksum that it has.
    pub fn new() -> Self {
        Self {
            page_size: None,
            direct: DirectIo::Prefer,
            create: true,
            read_only: false,
            checksum: ChecksumKind::Crc32c,
        }
    }

    /// Pages of this size, 4 KiB to 1 MiB: a file with others is refused.
    #[must_use]
    pub fn page_size(mut self, size: PageSize) -> Self {
        self.page_size = Some(size);
        self
    }

    /// Whether to go past the system's cache: `true` where that can be, `false` never, or a [`DirectIo`].
    #[must_use]
    pub fn direct_io(mut self, direct: impl Into<DirectIo>) -> Self {
        self.direct = direct.into();
        self
    }

    /// Whether to make the file if there is none.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether the file is only read: nothing is written, made or synced, other such handles may have it open as well, and whatever
    /// would change it is `ReadOnly`. Works on a file system that takes no writes, and on a file that only can be read.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The checksum of a new file's pages; one that is there keeps its own.
    #[must_use]
    pub fn checksum(mut self, kind: ChecksumKind) -> Self {
        self.checksum = kind;
        self
    }

    /// Opens the file and locks it for this handle. What the system's cache has of it and is not waiting to be written is forgotten
    /// first, where the system can be asked ([`crate::File::drop_cache`]): a sync that failed before may have left there what is on no
    /// disk.
    ///
    /// Errors, with the file as it was: `Locked` within 300 ms; `InvalidSuperblock` for what is no page file, an empty file and a
    /// short one among it; `UnsupportedVersion`; `Mismatch` for another page size than was asked for, and where there is none yet but
    /// a file of somebody's under its name with `.new` behind, under which it would be made; `Io` with `NotFound` if
    /// there is none and none is to be made, with `PermissionDenied` if it is another user's, and for what is no regular file;
    /// `ReadOnly` if the file system takes no writes and [`PageFileOptions::read_only`] was not asked for.
    pub fn open(&self, path: impl AsRef<Path>) -> PageResult<PageFile> {
        self.open_on(&RealDisk, path.as_ref())
    }

    /// As [`PageFileOptions::open`], on another disk than the system's.
    pub fn open_on(&self, disk: &dyn Disk, path: &Path) -> PageResult<PageFile> {
        if self.read_only {
            let file = disk
                .open(path, &OpenHow::read(self.direct))
                .map_err(|error| PageError::io("open a page file", error))?;
            lock_shared_within(&*file, path, LOCK_WAIT)?;
            return self.existing(file);
        }
        let how = OpenHow { create: Create::Existing, write: true, direct: self.direct };
        loop {
            match disk.open(path, &how) {
                Ok(file) => {
                    lock_within(&*file, path, LOCK_WAIT)?;
                    // Whoever gave it its name may have been killed before that was durable.
                    sync_parent(disk, path)?;
                    return self.existing(file);
                }
                Err(error) if error.kind() == ErrorKind::NotFound && self.create => {
                    if let Some(file) = self.make(disk, path)? {
                        return Ok(file);
                    }
                }
                Err(error) => return Err(PageError::io("open a page file", error)),
            }
        }
    }

    fn existing(&self, file: Arc<dyn File>) -> PageResult<PageFile> {
        // A sync that failed before may have left in the cache, as clean, what is on no device: nobody would write it again (I9).
        match file.drop_cache() {
            Err(error) if error.kind() != ErrorKind::Unsupported => {
                return Err(PageError::io("drop the cache of a page file", error));
            }
            _ => {}
        }
        let (superblock, damage) = Superblock::read(&*file)?;
        if let Some(wanted) = self.page_size
            && wanted != superblock.page_size
        {
            return Err(PageError::Mismatch {
                expected: format!("pages of {wanted} bytes"),
                found: format!("a file with pages of {} bytes", superblock.page_size),
            });
        }
        Ok(PageFile::described(file, superblock, damage, self.read_only))
    }

    /// Makes the file under another name and renames it; none if another process did so meanwhile. A file that stands under that
    /// other name and is no creation that was cut is not touched (R7).
    fn make(&self, disk: &dyn Disk, path: &Path) -> PageResult<Option<PageFile>> {
        let unfinished = unfinished(path);
        let how = OpenHow { create: Create::OpenOrNew, write: true, direct: self.direct };
        let file = disk.open(&unfinished, &how).map_err(|error| PageError::io("make a page file", error))?;
        lock_within(&*file, &unfinished, LOCK_WAIT)?;
        let kind = |path: &Path| disk.kind(path).map_err(|error| PageError::io("look at a page file", error));
        let (there, ours) = (kind(path)?, kind(&unfinished)?);
        if there.is_some() || ours != Some(PathKind::File) {
            return Ok(None); // another process was faster; what it left under the other name is harmless
        }
        if !Superblock::may_be_unfinished(&*file)? {
            return Err(PageError::Mismatch {
                expected: format!(
                    "nothing at {}, or what a creation left that was cut",
                    unfinished.display()
                ),
                found: "somebody's file".into(),
            });
        }
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid).map_err(|error| PageError::io("draw a UUID", io::Error::other(error)))?;
        let superblock = Superblock {
            page_size: self.page_size.unwrap_or(DEFAULT_PAGE_SIZE),
            uuid: StoreUuid::new(uuid),
            checksum: self.checksum,
        };
        file.set_len(0).map_err(|error| PageError::io("empty an unfinished page file", error))?;
        superblock.write(&*file)?;
        file.sync().map_err(|error| PageError::io("sync a new page file", error))?;
        disk.rename(&unfinished, path).map_err(|error| PageError::io("name a new page file", error))?;
        sync_parent(disk, path)?;
        Ok(Some(PageFile::described(file, superblock, None, false)))
    }
}

impl PageFile {
    /// Opens a page file with pages of this size, and makes it if there is none: [`PageFileOptions`] with that size.
    pub fn open(path: impl AsRef<Path>, page_size: PageSize) -> PageResult<Self> {
        PageFileOptions::new().page_size(page_size).open(path)
    }

    fn described(
        file: Arc<dyn File>,
        superblock: Superblock,
        damage: Option<PageError>,
        read_only: bool,
    ) -> Self {
        let checksum = PageChecksum::new(superblock.checksum, superblock.uuid);
        let file: Arc<dyn File> = Arc::new(SharedSync::new(file));
        let mut pages = Self::new(file, PAGES_AT, superblock.page_size, checksum);
        pages.description = Some(SelfDescription { uuid: superblock.uuid, damage, read_only });
        pages
    }
}

/// The name of a page file while it is being made.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".new");
    PathBuf::from(name)
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> PageResult<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new(".")))
        .map_err(|error| PageError::io("sync the directory of a page file", error))
}
