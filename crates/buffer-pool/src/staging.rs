//! Private pages that storage reads into and writes from.
//!
//! Invariant: no I/O ever touches the arena. A reader with a stale hint may be looking at any frame at any time, so bytes
//! come into a frame, and leave it, by relaxed word copies to and from pages that only one thread sees. Costs one copy of
//! a page a miss, some 0.1 µs at 4 KiB beside an I/O of 20 µs.

use pagestone_page_format::{Page, PageId, PageSize, PageStore};
use pagestone_sync::Queue;

/// Buffers kept for the next use, enough for what all who read ahead have in flight at pages of 4 KiB; more are made when more are.
const KEPT_BYTES: usize = 2 << 20;

#[derive(Debug)]
pub(crate) struct Staging {
    idle: Queue<Page>,
}

impl Staging {
    pub(crate) fn new(size: PageSize) -> Self {
        Self { idle: Queue::new((KEPT_BYTES / size.get()).max(4)) }
    }

    /// A page to use for `id`; its contents mean nothing.
    pub(crate) fn take(&self, store: &dyn PageStore, id: PageId) -> Page {
        match self.idle.pop() {
            Some(mut page) => {
                page.set_id(id);
                page
            }
            None => store.allocate_page(id),
        }
    }

    /// Keeps a page for the next use, or frees it when enough are kept.
    pub(crate) fn give(&self, page: Page) {
        drop(self.idle.push(page));
    }
}
