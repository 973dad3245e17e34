//! Files and directories that are made for their owner alone.
//!
//! Invariant: there is no moment at which somebody else could open what was made: the access list comes with the creation
//! and not after it.
//!
//! What Unix says by mode 0600, Windows says by a list that is protected from what the directory would hand down: all rights
//! for the owner, for the system itself and for administrators, who have them on Unix too.

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::{Component, Path, Prefix};

use super::calls::{self, AccessList, WideText};

/// Protected; all rights for owner rights, system, administrators.
const FILE_LIST: &str = "D:P(A;;FA;;;S-1-3-4)(A;;FA;;;SY)(A;;FA;;;BA)";
/// The same, and what is made in the directory gets it too.
const DIRECTORY_LIST: &str = "D:P(A;OICI;FA;;;S-1-3-4)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

/// Makes a file, or finds that the name is taken, by a link too.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    calls::create_file(&wide(path)?, &list(FILE_LIST)?)
}

/// Makes a directory.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    calls::create_dir(&wide(path)?, &list(DIRECTORY_LIST)?)
}

fn list(text: &str) -> io::Result<AccessList> {
    AccessList::new(&WideText::new(text.encode_utf16())?)
}

/// The path as the system takes it: absolute, in the form whose length has no limit.
fn wide(path: &Path) -> io::Result<WideText> {
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
    WideText::new(name)
}
