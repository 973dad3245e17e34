//! The I/O that the caller does for the allocator: it has the pool and the log, the allocator has neither.

use pagestone_page_format::PageResult;

use crate::RegionBits;

/// Map pages and file length, as [`crate::LoggedAllocator::reserve`] needs them.
///
/// The allocator calls these methods with no lock held, from the thread that called `reserve`, and at most one of
/// `load_region` and `format_region` at a time; other threads that cannot go on without it wait for it.
pub trait MapSource {
    /// Reads the map page of a region.
    ///
    /// `None` says that it was never formatted, which only region 0 of a new file may be.
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>>;

    /// Formats the map page of the region behind the last one, in a mini-transaction of its own that is committed when
    /// this returns. The file has room for the page by then. An error means that nothing was changed.
    ///
    /// The changes, in the order of their pages: for region 0 [`crate::FormatMap`] to page 0; for any other
    /// [`crate::SetRegions`] to page 0 and [`crate::FormatMap`] to the region's first page.
    fn format_region(&self, region: u64) -> PageResult<()>;

    /// Makes room for at least `pages` pages: `PageStore::grow`.
    fn grow(&self, pages: u64) -> PageResult<()>;

    /// Pages that the file has room for now: `PageStore::len`.
    fn file_pages(&self) -> PageResult<u64>;
}
