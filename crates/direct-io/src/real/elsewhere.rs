//! What only Linux has here, elsewhere: done otherwise, or refused.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};

use super::platform::{Descriptor, read_at, write_at};

/// The first buffer that holds anything, alone: a short transfer, as any may be.
pub(super) fn read_vectored_at(
    file: &Descriptor,
    bufs: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    let first = bufs.iter_mut().find(|buf| !buf.is_empty());
    first.map_or(Ok(0), |buf| read_at(file, buf, offset))
}

/// The first buffer that holds anything, alone: a short transfer, as any may be.
pub(super) fn write_vectored_at(file: &Descriptor, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let first = bufs.iter().find(|buf| !buf.is_empty());
    first.map_or(Ok(0), |buf| write_at(file, buf, offset))
}

/// `Unsupported`.
pub(super) fn punch_hole(_file: &Descriptor, _offset: u64, _len: u64) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "this platform punches no holes yet"))
}

/// `Unsupported`: the systems drop pages of a map, not of a descriptor. A descriptor without a cache leaves none behind.
pub(super) fn drop_cache(_file: &Descriptor) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "this platform drops no cache of one file"))
}
