//! page-db 1.0: pages of 4 KiB under CRC32C, direct I/O, a pool behind a mutex.

use std::path::Path;

use page_db::{BufferPool, Page, PageAllocator, PageFile, PageFileOptions, PageId, PageSize};

use crate::BenchResult;

pub(crate) fn crc32c() -> Option<fn(&[u8]) -> u32> {
    Some(page_db::crc32c)
}

/// A file of its pages, each with its number in front of its payload.
pub(crate) struct Pages {
    file: PageFile,
    page: Page,
}

impl Pages {
    pub(crate) fn create(path: &Path, count: u64) -> BenchResult<Option<Self>> {
        let file =
            PageFileOptions::new().page_size(PageSize::new(4096)?).direct_io(true).create(true).open(path)?;
        let mut pages = Self { page: file.allocate_page(), file };
        (0..count).try_for_each(|id| pages.write(id))?;
        Ok(Some(pages))
    }

    pub(crate) fn read(&mut self, id: u64) -> BenchResult<()> {
        self.file.read_into(PageId::new(id), &mut self.page)?;
        check(id, number(&self.page))
    }

    pub(crate) fn write(&mut self, id: u64) -> BenchResult<()> {
        self.page.payload_mut()[..8].copy_from_slice(&id.to_le_bytes());
        Ok(self.file.write_page(PageId::new(id), &mut self.page)?)
    }
}

/// Its pool over such a file, all pages resident.
pub(crate) struct Pool(BufferPool);

impl Pool {
    pub(crate) fn create(path: &Path, count: u64) -> BenchResult<Option<Self>> {
        let Some(pages) = Pages::create(path, count)? else { return Ok(None) };
        let pool = Self(BufferPool::new(pages.file, count as usize));
        (0..count).try_for_each(|id| check(id, pool.read(id)?))?;
        Ok(Some(pool))
    }

    /// Pins the page and lets it go; gives its id.
    pub(crate) fn fetch(&self, id: u64) -> BenchResult<u64> {
        Ok(self.0.fetch(PageId::new(id))?.id().get())
    }

    /// Pins the page and reads the number in it.
    pub(crate) fn read(&self, id: u64) -> BenchResult<u64> {
        let page = self.0.fetch(PageId::new(id))?;
        Ok(number(&page.read()))
    }
}

/// Its page ids.
pub(crate) struct Ids(PageAllocator);

impl Ids {
    pub(crate) fn create(path: &Path) -> BenchResult<Option<Self>> {
        Ok(Some(Self(PageAllocator::open(path, PageSize::new(4096)?)?)))
    }

    pub(crate) fn allocate(&self) -> BenchResult<u64> {
        Ok(self.0.allocate()?.get())
    }

    pub(crate) fn free(&self, id: u64) -> BenchResult<()> {
        Ok(self.0.free(PageId::new(id))?)
    }
}

fn number(page: &Page) -> u64 {
    u64::from_le_bytes(*page.payload().first_chunk().expect("a payload is longer than a number"))
}

fn check(id: u64, found: u64) -> BenchResult<()> {
    if found == id { Ok(()) } else { Err(format!("page-db: page {id} holds the number {found}").into()) }
}
