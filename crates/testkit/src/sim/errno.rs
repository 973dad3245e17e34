//! The error numbers of Unix on whatever system the tests run.
//!
//! Invariant: code that looks at an error's kind meets the same kind everywhere, and the number is one that this system has.

use std::io;

/// The error that this number of `libc` names; on Windows the system's own of the same kind.
///
/// ```
/// let full = pagestone_testkit::errno(28);
/// assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
/// ```
pub fn errno(number: i32) -> io::Error {
    match number {
        _ if !cfg!(windows) => io::Error::from_raw_os_error(number),
        // No file of Windows is interrupted or asked to wait: the kind has no number there.
        libc::EINTR => io::ErrorKind::Interrupted.into(),
        libc::EAGAIN => io::ErrorKind::WouldBlock.into(),
        _ => io::Error::from_raw_os_error(of_windows(number)),
    }
}

fn of_windows(number: i32) -> i32 {
    match number {
        libc::EBUSY => 170,              // ERROR_BUSY
        libc::EIO => 1117,               // ERROR_IO_DEVICE
        libc::ENOSPC => 112,             // ERROR_DISK_FULL
        libc::EROFS => 19,               // ERROR_WRITE_PROTECT
        libc::EACCES | libc::EBADF => 5, // ERROR_ACCESS_DENIED
        libc::EMFILE => 4,               // ERROR_TOO_MANY_OPEN_FILES
        libc::ENOMEM => 8,               // ERROR_NOT_ENOUGH_MEMORY
        libc::EINVAL => 87,              // ERROR_INVALID_PARAMETER
        libc::EFBIG => 223,              // ERROR_FILE_TOO_LARGE
        other => panic!("no number of Windows is known for {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind::*;

    #[test]
    fn the_kind_is_the_same_on_every_system() {
        for (number, kind) in [
            (libc::EINTR, Interrupted),
            (libc::EAGAIN, WouldBlock),
            (libc::EBUSY, ResourceBusy),
            (libc::ENOSPC, StorageFull),
            (libc::EROFS, ReadOnlyFilesystem),
            (libc::EACCES, PermissionDenied),
            (libc::ENOMEM, OutOfMemory),
            (libc::EINVAL, InvalidInput),
            (libc::EFBIG, FileTooLarge),
        ] {
            assert_eq!(errno(number).kind(), kind, "{number}");
        }
        assert_ne!(errno(libc::EIO).raw_os_error(), errno(libc::EMFILE).raw_os_error());
    }
}
