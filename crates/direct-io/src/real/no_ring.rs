//! Where there is no io_uring: batches go one by one.

use std::fs::File;

use crate::{ReadAt, WriteAt};

/// No rings.
#[derive(Debug)]
pub(super) struct Rings;

impl Rings {
    pub(super) fn new() -> Self {
        Self
    }

    /// Never done here.
    pub(super) fn read(&self, _file: &File, _batch: &mut [ReadAt<'_>]) -> bool {
        false
    }

    /// Never done here.
    pub(super) fn write(&self, _file: &File, _batch: &mut [WriteAt<'_>]) -> bool {
        false
    }
}
