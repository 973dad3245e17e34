//! Ids over one map page in memory: reserved, used, freed, used again, and found again by a second allocator.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use pagestone_allocator::{FormatMap, LoggedAllocator, MapSource, RegionBits};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, PageError, PageId, PageOp, PageResult, PageWriter, SpeculativePage,
};

/// Page 0, once it is formatted.
struct OneRegion(Mutex<Option<Vec<AtomicU64>>>);

impl OneRegion {
    fn change(&self, op: &dyn PageOp) -> PageResult<()> {
        let mut page = self.0.lock().expect("no panic");
        let words = page.get_or_insert_with(|| (0..512).map(|_| AtomicU64::new(0)).collect());
        op.apply(&PageWriter::new(words))
    }
}

impl MapSource for OneRegion {
    fn load_region(&self, _region: u64) -> PageResult<Option<RegionBits>> {
        let page = self.0.lock().expect("no panic");
        page.as_ref().map(|words| RegionBits::decode(SpeculativePage::new(words))).transpose()
    }
    fn format_region(&self, region: u64) -> PageResult<()> {
        self.change(&FormatMap { region })
    }
    fn grow(&self, _pages: u64) -> PageResult<()> {
        Ok(())
    }
    fn file_pages(&self) -> PageResult<u64> {
        Ok(0)
    }
}

fn main() -> PageResult<()> {
    let file = OneRegion(Mutex::new(None));
    let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
    let mut ids = allocator.reserve(&file, 5)?;
    let taken: Vec<u64> = std::iter::from_fn(|| ids.take()).map(PageId::get).collect();
    assert_eq!(taken, [1, 2, 3, 4, 5]);
    for (_, set) in ids.set_bits() {
        file.change(&set)?;
    }
    ids.commit();

    let mut release = allocator.release();
    release.add(PageId::new(2), 2)?;
    for (_, clear) in release.clear_bits() {
        file.change(&clear)?;
    }
    release.commit(Lsn::new(1));
    assert!(matches!(allocator.release().add(PageId::new(3), 1), Err(PageError::AllocationState { .. })));
    assert_eq!(allocator.high_water(), Some(6));

    let again = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
    let ids = again.reserve_run(&file, 2)?;
    assert_eq!(ids.ids(), [PageId::new(2), PageId::new(3)]);
    Ok(())
}
