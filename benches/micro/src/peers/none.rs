//! No peers.

use std::convert::Infallible;
use std::path::Path;

use crate::BenchResult;

pub(crate) fn crc32c() -> Option<fn(&[u8]) -> u32> {
    None
}

/// A file of pages that there is not.
pub(crate) struct Pages(Infallible);

impl Pages {
    pub(crate) fn create(_: &Path, _: u64) -> BenchResult<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn read(&mut self, _: u64) -> BenchResult<()> {
        match self.0 {}
    }

    pub(crate) fn write(&mut self, _: u64) -> BenchResult<()> {
        match self.0 {}
    }
}

/// A pool that there is not.
pub(crate) struct Pool(Infallible);

impl Pool {
    pub(crate) fn create(_: &Path, _: u64) -> BenchResult<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn fetch(&self, _: u64) -> BenchResult<u64> {
        match self.0 {}
    }

    pub(crate) fn read(&self, _: u64) -> BenchResult<u64> {
        match self.0 {}
    }
}

/// Page ids that there are not.
pub(crate) struct Ids(Infallible);

impl Ids {
    pub(crate) fn create(_: &Path) -> BenchResult<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn allocate(&self) -> BenchResult<u64> {
        match self.0 {}
    }

    pub(crate) fn free(&self, _: u64) -> BenchResult<()> {
        match self.0 {}
    }
}

/// A pager of mapped pages that there is not.
pub(crate) struct Mapped(Infallible);

impl Mapped {
    pub(crate) fn create(_: &Path, _: u64) -> BenchResult<Option<Self>> {
        Ok(None)
    }
}

impl crate::mapped::Mapped for Mapped {
    fn alloc(&mut self, _: usize) -> BenchResult<()> {
        match self.0 {}
    }

    fn free_all(&mut self) -> BenchResult<()> {
        match self.0 {}
    }

    fn commit_protected(&mut self, _: u64) -> BenchResult<()> {
        match self.0 {}
    }

    fn read(&self, _: u64) -> BenchResult<u64> {
        match self.0 {}
    }

    fn write(&mut self, _: u64) -> BenchResult<()> {
        match self.0 {}
    }
}

pub(crate) fn create_large(_: &Path, _: usize) -> BenchResult<bool> {
    Ok(false)
}

pub(crate) fn open_large(_: &Path, _: usize) -> BenchResult<()> {
    Err("there is no peer".into())
}
