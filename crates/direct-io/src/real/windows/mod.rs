//! Windows: names to handles, transfers at positions, the lock, barriers, room ahead.
//!
//! Invariant: every transfer gives its own position and waits for its own end, so that threads share a handle without a
//! lock (`FILE_FLAG_OVERLAPPED`: on other handles the system lets one transfer at a time through).
//!
//! ```text
//!   mod.rs       Descriptor: one or two handles of one file
//!   calls.rs     the system calls that std lacks                unsafe
//!   private.rs   creation for the owner alone
//! ```
//!
//! Direct I/O is `FILE_FLAG_NO_BUFFERING`, which a handle has from its opening to its end. So the file has a second handle for
//! direct transfers, reopened from the first and not by name; lock, length and syncs stay with the first, and giving direct
//! I/O up is not using the second any more.
//!
//! What differs from Unix:
//!
//! * A lock of Windows keeps others from the bytes that it covers. The lock of the whole file is the one byte that no transfer
//!   can reach, so that it excludes other locks and hinders no reader.
//! * `FlushFileBuffers` needs a handle that may write: a sync of a file that was opened to read is `PermissionDenied`.
//! * A directory is synced by `FlushFileBuffers` too, on a handle that may add entries. NTFS writes its log then; that this
//!   makes names durable is not a promise of the documentation. A file system that cannot says so by an error.
//! * While any part of a file is mapped the file cannot be cut, not even behind the map.
//! * A removed or replaced file keeps its bytes for open handles and frees its name at once on NTFS since Windows 10 (1809);
//!   elsewhere the name is free when the last handle is closed.

mod calls;
mod private;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

use pagestone_page_format::IO_ALIGNMENT;
use pagestone_sync::Mutex;
use pagestone_sync::atomic::{AtomicBool, Ordering};
use windows_sys::Win32::Foundation::{
    ERROR_CALL_NOT_IMPLEMENTED, ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED,
    ERROR_USER_MAPPED_FILE, GENERIC_READ, GENERIC_WRITE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_REPARSE_POINT, FILE_ATTRIBUTE_SPARSE_FILE, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_FLAG_OVERLAPPED, SECURITY_IDENTIFICATION,
};

pub(super) use super::elsewhere::*;
use super::open::not_regular;
use crate::PathKind;

/// How the system refuses a transfer that direct I/O cannot do.
pub(super) const REFUSED: i32 = ERROR_INVALID_PARAMETER as i32;

/// The first byte behind the largest range that a transfer may have. A lock from zero on, as of `std` or of another program
/// that locks whole files, covers it.
const LOCKED_BYTE: u64 = i64::MAX as u64;

/// How a lock is had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lock {
    Shared,
    Exclusive,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// Through the system's cache.
    file: File,
    write: bool,
    /// Past the cache. Made at most once.
    unbuffered: OnceLock<File>,
    /// Whether transfers go past the cache. Relaxed: either handle serves any transfer.
    direct: AtomicBool,
    /// The lock of this handle, which Windows would refuse to whoever has it already.
    held: Mutex<Option<Lock>>,
}

impl Descriptor {
    fn new(file: File, write: bool) -> Self {
        Self {
            file,
            write,
            unbuffered: OnceLock::new(),
            direct: AtomicBool::new(false),
            held: Mutex::new(None),
        }
    }

    /// Cuts or extends the file. The system refuses any cut while a part of the file is mapped.
    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|error| match error.raw_os_error().map(|code| code as u32) {
            Some(ERROR_USER_MAPPED_FILE) => {
                io::Error::new(ErrorKind::InvalidInput, "a file of which a part is mapped cannot be cut here")
            }
            _ => error,
        })
    }

    /// The handle for a transfer now.
    fn current(&self) -> &File {
        match self.unbuffered.get() {
            Some(unbuffered) if self.direct.load(Ordering::Relaxed) => unbuffered,
            _ => &self.file,
        }
    }
}

impl Deref for Descriptor {
    type Target = File;

    /// The length and syncs: of the file, by whatever handle.
    fn deref(&self) -> &File {
        &self.file
    }
}

/// Opens what is there without following a reparse point, and refuses one: what stands there is read by another program's
/// rules. A pipe's server may not act for who opens it by mistake.
pub(super) fn open_existing(path: &Path, write: bool) -> io::Result<Descriptor> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(FILE_FLAG_OVERLAPPED | FILE_FLAG_OPEN_REPARSE_POINT)
        .security_qos_flags(SECURITY_IDENTIFICATION)
        .open(path)?;
    if !calls::is_on_disk(&file) || kind_of(&file.metadata()?) != PathKind::File {
        return Err(not_regular("no regular file"));
    }
    Ok(Descriptor::new(file, write))
}

/// Makes a file for its owner alone. Exclusive creation neither follows a link nor opens what is there.
pub(super) fn create_new(path: &Path) -> io::Result<Descriptor> {
    Ok(Descriptor::new(private::create_file(path)?, true))
}

/// Makes a directory for its owner alone.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    private::create_dir(path)
}

/// What a look that followed no link found.
pub(super) fn kind_of(found: &Metadata) -> PathKind {
    let elsewhere = found.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0;
    match found {
        found if found.is_dir() => PathKind::Directory, // of a cloud drive too; a junction is a link to `std`
        found if found.is_file() && !elsewhere => PathKind::File,
        _ => PathKind::Other,
    }
}

/// A directory, to be synced: a handle to one needs the flag, and a flush the right to write.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

/// A read, once.
pub(super) fn read_at(file: &Descriptor, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    calls::read_at(file.current(), buf, offset)
}

/// A write, once.
pub(super) fn write_at(file: &Descriptor, buf: &[u8], offset: u64) -> io::Result<usize> {
    calls::write_at(file.current(), buf, offset)
}

/// The lock belongs to the handle and ends with it.
pub(super) fn try_lock(file: &Descriptor) -> io::Result<bool> {
    lock_as(file, Lock::Exclusive)
}

/// The same, shared with other readers.
pub(super) fn try_lock_shared(file: &Descriptor) -> io::Result<bool> {
    lock_as(file, Lock::Shared)
}

/// As with `flock`, who has it the other way gives that up first, and is left without any if it cannot have this one.
fn lock_as(file: &Descriptor, wanted: Lock) -> io::Result<bool> {
    let mut held = file.held.lock();
    if *held == Some(wanted) {
        return Ok(true);
    }
    if held.take().is_some() {
        calls::unlock_byte(file, LOCKED_BYTE)?;
    }
    let got = calls::lock_byte(file, LOCKED_BYTE, wanted)?;
    *held = got.then_some(wanted);
    Ok(got)
}

/// `FlushFileBuffers`, once: bytes of both handles, length and other metadata, and the cache of the device.
pub(super) fn sync_data(file: &Descriptor) -> io::Result<()> {
    file.sync_all()
}

/// `FlushFileBuffers`, once.
pub(super) fn sync_directory(directory: &File) -> io::Result<()> {
    directory.sync_all()
}

/// Clusters for the range, then the length. `Unsupported` where the file system cannot, and for a sparse file, whose holes
/// stay holes.
pub(super) fn allocate(file: &Descriptor, offset: u64, len: u64) -> io::Result<()> {
    let found = file.metadata()?;
    if found.file_attributes() & FILE_ATTRIBUTE_SPARSE_FILE != 0 {
        return Err(ErrorKind::Unsupported.into());
    }
    let end = offset.saturating_add(len);
    if end <= found.len() {
        return Ok(()); // a file that is not sparse has clusters for all its bytes
    }
    let size = i64::try_from(end).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    calls::allocate(file, size).map_err(|error| match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED | ERROR_CALL_NOT_IMPLEMENTED) => {
            ErrorKind::Unsupported.into()
        }
        _ => error,
    })?;
    file.set_len(end)
}

/// Switches direct I/O on, or says why not: the system does not reopen the file so, or wants more alignment than buffers
/// have.
pub(super) fn enable_direct(file: &Descriptor) -> io::Result<()> {
    if let Some(alignment) = calls::direct_alignment(file).filter(|wanted| *wanted > IO_ALIGNMENT as u32) {
        let reason = format!("the volume wants an alignment of {alignment} bytes");
        return Err(io::Error::new(ErrorKind::Unsupported, reason));
    }
    let access = if file.write { GENERIC_READ | GENERIC_WRITE } else { GENERIC_READ };
    let unbuffered = calls::reopen_unbuffered(file, access)?;
    file.unbuffered.get_or_init(|| unbuffered);
    file.direct.store(true, Ordering::Relaxed);
    Ok(())
}

/// Switches direct I/O off.
pub(super) fn disable_direct(file: &Descriptor) -> io::Result<()> {
    file.direct.store(false, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::{DirectIo, Disk, OpenHow, RealDisk};

    #[test]
    fn a_lock_hinders_no_reader_and_is_had_twice_by_its_handle() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let one = create_new(&path).expect("create");
        write_at(&one, b"bytes", 0).expect("write");
        assert!(try_lock(&one).expect("free"));
        assert!(try_lock(&one).expect("ours"));
        let other = open_existing(&path, true).expect("open");
        assert!(!try_lock(&other).expect("taken"));
        let mut back = [0; 5];
        assert_eq!(read_at(&other, &mut back, 0).expect("read"), 5);
        assert_eq!(&back, b"bytes");
        // Who locks whole files by `std` is excluded too.
        assert!(other.file.try_lock().is_err());
    }

    #[test]
    fn readers_share_the_lock_and_a_handle_exchanges_one_kind_for_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let one = create_new(&path).expect("create");
        let other = open_existing(&path, false).expect("open");
        assert!(try_lock_shared(&one).expect("free"));
        assert!(try_lock_shared(&other).expect("shared"));
        assert!(!try_lock(&one).expect("shared by two"));
        assert!(try_lock(&other).expect("the first has given its own up"));
        assert!(!try_lock_shared(&one).expect("taken"));
        assert!(try_lock_shared(&other).expect("exchanged"));
        assert!(try_lock_shared(&one).expect("shared"));
    }

    #[test]
    fn devices_are_refused() {
        for name in [r"NUL", r"\\.\NUL"] {
            let error = RealDisk.open(Path::new(name), &OpenHow::write(DirectIo::Off)).expect_err("a device");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
        }
    }

    #[test]
    fn a_path_longer_than_the_old_limit_is_made_opened_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut path = dir.path().to_owned();
        for _ in 0..4 {
            path.push("d".repeat(100));
            create_dir(&path).expect("a directory");
        }
        path.push("file");
        drop(create_new(&path).expect("create"));
        drop(open_existing(&path, true).expect("open"));
        std::fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn the_end_of_the_file_is_no_error_and_the_system_says_what_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = create_new(&dir.path().join("file")).expect("create");
        let mut back = [0; 8];
        assert_eq!(read_at(&file, &mut back, 0).expect("empty"), 0);
        assert_eq!(write_at(&file, b"12345", 3).expect("write"), 5);
        assert_eq!(read_at(&file, &mut back, 4).expect("short"), 4);
        assert_eq!(read_at(&file, &mut back, 1 << 40).expect("past the end"), 0);
        let reader = open_existing(&dir.path().join("file"), false).expect("open");
        assert_eq!(write_at(&reader, b"1", 0).expect_err("to read").kind(), ErrorKind::PermissionDenied);
        assert_eq!(sync_data(&reader).expect_err("to read").kind(), ErrorKind::PermissionDenied);
    }
}
