//! The same names on a Unix that is neither Linux nor macOS, by `std` alone: without direct I/O and without allocation ahead.

use std::fs::File;
use std::io::{self, ErrorKind};

pub(super) use super::elsewhere::*;
pub(super) use super::unix::*;

/// As `std` does it.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// As `std` does it.
pub(super) fn sync_directory(directory: &File) -> io::Result<()> {
    directory.sync_all()
}

/// Not here: the caller writes zeros.
pub(super) fn allocate(_file: &File, _offset: u64, _len: u64) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Not here: direct I/O is refused where it is required, and reported as not active where it is preferred.
pub(super) fn enable_direct(_file: &File) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "no direct I/O on this platform"))
}

/// Nothing to switch off.
pub(super) fn disable_direct(_file: &File) -> io::Result<()> {
    Ok(())
}

/// The flag has no effect on reads and writes of regular files.
pub(super) fn clear_nonblocking(_file: &File) -> io::Result<()> {
    Ok(())
}
