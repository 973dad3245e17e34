//! Where there is no io_uring: batches go one by one.

use super::platform::Descriptor;
use crate::{ReadAt, WriteAt};

/// No rings.
#[derive(Debug)]
pub(super) struct Rings;

impl Rings {
    pub(super) fn new() -> Self {
        Self
    }

    /// Never done here.
    pub(super) fn read(&self, _file: &Descriptor, _batch: &mut [ReadAt<'_>]) -> bool {
        false
    }

    /// Never done here.
    pub(super) fn write(&self, _file: &Descriptor, _batch: &mut [WriteAt<'_>]) -> bool {
        false
    }
}
