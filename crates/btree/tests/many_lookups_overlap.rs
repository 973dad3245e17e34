//! Prevents: lookups of one call that read page by page because the root was not in memory when they began, as after an opening.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, Page, PageId, PageResult, PageSize, PageStore};
use support::{environment_over, trees};

const ROWS: u32 = 20_000;

/// Tells reads of one page from those of several.
#[derive(Debug)]
struct Counting {
    inner: MemoryStore,
    single: Arc<AtomicU64>,
}

impl PageStore for Counting {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.single.fetch_add(1, Ordering::Relaxed);
        self.inner.read_into(id, page)
    }
    fn read_many(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        self.inner.read_many(ids, pages)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        self.inner.sync()
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

#[test]
fn pages_are_read_beside_each_other_though_nothing_is_in_memory() {
    let single = Arc::new(AtomicU64::new(0));
    let store = Counting { inner: MemoryStore::new(DEFAULT_PAGE_SIZE), single: Arc::clone(&single) };
    let env = environment_over(store, 2048);
    let tree = trees(&env, 1).remove(0);
    let keys: Vec<[u8; 4]> = (0..ROWS).map(u32::to_be_bytes).collect();
    for key in &keys {
        tree.put(key, &[key[3]; 60]).expect("put");
    }
    env.pool().drop_cache().expect("written");
    assert_eq!(env.pool().resident_len(), 0);
    let (misses, before) = (env.pool().stats().misses, single.load(Ordering::Relaxed));
    let found = tree.multi_get(&keys).expect("looked up");
    assert!(found.iter().zip(&keys).all(|(value, key)| value.as_deref() == Some(&[key[3]; 60][..])));
    let (misses, single) = (env.pool().stats().misses - misses, single.load(Ordering::Relaxed) - before);
    assert!(misses > 300, "{misses} pages");
    assert!(single < 40, "{single} of {misses} pages were read by themselves");
}
