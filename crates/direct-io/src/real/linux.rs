//! The system calls that `std` lacks, on Linux.
//!
//! # Safety
//!
//! Every call here takes a `&File`: the descriptor is open for as long as the call lasts and belongs to the caller. No
//! call takes over or keeps a pointer: those that are passed lead to a local of the function that passes them, or to what its
//! caller borrows.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::path::Path;

use pagestone_page_format::IO_ALIGNMENT;

pub(super) use super::unix::*;

/// How often in a row an interruption of a call that may be tried again is taken.
const INTERRUPTED_LIMIT: u32 = 10_000;
/// Buffers that one call takes (`IOV_MAX`).
const VECTORS_MAX: usize = 1024;

/// `fdatasync`, once: `std` tries an interrupted sync again, which may report a lost write as durable (I4, I9).
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    // SAFETY: the borrowed file keeps the descriptor open; the call touches no memory of ours.
    check(unsafe { libc::fdatasync(file.as_raw_fd()) }).map(|_| ())
}

/// `fsync` of a directory, once, for the same reason.
pub(super) fn sync_directory(directory: &File) -> io::Result<()> {
    // SAFETY: the borrowed file keeps the descriptor open; the call touches no memory of ours.
    check(unsafe { libc::fsync(directory.as_raw_fd()) }).map(|_| ())
}

/// Opens a file of which every write is durable.
pub(super) fn open_dsync(path: &Path) -> io::Result<File> {
    open_with(path, true, libc::O_DSYNC)
}

/// `pwritev2` with `RWF_DSYNC`, once, for the same reason.
pub(super) fn write_dsync(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
    write_with(file, buf, offset, libc::RWF_DSYNC)
}

/// `pwritev2` with `RWF_ATOMIC`, once.
pub(super) fn write_atomic(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
    write_with(file, buf, offset, libc::RWF_ATOMIC)
}

/// Lengths that [`write_atomic`] takes: the least and the greatest, both powers of two. `None` where the system says that there are none, or
/// does not know (before Linux 6.11).
pub(super) fn atomic_units(file: &File) -> Option<(u32, u32)> {
    let found = ask(file, libc::STATX_WRITE_ATOMIC)?;
    let (least, most) = (found.stx_atomic_write_unit_min, found.stx_atomic_write_unit_max);
    (least > 0 && least <= most).then_some((least, most))
}

fn write_with(file: &File, buf: &[u8], offset: u64, flags: libc::c_int) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: the borrowed file keeps the descriptor open; the call reads one `iovec`, which is a local, and the bytes that it
    // names, which are borrowed until the call returns, and writes to neither.
    let took = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, offset, flags) };
    usize::try_from(took).map_err(|_| match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => {
            ErrorKind::Unsupported.into()
        }
        error => error,
    })
}

/// `fallocate`: blocks for the range, the file extended to its end. `Unsupported` where the file system cannot.
pub(super) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, 0, offset, len)
}

/// `fallocate`: the range without blocks, the length as it was. `Unsupported` where the file system cannot.
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

fn fallocate(file: &File, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from(ErrorKind::FileTooLarge);
    let offset = libc::off_t::try_from(offset).map_err(too_large)?;
    let len = libc::off_t::try_from(len).map_err(too_large)?;
    let mut interrupted = 0;
    loop {
        // SAFETY: the borrowed file keeps the descriptor open; the call touches no memory of ours.
        match check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) }) {
            Ok(_) => return Ok(()),
            // Both modes do the same done twice, so they may be tried again, unlike a sync.
            Err(error) if error.kind() == ErrorKind::Interrupted && interrupted < INTERRUPTED_LIMIT => {
                interrupted += 1;
            }
            Err(error) => {
                return Err(match error.raw_os_error() {
                    Some(libc::EOPNOTSUPP | libc::ENOSYS) => ErrorKind::Unsupported.into(),
                    _ => error,
                });
            }
        }
    }
}

/// `preadv`, once, of as many buffers as it takes.
pub(super) fn read_vectored_at(file: &File, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
    let count = bufs.len().min(VECTORS_MAX) as libc::c_int;
    let vectors = bufs.as_mut_ptr().cast::<libc::iovec>();
    // SAFETY: the borrowed file keeps the descriptor open. `IoSliceMut` is documented to be an `iovec` on Unix; the first `count`
    // are borrowed for the call, and each borrows alone the bytes that the call writes.
    check_len(unsafe { libc::preadv(file.as_raw_fd(), vectors, count, offset as libc::off_t) })
}

/// `pwritev`, once, of as many buffers as it takes.
pub(super) fn write_vectored_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let count = bufs.len().min(VECTORS_MAX) as libc::c_int;
    let vectors = bufs.as_ptr().cast::<libc::iovec>();
    // SAFETY: the borrowed file keeps the descriptor open. `IoSlice` is documented to be an `iovec` on Unix; the first `count` are
    // borrowed for the call, and each borrows the bytes that the call reads.
    check_len(unsafe { libc::pwritev(file.as_raw_fd(), vectors, count, offset as libc::off_t) })
}

/// `posix_fadvise` of the whole file: clean pages leave the cache, others stay.
pub(super) fn drop_cache(file: &File) -> io::Result<()> {
    // SAFETY: the borrowed file keeps the descriptor open; the call touches no memory of ours.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)), // it gives the number, and sets none
    }
}

/// Switches direct I/O on, or says why not: the file system has none, or wants more alignment than buffers have.
pub(super) fn enable_direct(file: &File) -> io::Result<()> {
    match direct_alignment(file) {
        Some(0) => return Err(io::Error::new(ErrorKind::Unsupported, "the file system has no direct I/O")),
        Some(alignment) if alignment > IO_ALIGNMENT as u32 => {
            let reason = format!("the file system wants an alignment of {alignment} bytes");
            return Err(io::Error::new(ErrorKind::Unsupported, reason));
        }
        _ => {}
    }
    set_flags(file, |flags| flags | libc::O_DIRECT)
}

/// Switches direct I/O off.
pub(super) fn disable_direct(file: &File) -> io::Result<()> {
    set_flags(file, |flags| flags & !libc::O_DIRECT)
}

/// Takes back the flag with which the file was opened: some interfaces refuse to wait for a regular file that has it.
pub(super) fn clear_nonblocking(file: &File) -> io::Result<()> {
    set_flags(file, |flags| flags & !libc::O_NONBLOCK)
}

/// What the system says of direct I/O on this file: the larger of its two alignments, zero for none at all, `None` where
/// it does not say (before Linux 6.1).
fn direct_alignment(file: &File) -> Option<u32> {
    let found = ask(file, libc::STATX_DIOALIGN)?;
    Some(match found.stx_dio_offset_align {
        0 => 0,
        offset => offset.max(found.stx_dio_mem_align),
    })
}

/// What the system tells of a file under this bit of a mask, if it tells it.
fn ask(file: &File, what: libc::c_uint) -> Option<libc::statx> {
    // SAFETY: `statx` is made of integers only, for which all bits zero is a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string literal, the descriptor is kept open by the borrowed file, and `found` is a whole
    // `statx` that lives through the call, which writes at most that.
    let result =
        unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, what, &mut found) };
    (check(result).is_ok() && found.stx_mask & what != 0).then_some(found)
}

fn set_flags(file: &File, change: impl FnOnce(libc::c_int) -> libc::c_int) -> io::Result<()> {
    // SAFETY: the borrowed file keeps the descriptor open; `F_GETFL` takes no argument.
    let old = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    let new = change(old);
    if new != old {
        // SAFETY: as above; `F_SETFL` takes an integer, which `new` is.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, new) })?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
