//! A file of one region, for models: its map page, and how long it is.

use pagestone_allocator::{FormatMap, MapSource, RegionBits};
use pagestone_page_format::{PageOp, PageResult, PageWriter, SpeculativePage};
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of a page: 128 ids a region.
pub(crate) const PAGE: usize = 64;

/// The one map page, formatted when it is asked for.
pub(crate) struct Map {
    pub(crate) words: Vec<AtomicU64>,
    formatted: AtomicBool,
    /// Pages of the file.
    pub(crate) len: AtomicU64,
}

impl Map {
    pub(crate) fn new() -> Self {
        let words = (0..PAGE / 8).map(|_| AtomicU64::new(0)).collect();
        Self { words, formatted: AtomicBool::new(false), len: AtomicU64::new(0) }
    }
}

impl MapSource for Map {
    fn load_region(&self, _: u64) -> PageResult<Option<RegionBits>> {
        let formatted = self.formatted.load(Ordering::Relaxed);
        formatted.then(|| RegionBits::decode(SpeculativePage::new(&self.words))).transpose()
    }

    fn format_region(&self, region: u64) -> PageResult<()> {
        assert_eq!(region, 0, "one region is enough");
        FormatMap { region }.apply(&PageWriter::new(&self.words))?;
        self.formatted.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.len.fetch_max(pages, Ordering::Relaxed);
        Ok(())
    }

    fn file_pages(&self) -> PageResult<u64> {
        Ok(self.len.load(Ordering::Relaxed))
    }
}
