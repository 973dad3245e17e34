//! The system calls that `std` lacks, on Windows.
//!
//! # Safety
//!
//! Every call here takes a `&File`: the handle is open for as long as the call lasts and belongs to the caller. Pointers lead
//! to buffers and structures that the caller has lent or that live in the function that passes them. The system keeps such a
//! pointer only while a transfer is under way, and no function returns before its transfer is over ([`finish`]).
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{
    ERROR_HANDLE_EOF, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, GENERIC_READ, GENERIC_WRITE, HANDLE,
    INVALID_HANDLE_VALUE, LocalFree, STATUS_PENDING,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ALIGNMENT_INFO, FILE_ALLOCATION_INFO,
    FILE_FLAG_NO_BUFFERING, FILE_FLAG_OPEN_REPARSE_POINT, FILE_FLAG_OVERLAPPED, FILE_INFO_BY_HANDLE_CLASS,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_STORAGE_INFO, FILE_TYPE_DISK,
    FileAlignmentInfo, FileAllocationInfo, FileStorageInfo, GetFileInformationByHandleEx, GetFileType,
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, ReOpenFile, ReadFile,
    SetFileInformationByHandle, UnlockFileEx, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::CreateEventW;
use windows_sys::core::BOOL;

use super::Lock;

/// The most bytes of one transfer: the system counts them in 32 bits. A whole number of blocks, so that a direct transfer
/// that is cut here stays aligned.
const TRANSFER_MAX: usize = 1 << 30;

/// Others may read, write, rename and remove the file while it is open, as on other systems; who may not is told by the lock.
const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// `ReadFile` at a position, once. The end of the file is 0.
pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let len = buf.len().min(TRANSFER_MAX) as u32;
    let mut transfer = Transfer::at(offset)?;
    // SAFETY: `buf` has room for `len` bytes and is borrowed until `finish` has seen the end of the transfer, as is `transfer`.
    let begun =
        unsafe { ReadFile(handle(file), buf.as_mut_ptr(), len, null_mut(), &mut transfer.overlapped) };
    match finish(file, begun, &mut transfer) {
        Err(error) if error.raw_os_error() == Some(ERROR_HANDLE_EOF as i32) => Ok(0),
        other => other,
    }
}

/// `WriteFile` at a position, once.
pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
    let len = buf.len().min(TRANSFER_MAX) as u32;
    let mut transfer = Transfer::at(offset)?;
    // SAFETY: `buf` holds `len` bytes and is borrowed until `finish` has seen the end of the transfer, as is `transfer`.
    let begun = unsafe { WriteFile(handle(file), buf.as_ptr(), len, null_mut(), &mut transfer.overlapped) };
    finish(file, begun, &mut transfer)
}

/// `LockFileEx` of the one byte at `offset`, without waiting: whether this handle has it now.
pub(super) fn lock_byte(file: &File, offset: u64, lock: Lock) -> io::Result<bool> {
    let how = match lock {
        Lock::Shared => LOCKFILE_FAIL_IMMEDIATELY,
        Lock::Exclusive => LOCKFILE_FAIL_IMMEDIATELY | LOCKFILE_EXCLUSIVE_LOCK,
    };
    let mut transfer = Transfer::at(offset)?;
    // SAFETY: the borrowed file keeps the handle open; `transfer` lives until `finish` has seen the end of the call.
    let begun = unsafe { LockFileEx(handle(file), how, 0, 1, 0, &mut transfer.overlapped) };
    match finish(file, begun, &mut transfer) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `UnlockFileEx` of that byte, which this handle has locked once.
pub(super) fn unlock_byte(file: &File, offset: u64) -> io::Result<()> {
    let mut transfer = Transfer::at(offset)?;
    // SAFETY: the borrowed file keeps the handle open; `transfer` lives until `finish` has seen the end of the call.
    let begun = unsafe { UnlockFileEx(handle(file), 0, 1, 0, &mut transfer.overlapped) };
    finish(file, begun, &mut transfer).map(drop)
}

/// The same file once more, past the system's cache. Not by its name: that may lead elsewhere meanwhile.
pub(super) fn reopen_unbuffered(file: &File, access: u32) -> io::Result<File> {
    const FLAGS: u32 = FILE_FLAG_NO_BUFFERING | FILE_FLAG_OVERLAPPED;
    // SAFETY: the borrowed file keeps the handle open; the call touches no memory of ours.
    let opened = unsafe { ReOpenFile(handle(file), access, SHARE_ALL, FLAGS) };
    if opened == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was made a moment ago and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(opened) }.into())
}

/// Whether it is a file of a volume, and no console, pipe or other device.
pub(super) fn is_on_disk(file: &File) -> bool {
    // SAFETY: the borrowed file keeps the handle open; the call touches no memory of ours.
    unsafe { GetFileType(handle(file)) == FILE_TYPE_DISK }
}

/// What the system says of direct I/O on this file: the larger of the alignments of offset and memory. `None` where it does
/// not say.
pub(super) fn direct_alignment(file: &File) -> Option<u32> {
    let storage = information::<FILE_STORAGE_INFO>(file, FileStorageInfo)?;
    let memory = information::<FILE_ALIGNMENT_INFO>(file, FileAlignmentInfo)?;
    Some(storage.LogicalBytesPerSector.max(memory.AlignmentRequirement.saturating_add(1))) // a mask
}

/// Clusters for the first `size` bytes of the file, whose length stays. One smaller than the length would cut the file.
pub(super) fn allocate(file: &File, size: i64) -> io::Result<()> {
    let info = FILE_ALLOCATION_INFO { AllocationSize: size };
    let len = size_of::<FILE_ALLOCATION_INFO>() as u32;
    // SAFETY: `info` is a whole structure of the kind that the class names, of `len` bytes, and lives through the call.
    check(unsafe {
        SetFileInformationByHandle(handle(file), FileAllocationInfo, (&raw const info).cast(), len)
    })
}

/// One structure of facts about a file; `None` where the system does not know them. `Info` must be the structure of `class`,
/// made of integers.
fn information<Info: Default>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> Option<Info> {
    let mut info = Info::default();
    let into: *mut c_void = (&raw mut info).cast();
    // SAFETY: `info` lives through the call, which writes at most its size; both callers name the class of their structure.
    check(unsafe { GetFileInformationByHandleEx(handle(file), class, into, size_of::<Info>() as u32) })
        .ok()?;
    Some(info)
}

/// What the system writes to while a transfer is under way, and the event that tells its end. Waiting for the file's own
/// handle would tell the end of any transfer, also of another thread's.
struct Transfer {
    overlapped: OVERLAPPED,
    _event: OwnedHandle,
}

impl Transfer {
    fn at(offset: u64) -> io::Result<Self> {
        // SAFETY: null pointers stand for no security attributes and no name.
        let event = unsafe { CreateEventW(null(), 1, 0, null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made a moment ago and nobody else has it.
        let owned = unsafe { OwnedHandle::from_raw_handle(event) };
        let mut overlapped = OVERLAPPED { hEvent: event, ..OVERLAPPED::default() };
        overlapped.Anonymous.Anonymous.Offset = offset as u32;
        overlapped.Anonymous.Anonymous.OffsetHigh = (offset >> 32) as u32;
        Ok(Self { overlapped, _event: owned })
    }
}

/// Waits until what was begun is over, however it ends: until then the system may touch the buffer.
fn finish(file: &File, begun: BOOL, transfer: &mut Transfer) -> io::Result<usize> {
    if begun == 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
            return Err(error);
        }
    }
    let overlapped = &raw mut transfer.overlapped;
    loop {
        let mut count = 0;
        // SAFETY: the transfer was begun on this handle with this structure, and both are borrowed; `count` is a local.
        let result = check(unsafe { GetOverlappedResult(handle(file), overlapped, &mut count, 1) });
        // SAFETY: `Internal`, a word, is the structure's first field; the system may be writing it, so it is read as such.
        let status = unsafe { overlapped.cast::<usize>().read_volatile() };
        if status != STATUS_PENDING as usize {
            return result.map(|()| count as usize);
        }
        // The wait failed and not the transfer. It must end before the buffer goes back.
        // SAFETY: as above; a transfer that is over already is not found, and nothing comes of it.
        unsafe { CancelIoEx(handle(file), overlapped) };
        std::thread::yield_now();
    }
}

fn handle(file: &File) -> HANDLE {
    file.as_raw_handle()
}

fn check(result: BOOL) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Text that ends with a zero, as calls take it.
pub(super) struct WideText(Vec<u16>);

impl WideText {
    /// `InvalidInput` if a zero stands inside the text.
    pub(super) fn new(units: impl IntoIterator<Item = u16>) -> io::Result<Self> {
        let mut text: Vec<u16> = units.into_iter().collect();
        if text.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a zero stands inside the text"));
        }
        text.push(0);
        Ok(Self(text))
    }
}

/// An access list in the system's form.
pub(super) struct AccessList(PSECURITY_DESCRIPTOR);

impl AccessList {
    /// From its textual form.
    pub(super) fn new(list: &WideText) -> io::Result<Self> {
        let mut descriptor = null_mut();
        // SAFETY: the list ends with a zero and lives through the call; `descriptor` is a local; the size is not asked for.
        let converted = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                list.0.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                null_mut(),
            )
        };
        if converted == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }

    /// Valid for as long as `self` is.
    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for AccessList {
    fn drop(&mut self) {
        // SAFETY: the descriptor was allocated for us by the system, is freed once, and nothing refers to it any more.
        unsafe { LocalFree(self.0) };
    }
}

/// Makes a file with this list, or finds that the name is taken, by a link too.
pub(super) fn create_file(name: &WideText, list: &AccessList) -> io::Result<File> {
    // SAFETY: the name ends with a zero, and it and the attributes live through the call.
    let made = unsafe {
        CreateFileW(
            name.0.as_ptr(),
            GENERIC_READ | GENERIC_WRITE,
            SHARE_ALL,
            &list.attributes(),
            CREATE_NEW,
            FILE_FLAG_OVERLAPPED | FILE_FLAG_OPEN_REPARSE_POINT,
            null_mut(),
        )
    };
    if made == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was made a moment ago and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(made) }.into())
}

/// Makes a directory with this list.
pub(super) fn create_dir(name: &WideText, list: &AccessList) -> io::Result<()> {
    // SAFETY: the name ends with a zero, and it and the attributes live through the call.
    if unsafe { CreateDirectoryW(name.0.as_ptr(), &list.attributes()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
