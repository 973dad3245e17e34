//! What every Unix does alike, by `std`: names to descriptors, transfers at positions, the lock.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::open::not_regular;
use super::platform;
use crate::PathKind;

/// An open file.
pub(super) type Descriptor = File;

/// How the system refuses a transfer that direct I/O cannot do.
pub(super) const REFUSED: i32 = libc::EINVAL;

/// Opens what is there without following a link and without waiting for a FIFO.
pub(super) fn open_existing(path: &Path, write: bool) -> io::Result<Descriptor> {
    open_with(path, write, 0)
}

/// The same, with more flags.
pub(super) fn open_with(path: &Path, write: bool, flags: i32) -> io::Result<Descriptor> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | flags)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => not_regular("a link"),
            _ => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(not_regular("no regular file"));
    }
    platform::clear_nonblocking(&file)?;
    Ok(file)
}

/// Makes a file for its owner alone. Exclusive creation neither follows a link nor opens what is there.
pub(super) fn create_new(path: &Path) -> io::Result<Descriptor> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a directory for its owner alone.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// What a look that followed no link found.
pub(super) fn kind_of(found: &Metadata) -> PathKind {
    match found {
        found if found.is_file() => PathKind::File,
        found if found.is_dir() => PathKind::Directory,
        _ => PathKind::Other,
    }
}

/// A directory, to be synced.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// `pread`, once.
pub(super) fn read_at(file: &Descriptor, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buf, offset)
}

/// `pwrite`, once.
pub(super) fn write_at(file: &Descriptor, buf: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(buf, offset)
}

/// `flock`, which belongs to the descriptor and not to the process, and holds against other handles of this process too.
pub(super) fn try_lock(file: &Descriptor) -> io::Result<bool> {
    locked(file.try_lock())
}

/// The same, shared with other readers.
pub(super) fn try_lock_shared(file: &Descriptor) -> io::Result<bool> {
    locked(file.try_lock_shared())
}

fn locked(result: Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
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
            open_existing(&file, write).expect("a regular file");
            for path in [&link, &fifo] {
                let error = open_existing(path, write).expect_err("no regular file");
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
            }
            assert!(open_existing(&socket, write).is_err());
            assert!(open_existing(dir.path(), write).is_err());
        }
    }
}
