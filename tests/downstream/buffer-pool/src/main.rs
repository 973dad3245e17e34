//! Ten times more pages than frames, by id; one by one and in batches, while the budget moves.

use std::sync::Arc;

use pagestone_buffer_pool::{BufferPool, PageProvider, PoolOptions, Spawner, ThreadClass};
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageError, PageId, PageResult, PageStore};

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
    in_batches()
}

/// What an engine with data larger than memory uses besides.
fn in_batches() -> PageResult<()> {
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(2000)?;
    let options = PoolOptions { frames_max: 512, ..PoolOptions::new(128) };
    let pool = Arc::new(BufferPool::with_options(Box::new(store), options)?);
    let provider = PageProvider::start(&pool, &Spawner::unpinned(), ThreadClass::Worker)?;
    let ids: Vec<PageId> = (0..2000).map(PageId::new).collect();
    for id in &ids {
        pool.new_page(*id)?.write()?.payload_mut()[..8].copy_from_slice(&id.get().to_le_bytes());
    }
    pool.flush_all()?;
    pool.set_capacity(512)?;
    for batch in ids.chunks(100) {
        pool.prefetch(batch);
        for (id, page) in batch.iter().zip(pool.fetch_many(batch)) {
            assert_eq!(page?.read()?.payload()[..8], id.get().to_le_bytes());
        }
    }
    pool.set_capacity(64)?;
    assert!(pool.resident_len() <= 64 && pool.capacity() == 64);
    assert!(matches!(pool.set_capacity(513), Err(PageError::BudgetRefused { most: 512, .. })));
    assert!(pool.provide_frames()? <= 64);
    provider.stop().expect("it did not panic");
    pool.fetch(ids[7])?.write()?.payload_mut()[0] = 0;
    pool.discard(ids[7])?; // the change is gone with it
    assert_eq!(pool.fetch(ids[7])?.read()?.payload()[0], 7);
    let stats = pool.stats();
    assert!(stats.misses >= 1500 && stats.evictions >= stats.provided && stats.prefetches > 0);
    assert!(pool.metrics().iter().any(|metric| metric.name == "pagestone_pool_read_batch_microseconds"));
    Ok(())
}
