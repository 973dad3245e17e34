//! Reads of pages that go on beside each other, each begun when it is known.
//!
//! Invariant: a page belongs to the reads from its beginning to its end; every one that was begun is given back once, with its own result.

use crate::{Page, PageId, PageResult, PageStore};

/// A read that has ended.
#[derive(Debug)]
pub struct PageRead {
    /// The page that was asked for.
    pub id: PageId,
    /// The page that was read into: after an error its contents mean nothing.
    pub page: Page,
    /// What came of it, as from [`PageStore::read_into`]: a bad page spoils no other.
    pub result: PageResult<()>,
}

/// Reads of one store by one thread, made by [`PageStore::reads`]. Dropping it waits for those that are under way.
pub trait PageReads {
    /// Begins to read [`Page::id`] into this page, at the latest with the next [`PageReads::wait`].
    fn begin(&mut self, page: Page);

    /// Waits until `least` of those that were begun have ended, or all of them where fewer were begun, and appends those that have ended, in any
    /// order.
    fn wait(&mut self, least: usize, ended: &mut Vec<PageRead>);
}

/// Where nothing goes on by itself: all that were begun are read by one call, once somebody waits.
pub(crate) struct BatchedPageReads<'s, S: ?Sized> {
    store: &'s S,
    begun: Vec<Page>,
}

impl<'s, S: PageStore + ?Sized> BatchedPageReads<'s, S> {
    pub(crate) fn new(store: &'s S) -> Self {
        Self { store, begun: Vec::new() }
    }
}

impl<S: PageStore + ?Sized> PageReads for BatchedPageReads<'_, S> {
    fn begin(&mut self, page: Page) {
        self.begun.push(page);
    }

    fn wait(&mut self, _least: usize, ended: &mut Vec<PageRead>) {
        let ids: Vec<PageId> = self.begun.iter().map(Page::id).collect();
        let results = self.store.read_many(&ids, &mut self.begun);
        assert_eq!(results.len(), ids.len(), "PageStore::read_many gives one result per page");
        let pages = ids.into_iter().zip(self.begun.drain(..)).zip(results);
        ended.extend(pages.map(|((id, page), result)| PageRead { id, page, result }));
    }
}
