//! Where no write is durable by itself: a sync has to follow. Nor whole by itself.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::platform::Descriptor;

/// Not here.
pub(super) fn write_dsync(_file: &Descriptor, _buf: &[u8], _offset: u64) -> io::Result<usize> {
    Err(ErrorKind::Unsupported.into())
}

/// Not here.
pub(super) fn open_dsync(_path: &Path) -> io::Result<Descriptor> {
    Err(ErrorKind::Unsupported.into())
}

/// Not here.
pub(super) fn write_atomic(_file: &Descriptor, _buf: &[u8], _offset: u64) -> io::Result<usize> {
    Err(ErrorKind::Unsupported.into())
}

/// None.
pub(super) fn atomic_units(_file: &Descriptor) -> Option<(u32, u32)> {
    None
}
