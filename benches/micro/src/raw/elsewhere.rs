//! No raw loops here.

use std::convert::Infallible;
use std::path::Path;

use pagestone_page_format::AlignedBuf;

use crate::BenchResult;

/// A file that there is not.
pub(crate) struct RawFile(Infallible);

impl RawFile {
    pub(crate) fn open(_: &Path) -> BenchResult<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn read(&self, _: &mut AlignedBuf, _: u64) -> BenchResult<()> {
        match self.0 {}
    }

    pub(crate) fn write(&self, _: &AlignedBuf, _: u64) -> BenchResult<()> {
        match self.0 {}
    }

    pub(crate) fn reader(&self) -> BenchResult<RawReader> {
        match self.0 {}
    }

    pub(crate) fn reads(
        &mut self,
        _: &mut [AlignedBuf],
        _: usize,
        _: usize,
        _: impl FnMut() -> u64,
        _: impl FnMut(u64, &AlignedBuf) -> BenchResult<()>,
    ) -> BenchResult<()> {
        match self.0 {}
    }
}

/// What threads read by, where there is such.
pub(crate) struct RawReader(Infallible);

impl RawReader {
    pub(crate) fn read(&self, _: &mut AlignedBuf, _: u64) -> BenchResult<()> {
        match self.0 {}
    }
}
