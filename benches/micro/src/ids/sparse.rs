//! A file that has as many pages as it is asked for, and blocks for those alone that are written: ten million pages take no room.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore,
    StoreUuid,
};

use crate::BenchResult;

#[derive(Debug)]
pub(crate) struct SparseFile {
    file: File,
    pages: AtomicU64,
    checksum: PageChecksum,
}

impl SparseFile {
    pub(crate) fn create(path: &Path) -> BenchResult<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::default());
        Ok(Self { file, pages: AtomicU64::new(0), checksum })
    }
}

fn offset(id: PageId) -> u64 {
    id.get() * DEFAULT_PAGE_SIZE.get() as u64
}

impl PageStore for SparseFile {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        if id.get() >= self.pages.load(Ordering::Relaxed) {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        self.file
            .read_exact_at(page.bytes_mut(), offset(id))
            .map_err(|error| PageError::io("read a page", error))?;
        self.checksum.verify(id, page.bytes()).map(drop)
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        let at = offset(page.id());
        let bytes = page.to_checksummed_bytes(&self.checksum);
        self.file.write_all_at(bytes, at).map_err(|error| PageError::io("write a page", error))
    }

    fn sync(&self) -> PageResult<()> {
        self.file.sync_data().map_err(|error| PageError::io("sync", error))
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.pages.load(Ordering::Relaxed))
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.file.set_len(offset(PageId::new(pages))).map_err(|error| PageError::io("grow", error))?;
        self.pages.fetch_max(pages, Ordering::Relaxed);
        Ok(())
    }
}
