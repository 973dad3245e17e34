//! The real file system.
//!
//! Invariant: one handle is one descriptor from open to drop. Direct I/O is switched on and off on that descriptor, so
//! that a fallback neither loses the lock nor opens another file under the same name.
//!
//! ```text
//!   open.rs         names to descriptors: nothing but regular files, nothing followed, nothing waited for
//!   file.rs         RealFile: File
//!   ranges.rs       which bytes are mapped, which are being written
//!   map.rs          RealMap: Map                                         unsafe
//!   batches.rs      how batches are done: decided once a handle
//!   pool.rs         batches through threads that block
//!   ring.rs         batches through io_uring, on Linux                   unsafe
//!   ring_shelf.rs   the rings of a file between batches, on Linux
//!   no_ring.rs      the same name elsewhere: there is none
//!   no_dsync.rs     where no write is durable, or whole, by itself; on Linux linux.rs has those that are
//!   platform        the system's calls under the same names everywhere:
//!     unix.rs         what every Unix does alike
//!      ├ linux.rs       O_DIRECT, fdatasync, fallocate                     unsafe
//!      ├ macos.rs       F_NOCACHE, F_FULLFSYNC, F_PREALLOCATE              unsafe
//!      └ other_unix.rs  without direct I/O
//!     elsewhere.rs    what only Linux has, elsewhere
//!     windows/        FILE_FLAG_NO_BUFFERING, FlushFileBuffers, LockFileEx  unsafe
//! ```
//!
//! How well each is proved: Linux by every test. Windows by the tests of this crate under Wine, which shows that the calls are
//! made as they are meant and nothing about NTFS (`cargo xtask lanes`). macOS is type-checked and was never run by us; other
//! Unix systems are not even that.

mod batches;
mod file;
mod map;
mod open;
mod owned;
mod pool;
mod ranges;

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod platform;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "macos"))))]
#[path = "other_unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod platform;
#[cfg(unix)]
mod unix;

#[cfg(target_os = "linux")]
use platform as dsync;
#[cfg(not(target_os = "linux"))]
#[path = "no_dsync.rs"]
mod dsync;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
#[path = "no_ring.rs"]
mod ring;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(target_os = "linux")]
mod ring_shelf;

pub use map::MappedPage;
pub(crate) use map::RealMap;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::{Backend, DirectIo, Disk, File, OpenHow, PathKind};

/// Whether a flush of a map reaches the medium. Elsewhere it reaches the device's cache, and a sync of the file has to follow.
const FLUSH_IS_DURABLE: bool = cfg!(any(target_os = "linux", windows));

/// The real file system. Paths are as `std` takes them.
///
/// ```
/// use std::path::Path;
/// use pagestone_direct_io::{Disk, PathKind, RealDisk};
/// assert_eq!(RealDisk.kind(Path::new("."))?, Some(PathKind::Directory));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// The real file system with batches done as is said here; [`RealDisk`] itself takes [`Backend::Best`]. Which it is for a
    /// file, [`File::backend`] tells. Opening fails with `Unsupported` where [`Backend::IoUring`] cannot be had.
    pub fn with_backend(backend: Backend) -> impl Disk {
        Backed(backend)
    }
}

/// The real file system with a chosen backend.
#[derive(Debug)]
struct Backed(Backend);

impl Disk for Backed {
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open::open(path, how, self.0)?))
    }

    fn open_dsync(&self, path: &Path, direct: DirectIo) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open::open_dsync(path, direct, self.0)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(dir)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        RealDisk.kind(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open::open(path, how, Backend::Best)?))
    }

    fn open_dsync(&self, path: &Path, direct: DirectIo) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open::open_dsync(path, direct, Backend::Best)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        platform::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        match std::fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(platform::kind_of(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        platform::sync_directory(&platform::open_directory(dir)?)
    }
}
