//! Where there is no io_uring.

use std::io::{self, ErrorKind};

use super::platform::Descriptor;
use crate::{OwnedRead, ReadAt, WriteAt};

/// No rings: there is no value of it.
#[derive(Debug)]
pub(super) enum Rings {}

impl Rings {
    /// `Unsupported`.
    pub(super) fn new() -> io::Result<Self> {
        Err(io::Error::new(ErrorKind::Unsupported, "this platform has no io_uring"))
    }

    pub(super) fn read(&self, _file: &Descriptor, _batch: &mut [ReadAt<'_>]) -> bool {
        match *self {}
    }

    pub(super) fn reads<'f>(&'f self, _file: &'f Descriptor) -> Option<RingReads<'f>> {
        match *self {}
    }

    pub(super) fn write_and_sync(
        &self,
        _file: &Descriptor,
        _batch: &mut [WriteAt<'_>],
    ) -> Option<io::Result<bool>> {
        match *self {}
    }

    pub(super) fn write_stream<'b>(
        &self,
        _file: &Descriptor,
        _writes: &mut dyn Iterator<Item = WriteAt<'b>>,
        _may_begin: &dyn Fn(&WriteAt<'_>) -> bool,
    ) -> Option<Vec<WriteAt<'b>>> {
        match *self {}
    }

    pub(super) fn write_atomic(&self, _file: &Descriptor, _batch: &mut [WriteAt<'_>]) -> bool {
        match *self {}
    }

    pub(super) fn write(&self, _file: &Descriptor, _batch: &mut [WriteAt<'_>]) -> bool {
        match *self {}
    }
}

/// Reads by a ring: there is no value of them either.
pub(super) type RingReads<'f> = &'f Rings;

impl Rings {
    pub(super) fn begin(&self, _read: OwnedRead) -> Result<(), OwnedRead> {
        match *self {}
    }

    pub(super) fn wait(&self, _least: usize, _ended: &mut Vec<OwnedRead>) {
        match *self {}
    }
}
