//! The system calls that `std` lacks, on macOS.
//!
//! Direct I/O is `F_NOCACHE`: transfers of the descriptor leave nothing in the system's cache. Unlike `O_DIRECT` it asks
//! for no alignment, and it reads what another descriptor has left in the cache from there. It can be had on every file
//! system, so [`crate::DirectIo::Required`] succeeds.
//!
//! # Safety
//!
//! Every call here takes a `&File`: the descriptor is open for as long as the call lasts and belongs to the caller. No
//! call takes over or keeps a pointer; the one pointer that is passed leads to a local of the function that passes it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

pub(super) use super::elsewhere::*;
pub(super) use super::unix::*;

/// `F_FULLFSYNC`, once: `fsync` leaves the bytes in the cache of the device, and an interrupted sync that is tried again may
/// report a lost write as durable (I4, I9). A file system that has no such barrier gives its error: what it could do instead
/// is less than what is promised.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    // SAFETY: the borrowed file keeps the descriptor open; `F_FULLFSYNC` takes no argument.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_FULLFSYNC) })
}

/// The same barrier, of a directory.
pub(super) fn sync_directory(directory: &File) -> io::Result<()> {
    sync_data(directory)
}

/// `F_PREALLOCATE`: blocks behind the end of the file, all of them or none, then the length. `Unsupported` where the file
/// system cannot. Blocks of a hole inside the file are not allocated: the system has no call for that.
pub(super) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let before = file.metadata()?.len();
    let end = offset.saturating_add(len);
    if end <= before {
        return Ok(());
    }
    let more = libc::off_t::try_from(end - before).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: more,
        fst_bytesalloc: 0,
    };
    // SAFETY: the borrowed file keeps the descriptor open; `store` is a whole `fstore_t` that lives through the call, which
    // reads it and writes its last field.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &mut store) }).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ENOTSUP | libc::EOPNOTSUPP | libc::ENOTTY) => ErrorKind::Unsupported.into(),
            _ => error,
        }
    })?;
    file.set_len(end)
}

/// Switches the cache off for this descriptor.
pub(super) fn enable_direct(file: &File) -> io::Result<()> {
    set_nocache(file, 1)
}

/// Switches it on again.
pub(super) fn disable_direct(file: &File) -> io::Result<()> {
    set_nocache(file, 0)
}

/// Takes back the flag with which the file was opened. It has no effect on reads and writes of regular files here.
pub(super) fn clear_nonblocking(_file: &File) -> io::Result<()> {
    Ok(())
}

fn set_nocache(file: &File, on: libc::c_int) -> io::Result<()> {
    // SAFETY: the borrowed file keeps the descriptor open; `F_NOCACHE` takes an integer, which `on` is.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, on) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
