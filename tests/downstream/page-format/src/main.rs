//! A page store of one's own: everything that stamping and verifying a page needs is public.

use std::sync::Mutex;

use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore,
    StoreUuid,
};

/// One page after the other in one vector of bytes.
#[derive(Debug)]
struct Bytes {
    bytes: Mutex<Vec<u8>>,
    checksum: PageChecksum,
}

impl PageStore for Bytes {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        let size = self.page_size().get();
        let start = id.get() as usize * size;
        let bytes = self.bytes.lock().expect("no panic");
        let found = bytes.get(start..start + size).ok_or(PageError::ShortRead {
            page_id: id,
            got: 0,
            page_size: size,
        })?;
        page.bytes_mut().copy_from_slice(found);
        self.checksum.verify(id, page.bytes()).map(|_| ())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        let start = page.id().get() as usize * self.page_size().get();
        let stamped = page.to_checksummed_bytes(&self.checksum);
        self.bytes.lock().expect("no panic")[start..start + stamped.len()].copy_from_slice(stamped);
        Ok(())
    }

    fn sync(&self) -> PageResult<()> {
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok((self.bytes.lock().expect("no panic").len() / self.page_size().get()) as u64)
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.bytes.lock().expect("no panic").resize(pages as usize * self.page_size().get(), 0);
        Ok(())
    }
}

fn main() -> PageResult<()> {
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([1; 16]));
    let store = Bytes { bytes: Mutex::default(), checksum };
    store.grow(4)?;
    let mut page = store.allocate_page(PageId::new(2));
    page.payload_mut()[..5].copy_from_slice(b"hello");
    store.write_page(&mut page)?;

    let mut read = store.allocate_page(PageId::new(2));
    store.read_into(PageId::new(2), &mut read)?;
    assert_eq!(&read.payload()[..5], b"hello");
    assert!(matches!(store.read_into(PageId::new(1), &mut read), Err(PageError::BadMagic { .. })));
    assert!(matches!(store.read_into(PageId::new(9), &mut read), Err(PageError::ShortRead { .. })));
    store.bytes.lock().expect("no panic")[2 * 4096 + 100] ^= 1;
    assert!(matches!(store.read_into(PageId::new(2), &mut read), Err(PageError::ChecksumMismatch { .. })));
    Ok(())
}
