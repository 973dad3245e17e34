//! Ten times more pages than frames, by id.

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId, PageResult, PageStore};

fn main() -> PageResult<()> {
    const PAGES: u64 = 160;
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(PAGES)?;
    let pool = BufferPool::new(store, 16);
    for number in 0..PAGES {
        let page = pool.new_page(PageId::new(number))?;
        page.write()?.payload_mut()[..8].copy_from_slice(&(number * number).to_le_bytes());
    }
    assert!(pool.resident_len() <= 16);
    pool.checkpoint()?;
    for number in (0..PAGES).rev() {
        let page = pool.fetch(PageId::new(number))?;
        assert_eq!(page.read()?.payload()[..8], (number * number).to_le_bytes());
        assert!(!page.is_dirty());
    }
    Ok(())
}
