//! A page store of one's own beneath the pool and the allocator: pages in a table of records, as another database might keep them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pagestone_allocator::PageAllocator;
use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore,
    StoreUuid,
};

/// Records by id, of which only those that a sync has covered survive.
#[derive(Debug)]
struct Records {
    checksum: PageChecksum,
    len: AtomicU64,
    now: Mutex<HashMap<u64, Vec<u8>>>,
    durable: Mutex<HashMap<u64, Vec<u8>>>,
    batches: AtomicU64,
}

impl Records {
    fn new() -> Self {
        Self {
            checksum: PageChecksum::new(ChecksumKind::Crc64Nvme, StoreUuid::new([9; 16])),
            len: AtomicU64::new(0),
            now: Mutex::default(),
            durable: Mutex::default(),
            batches: AtomicU64::new(0),
        }
    }

    fn crash(&self) {
        *self.now.lock().expect("no panic") = self.durable.lock().expect("no panic").clone();
    }
}

impl PageStore for Records {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        if id.get() >= self.len()? {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        match self.now.lock().expect("no panic").get(&id.get()) {
            Some(bytes) => page.bytes_mut().copy_from_slice(bytes),
            None => page.bytes_mut().fill(0),
        }
        self.checksum.verify(id, page.bytes()).map(|_| ())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        let id = page.id();
        if id.get() >= self.len()? {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        let bytes = page.to_checksummed_bytes(&self.checksum).to_vec();
        self.now.lock().expect("no panic").insert(id.get(), bytes);
        Ok(())
    }

    fn write_many(&self, pages: &mut [Page]) -> PageResult<()> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        pages.iter_mut().try_for_each(|page| self.write_page(page))
    }

    fn sync(&self) -> PageResult<()> {
        *self.durable.lock().expect("no panic") = self.now.lock().expect("no panic").clone();
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.len.load(Ordering::Relaxed))
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.len.fetch_max(pages, Ordering::Relaxed);
        Ok(())
    }
}

fn main() -> PageResult<()> {
    let records = Arc::new(Records::new());
    let ids = PageAllocator::new(Arc::clone(&records))?;
    let pool = BufferPool::new(Arc::clone(&records), 4);
    assert_eq!(pool.capacity(), 4);

    let mut pages = Vec::new();
    for number in 0..100_u64 {
        let id = ids.allocate()?;
        pool.new_page(id)?.write()?.payload_mut()[..8].copy_from_slice(&number.to_le_bytes());
        pages.push(id);
    }
    assert!(pool.resident_len() <= 4 && records.batches.load(Ordering::Relaxed) > 0);
    pool.checkpoint()?;
    ids.sync()?;
    let lost = ids.allocate()?;
    pool.new_page(lost)?;
    drop((pool, ids));
    records.crash();

    let ids = PageAllocator::new(Arc::clone(&records))?;
    let pool = BufferPool::new(records, 16);
    for (number, id) in pages.iter().enumerate() {
        assert!(ids.is_allocated(*id)?);
        assert_eq!(pool.fetch(*id)?.read()?.payload()[..8], (number as u64).to_le_bytes());
    }
    assert_eq!(ids.allocate()?, lost, "nobody was told of it before the crash");
    Ok(())
}
