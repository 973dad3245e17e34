//! Files and directories that are made for their owner alone.
//!
//! Invariant: there is no moment at which somebody else could open what was made: the access list comes with the creation
//! and not after it.
//!
//! What Unix says by mode 0600, Windows says by a list that is protected from what the directory would hand down: all rights
//! for the owner, for the system itself and for administrators, who have them on Unix too.
//!
//! # Safety
//!
//! Pointers that are passed lead to locals and borrowed buffers that outlive the call; text ends with a zero. Handles and
//! memory that a call gives have one owner from then on.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::path::{Component, Path, Prefix};
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_FLAG_OPEN_REPARSE_POINT, FILE_FLAG_OVERLAPPED,
};
use windows_sys::core::{PCWSTR, w};

use super::calls::SHARE_ALL;

/// Makes a file, or finds that the name is taken, by a link too.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let name = wide(path)?;
    let owner = OwnerAlone::new(FILE_LIST)?;
    // SAFETY: the name ends with a zero, and it and the attributes live through the call.
    let made = unsafe {
        CreateFileW(
            name.as_ptr(),
            GENERIC_READ | GENERIC_WRITE,
            SHARE_ALL,
            &owner.attributes(),
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

/// Makes a directory.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    let name = wide(path)?;
    let owner = OwnerAlone::new(DIRECTORY_LIST)?;
    // SAFETY: the name ends with a zero, and it and the attributes live through the call.
    if unsafe { CreateDirectoryW(name.as_ptr(), &owner.attributes()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Protected; all rights for owner rights, system, administrators.
const FILE_LIST: PCWSTR = w!("D:P(A;;FA;;;S-1-3-4)(A;;FA;;;SY)(A;;FA;;;BA)");
/// The same, and what is made in the directory gets it too.
const DIRECTORY_LIST: PCWSTR = w!("D:P(A;OICI;FA;;;S-1-3-4)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)");

/// An access list in the system's form.
struct OwnerAlone(PSECURITY_DESCRIPTOR);

impl OwnerAlone {
    /// `list` is one of the two literals above.
    fn new(list: PCWSTR) -> io::Result<Self> {
        let mut descriptor = null_mut();
        // SAFETY: the list is a literal that ends with a zero; `descriptor` is a local; the size is not asked for.
        let converted = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                list,
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

impl Drop for OwnerAlone {
    fn drop(&mut self) {
        // SAFETY: the descriptor was allocated for us by the system, is freed once, and nothing refers to it any more.
        unsafe { LocalFree(self.0) };
    }
}

/// The path as the system takes it: absolute, in the form whose length has no limit, ending with a zero.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    if path.as_os_str().encode_wide().any(|unit| unit == 0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a zero stands inside the path"));
    }
    let absolute = std::path::absolute(path)?;
    let mut name: Vec<u16> = absolute.as_os_str().encode_wide().collect();
    if let Some(Component::Prefix(prefix)) = absolute.components().next() {
        match prefix.kind() {
            Prefix::Disk(_) => drop(name.splice(..0, r"\\?\".encode_utf16())),
            Prefix::UNC(..) => drop(name.splice(..2, r"\\?\UNC\".encode_utf16())),
            _ => {} // in that form already, or a device
        }
    }
    name.push(0);
    Ok(name)
}
