//! The verbs of one page, for users who name no trait.
//!
//! Invariant: each is the verb of [`PageStore`] of the same name, and nothing else.

use pagestone_page_format::{Page, PageId, PageResult, PageSize, PageStore};

use super::PageFile;

impl PageFile {
    /// Size of its pages: [`PageStore::page_size`].
    pub fn page_size(&self) -> PageSize {
        PageStore::page_size(self)
    }

    /// A buffer for page `id`, zeroed: [`PageStore::allocate_page`].
    pub fn allocate_page(&self, id: PageId) -> Page {
        PageStore::allocate_page(self, id)
    }

    /// Reads and verifies a page: [`PageStore::read_into`].
    pub fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        PageStore::read_into(self, id, page)
    }

    /// Stamps and writes a page at the place of its id: [`PageStore::write_page`], as this store does it.
    pub fn write_page(&self, page: &mut Page) -> PageResult<()> {
        PageStore::write_page(self, page)
    }

    /// Makes what was written durable: [`PageStore::sync`].
    pub fn sync(&self) -> PageResult<()> {
        PageStore::sync(self)
    }
}
