//! From a name to a descriptor.
//!
//! Invariant: what comes out of here is a regular file that stood under exactly this name. It is looked at before it is
//! opened, so that opening has no effect on a device; it is opened without following and without waiting, so that a link
//! or FIFO that was put there in between neither leads elsewhere nor hangs; and the descriptor is looked at again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::file::RealFile;
use super::platform;
use crate::{Create, DirectIo, Disk, OpenHow, PathKind, RealDisk};

/// How often a file may appear and vanish again between two looks before the open gives up.
const RACES_MAX: u32 = 8;

/// Opens a file as [`Disk::open`] promises.
pub(super) fn open(path: &Path, how: &OpenHow) -> io::Result<RealFile> {
    let (file, created) = match how.create {
        Create::Existing => (open_existing(path, how.write)?, false),
        Create::New => (create_new(path)?, true),
        Create::OpenOrNew => open_or_new(path)?,
    };
    let opened = settle(file, how.direct);
    if opened.is_err() && created {
        // A refused open leaves nothing behind. The name is ours: it was made exclusively a moment ago.
        let _ = std::fs::remove_file(path);
    }
    opened
}

fn open_or_new(path: &Path) -> io::Result<(File, bool)> {
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

fn open_existing(path: &Path, write: bool) -> io::Result<File> {
    match RealDisk.kind(path)? {
        None => return Err(ErrorKind::NotFound.into()),
        Some(PathKind::File) => {}
        Some(PathKind::Directory) => return Err(not_regular("a directory")),
        Some(PathKind::Other) => return Err(not_regular("a link, FIFO, socket or device")),
    }
    open_regular(path, write)
}

/// The open itself, which trusts no look that was taken before it.
fn open_regular(path: &Path, write: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => not_regular("a link"),
            _ => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(not_regular("no regular file"));
    }
    Ok(file)
}

fn create_new(path: &Path) -> io::Result<File> {
    // Exclusive creation neither follows a link nor opens what is there, so nothing needs to be looked at.
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Gives the descriptor its lasting flags: waiting again, and direct if that is wanted and possible.
///
/// Direct I/O is switched on after opening and not by opening: a file system may create the file and then refuse the
/// flag.
fn settle(file: File, direct: DirectIo) -> io::Result<RealFile> {
    platform::clear_nonblocking(&file)?;
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
    Ok(RealFile::new(file, direct, active))
}

fn not_regular(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("{what} stands where a regular file is wanted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    /// What is put under the name between the look and the open.
    #[test]
    fn the_open_alone_neither_follows_nor_waits() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link, fifo, socket) = (
            dir.path().join("file"),
            dir.path().join("link"),
            dir.path().join("fifo"),
            dir.path().join("socket"),
        );
        std::fs::write(&file, b"bytes").expect("write");
        symlink(&file, &link).expect("link");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        let _listener = UnixListener::bind(&socket).expect("bind");
        for write in [false, true] {
            open_regular(&file, write).expect("a regular file");
            for path in [&link, &fifo] {
                let error = open_regular(path, write).expect_err("no regular file");
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
            }
            assert!(open_regular(&socket, write).is_err());
            assert!(open_regular(dir.path(), write).is_err());
        }
    }
}
