//! A [`PageStore`] without a file, for tests, examples and caches.

use std::collections::BTreeMap;

use pagestone_sync::Mutex;

use crate::{
    ChecksumKind, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore, StoreUuid,
};

/// Pages in memory, stamped and verified as a file's are.
#[derive(Debug)]
pub struct MemoryStore {
    size: PageSize,
    checksum: PageChecksum,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    len: u64,
    written: BTreeMap<PageId, Box<[u8]>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(size: PageSize) -> Self {
        Self {
            size,
            checksum: PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::default()),
            pages: Mutex::new(Pages::default()),
        }
    }
}

impl PageStore for MemoryStore {
    fn page_size(&self) -> PageSize {
        self.size
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        let pages = self.pages.lock();
        if id.get() >= pages.len {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        let Some(bytes) = pages.written.get(&id) else {
            // As in a file that has grown: zeros, which are no page.
            return Err(PageError::BadMagic { page_id: id, found: 0, expected: crate::PAGE_MAGIC });
        };
        page.bytes_mut().copy_from_slice(bytes);
        self.checksum.verify(id, page.bytes()).map(|_| ())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        let id = page.id();
        let bytes = Box::from(page.to_checksummed_bytes(&self.checksum));
        let mut pages = self.pages.lock();
        if id.get() >= pages.len {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        pages.written.insert(id, bytes);
        Ok(())
    }

    fn sync(&self) -> PageResult<()> {
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.pages.lock().len)
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        if pages > PageId::MAX.get() {
            return Err(PageError::NoSpace { needed: pages.saturating_mul(self.size.get() as u64) });
        }
        let mut state = self.pages.lock();
        state.len = state.len.max(pages);
        Ok(())
    }

    fn cut(&self, pages: u64) -> PageResult<()> {
        let mut state = self.pages.lock();
        state.len = state.len.min(pages);
        state.written.split_off(&PageId::new(pages));
        Ok(())
    }
}
