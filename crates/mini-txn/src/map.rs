//! What the allocator asks of the floor that knows pool and log: its map pages, and room in the file.

use pagestone_allocator::{FormatMap, MapSource, RegionBits, SetRegions, map_page_of, region_bits};
use pagestone_buffer_pool::Pin;
use pagestone_page_format::{PageError, PageId, PageKind, PageResult};

use crate::{LoggedPool, Reserve};

impl MapSource for LoggedPool {
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
        let id = map_page(self, region);
        let pin = self.pool().fault(id)?;
        let shared = pin.shared()?;
        RegionBits::decode(shared.page()).map(Some)
    }

    fn format_region(&self, region: u64) -> PageResult<()> {
        let id = map_page(self, region);
        let first = PageId::new(0);
        let mut txn = self.begin(Reserve { log_bytes: 256, pins: 2, ..Reserve::default() })?;
        let new = self.pool().adopt(id, PageKind::SPACE_MAP)?;
        if region > 0 {
            let head = self.pool().fault(first)?;
            let head = txn.latch(head.exclusive()?);
            txn.change(head, &SetRegions { count: region + 1 })?;
        }
        let new = txn.latch(new.exclusive()?);
        txn.change(new, &FormatMap { region })?;
        txn.commit().map(|_| ())
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.pool().store().grow(pages)
    }

    fn file_pages(&self) -> PageResult<u64> {
        self.pool().store().len()
    }
}

impl LoggedPool {
    /// Drops the last region of the space map if all of its pages are free and it is not the first, so that the file can be cut before
    /// it ([`pagestone_allocator::LoggedAllocator::cut_tail`]). Waits as [`LoggedPool::begin`] does; the caller holds no latch. Gives
    /// whether one was dropped: then the one before may be free too.
    ///
    /// Errors: those of beginning a mini-transaction and of reading page 0; nothing was changed then.
    pub fn drop_last_region(&self) -> PageResult<bool> {
        self.allocator().drop_last_region(|count| {
            let mut txn = self.begin(Reserve { log_bytes: 256, pins: 1, ..Reserve::default() })?;
            let head = self.pool().fault(PageId::new(0))?;
            let head = txn.latch(head.exclusive()?);
            txn.change(head, &SetRegions { count })?;
            Ok(txn.commit()?.lsn)
        })
    }
}

fn map_page(env: &LoggedPool, region: u64) -> PageId {
    let size = env.pool().page_size();
    map_page_of(PageId::new(region * region_bits(size)), size)
}

/// Pins map pages, given in increasing id.
pub(crate) fn pin_all<'e>(env: &'e LoggedPool, ids: &[PageId]) -> PageResult<Vec<Pin<'e>>> {
    ids.iter().map(|id| env.pool().fault(*id)).collect()
}

/// The pin of that map page; it was pinned when the ids were reserved or released.
pub(crate) fn pin_of<'a, 'e>(pins: &'a [Pin<'e>], id: PageId) -> PageResult<&'a Pin<'e>> {
    pins.iter().find(|pin| pin.id() == id).ok_or(PageError::Malformed {
        page_id: id,
        reason: "a map page was to be changed that was not pinned before the first change",
    })
}
