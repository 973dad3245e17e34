//! From a name to a descriptor.
//!
//! Invariant: what comes out of here is a regular file that stood under exactly this name. It is looked at before it is
//! opened, so that opening has no effect on a device; it is opened without following and without waiting, so that a link
//! or FIFO that was put there in between neither leads elsewhere nor hangs; and the descriptor is looked at again.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::batches::Batches;
use super::dsync;
use super::file::RealFile;
use super::platform::{self, Descriptor, create_new};
use crate::{Backend, Create, DirectIo, Disk, OpenHow, PathKind, RealDisk};

/// How often a file may appear and vanish again between two looks before the open gives up.
const RACES_MAX: u32 = 8;

/// Opens a file as [`Disk::open`] promises.
pub(super) fn open(path: &Path, how: &OpenHow, backend: Backend) -> io::Result<RealFile> {
    let batches = Batches::new(backend)?;
    let (file, created) = match how.create {
        Create::Existing => (open_existing(path, how.write)?, false),
        Create::New => (create_new(path)?, true),
        Create::OpenOrNew => open_or_new(path)?,
    };
    let opened = settle(file, how.direct, batches);
    if opened.is_err() && created {
        // A refused open leaves nothing behind. The name is ours: it was made exclusively a moment ago.
        let _ = std::fs::remove_file(path);
    }
    opened
}

fn open_or_new(path: &Path) -> io::Result<(Descriptor, bool)> {
    for _ in 0..RACES_MAX {
        match open_existing(path, true) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => return Ok((other?, false)),
        }
        match create_new(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => return Ok((other?, true)),
        }
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "the file appears and vanishes while it is opened"))
}

/// Opens a file as [`Disk::open_dsync`] promises.
pub(super) fn open_dsync(path: &Path, direct: DirectIo, backend: Backend) -> io::Result<RealFile> {
    let batches = Batches::new(backend)?;
    look(path)?;
    settle(dsync::open_dsync(path)?, direct, batches)
}

fn open_existing(path: &Path, write: bool) -> io::Result<Descriptor> {
    look(path)?;
    // The open itself trusts no look that was taken before it.
    platform::open_existing(path, write)
}

/// Whether a regular file stands there.
fn look(path: &Path) -> io::Result<()> {
    match RealDisk.kind(path)? {
        None => Err(ErrorKind::NotFound.into()),
        Some(PathKind::File) => Ok(()),
        Some(PathKind::Directory) => Err(not_regular("a directory")),
        Some(PathKind::Other) => Err(not_regular("a link, FIFO, socket or device")),
    }
}

/// Switches direct I/O on if that is wanted and possible.
///
/// Direct I/O is switched on after opening and not by opening: a file system may create the file and then refuse the
/// flag.
fn settle(file: Descriptor, direct: DirectIo, batches: Batches) -> io::Result<RealFile> {
    let active = match direct {
        DirectIo::Off => false,
        DirectIo::Prefer => platform::enable_direct(&file).is_ok(),
        DirectIo::Required => {
            platform::enable_direct(&file).map_err(|error| {
                io::Error::new(ErrorKind::Unsupported, format!("direct I/O was required: {error}"))
            })?;
            true
        }
    };
    Ok(RealFile::new(file, direct, active, batches))
}

pub(super) fn not_regular(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("{what} stands where a regular file is wanted"))
}
