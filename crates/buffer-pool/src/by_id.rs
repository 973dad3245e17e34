//! The face by id, for any engine: fetch a page, read it, write it.
//!
//! The caller is handed `&[u8]` and `&mut [u8]`, while a reader with a stale hint may be looking at the same frame. It is no
//! race because the slices are of private copies: [`PageRef`] is copied out under validation, [`PageMut`] is copied out,
//! changed, and copied back under the exclusive latch when it is dropped. It costs one copy of a page for a read and two
//! for a write, and a reader holds no latch.

use pagestone_page_format::{Lsn, PAGE_HEADER_SIZE, Page, PageError, PageId, PageKind, PageResult};

use pagestone_swip::MAX_SWIP_PAGE;

use crate::{BufferPool, ExclusivePage, Pin};

/// Copies tried before the shared latch is taken.
const OPTIMISTIC_COPIES: usize = 16;

/// A pinned page.
///
/// ```
/// use pagestone_buffer_pool::BufferPool;
/// use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};
/// let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 8);
/// let page = pool.new_page(PageId::new(3))?;
/// page.write()?.payload_mut()[..5].copy_from_slice(b"hello");
/// drop(page);
/// pool.checkpoint()?;
/// pool.drop_cache()?;
/// assert_eq!(&pool.fetch(PageId::new(3))?.read()?.payload()[..5], b"hello");
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
#[derive(Debug)]
pub struct PageGuard<'p> {
    pin: Pin<'p>,
}

impl BufferPool {
    /// Pins the page, reading it if it is not resident. Waits while somebody has its [`PageMut`]: a thread that holds one itself does not
    /// fetch that page again.
    #[inline]
    pub fn fetch(&self, id: PageId) -> PageResult<PageGuard<'_>> {
        self.fault(id).map(|pin| PageGuard { pin })
    }

    /// Pins a page that was never written, or whose contents do not matter any more: zeroed and dirty. The id comes from an
    /// allocator or from a plan of the caller's own. A file without room for it grows, with its blocks reserved, so that writing
    /// the page back cannot fail for want of them.
    ///
    /// Errors: `InvalidPageId` for an id that no pool can hold, `NoSpace` where the file cannot grow so far.
    pub fn new_page(&self, id: PageId) -> PageResult<PageGuard<'_>> {
        if id > MAX_SWIP_PAGE {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        if id.get() >= self.store.len()? {
            self.store.grow(id.get() + 1)?;
        }
        let pin = self.adopt(id, PageKind::PLAIN)?;
        {
            let page = pin.exclusive()?;
            page.writer().format(PageKind::PLAIN, id);
            page.publish(Lsn::ZERO, Lsn::ZERO);
        }
        Ok(PageGuard { pin })
    }
}

impl<'p> PageGuard<'p> {
    pub(crate) fn new(pin: Pin<'p>) -> Self {
        Self { pin }
    }

    /// Which page it is.
    pub fn id(&self) -> PageId {
        self.pin.id()
    }

    /// Whether it has changes that are not in storage yet.
    pub fn is_dirty(&self) -> bool {
        self.pin.frame_header().is_dirty()
    }

    /// A copy of the page as of one instant.
    #[track_caller]
    pub fn read(&self) -> PageResult<PageRef<'p>> {
        let pool = self.pin.pool;
        let mut page = pool.staging.take(&*pool.store, self.id());
        for _ in 0..OPTIMISTIC_COPIES {
            let sample = self.pin.optimistic()?;
            sample.page().copy_out(page.bytes_mut());
            let lsn = self.pin.frame_header().lsn();
            if sample.validate().is_ok() {
                page.set_lsn(lsn);
                return Ok(PageRef { pool, page: Some(page) });
            }
        }
        let shared = self.pin.shared()?;
        shared.page().copy_out(page.bytes_mut());
        page.set_lsn(self.pin.frame_header().lsn());
        Ok(PageRef { pool, page: Some(page) })
    }

    /// The page, to change: others wait until it is dropped, and then see all of the changes.
    ///
    /// Whoever holds several at once takes them in one order that all threads keep, as with any lock; who fetches a page while it holds
    /// one keeps to that order too, because a fetch waits for a page that somebody is changing. Nobody calls [`BufferPool::flush`],
    /// [`BufferPool::flush_all`] or [`BufferPool::discard`] meanwhile.
    #[track_caller]
    pub fn write(&self) -> PageResult<PageMut<'p>> {
        let latched = self.pin.exclusive()?;
        let pool = self.pin.pool;
        let mut page = pool.staging.take(&*pool.store, self.id());
        latched.page().copy_out(page.bytes_mut());
        page.set_lsn(latched.lsn());
        Ok(PageMut { latched, page: Some(page) })
    }
}

/// A page as it was at one instant.
#[derive(Debug)]
pub struct PageRef<'p> {
    pool: &'p BufferPool,
    page: Option<Page>,
}

impl PageRef<'_> {
    /// What stands behind the header.
    pub fn payload(&self) -> &[u8] {
        self.page().payload()
    }

    /// The page's LSN.
    pub fn lsn(&self) -> Lsn {
        self.page().lsn()
    }

    fn page(&self) -> &Page {
        self.page.as_ref().expect("a page reference has its page until it is dropped")
    }
}

impl Drop for PageRef<'_> {
    fn drop(&mut self) {
        self.page.take().into_iter().for_each(|page| self.pool.staging.give(page));
    }
}

/// A page being changed; published when dropped.
#[derive(Debug)]
pub struct PageMut<'p> {
    latched: ExclusivePage<'p>,
    page: Option<Page>,
}

impl PageMut<'_> {
    /// What stands behind the header.
    pub fn payload(&self) -> &[u8] {
        self.page.as_ref().expect("a page is there until it is dropped").payload()
    }

    /// What stands behind the header, to change.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.page.as_mut().expect("a page is there until it is dropped").payload_mut()
    }

    /// Says that the log describes the change up to `lsn`: the page is not written before the log is durable there.
    pub fn set_lsn(&mut self, lsn: Lsn) {
        self.page.as_mut().expect("a page is there until it is dropped").set_lsn(lsn);
    }
}

impl Drop for PageMut<'_> {
    fn drop(&mut self) {
        let Some(page) = self.page.take() else { return };
        let writer = self.latched.writer();
        let before = self.latched.lsn();
        writer.put_bytes(PAGE_HEADER_SIZE, page.payload()).expect("the page is as long as its frame");
        self.latched.publish(before, page.lsn().max(before));
        self.latched.pool.staging.give(page);
    }
}
