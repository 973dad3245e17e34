//! Where there is no io_uring.

use std::io::{self, ErrorKind};
use std::marker::PhantomData;

use super::owned::Owned;
use super::platform::Descriptor;
use crate::{ReadAt, WriteAt};

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

    pub(super) fn owned<'f, O>(&'f self, _file: &'f Descriptor) -> Option<RingOwned<'f, O>> {
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

/// What a ring could take.
pub(super) trait InRing: Owned {}

impl<O: Owned> InRing for O {}

/// Transfers by a ring: there is no value of them either.
pub(super) struct RingOwned<'f, O> {
    never: &'f Rings,
    of: PhantomData<O>,
}

impl<O> RingOwned<'_, O> {
    pub(super) fn begin(&mut self, _owned: O) -> Result<(), O> {
        match *self.never {}
    }

    pub(super) fn submit(&mut self) {
        match *self.never {}
    }

    pub(super) fn wait(&mut self, _least: usize, _ended: &mut Vec<O>) {
        let PhantomData = self.of;
        match *self.never {}
    }
}
