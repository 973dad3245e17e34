//! The seams between the floors: each is implemented below or beside, and called in one or two files above.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::reads::{BatchedPageReads, PageReads};
use crate::{Lsn, Page, PageError, PageId, PageResult, PageSize, PageWriter};

/// Pages that [`PageStore::write_new_stream`] writes at once, as it is given.
const STREAM_PAGES: usize = 256;

/// Storage of pages by id: what the pool reads from and writes to. All calls may come from many threads at once.
///
/// It can be implemented outside this workspace: [`crate::PageChecksum`] stamps and verifies, [`crate::PageHeader`]
/// decodes. [`crate::MemoryStore`] is a complete implementation to read.
pub trait PageStore: Send + Sync + Debug {
    /// Size of every page of this store.
    fn page_size(&self) -> PageSize;

    /// A private buffer of the right size and alignment, for `id`. It makes a buffer and not an id.
    fn allocate_page(&self, id: PageId) -> Page {
        Page::new(self.page_size(), id)
    }

    /// Reads page `id` into `page` and verifies length, magic, version, checksum and id, in that order.
    ///
    /// On an error the contents of `page` mean nothing. A page never written reads as an error, not as zeros.
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()>;

    /// Reads a batch; `pages[i]` receives `ids[i]`. One result per page: a bad page spoils no other.
    fn read_many(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        ids.iter().zip(pages).map(|(id, page)| self.read_into(*id, page)).collect()
    }

    /// Reads of pages that go on beside each other, each begun when it is known. Where transfers go on by themselves the next is begun while
    /// the others are under way; by itself it is one [`PageStore::read_many`] of all that wait to begin.
    fn reads(&self) -> Box<dyn PageReads + '_> {
        Box::new(BatchedPageReads::new(self))
    }

    /// Whether nobody ever wrote anything at the place of this page: zeros, as far as the store reaches. Whoever makes a store his own
    /// asks this first, so that what cannot be read is not taken for what is not there (R7).
    ///
    /// As it is given, it believes [`PageStore::read_into`]. A store over a file looks at every byte.
    fn is_unwritten(&self, id: PageId) -> PageResult<bool> {
        match self.read_into(id, &mut self.allocate_page(id)) {
            Ok(()) | Err(PageError::ChecksumMismatch { .. } | PageError::MisdirectedPage { .. }) => Ok(false),
            Err(PageError::BadMagic { found, .. }) => Ok(found == 0),
            Err(PageError::ShortRead { got, .. }) => Ok(got == 0),
            Err(PageError::InvalidPageId { .. }) => Ok(true),
            Err(PageError::UnsupportedVersion { .. } | PageError::Malformed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stamps the checksum into `page` and writes it at the place of `page.id()`. Durable after the next [`PageStore::sync`].
    fn write_page(&self, page: &mut Page) -> PageResult<()>;

    /// Writes a batch. On an error any of the pages may or may not have been written.
    fn write_many(&self, pages: &mut [Page]) -> PageResult<()> {
        pages.iter_mut().try_for_each(|page| self.write_page(page))
    }

    /// Writes pages that are stamped for this store already, without a change: `images` are their bytes, one behind the other as `ids` are,
    /// and begin at a multiple of [`crate::IO_ALIGNMENT`] in memory. Otherwise as [`PageStore::write_many`]. For who keeps a second
    /// copy of them, which is the same bytes.
    fn write_stamped(&self, ids: &[PageId], images: &[u8]) -> PageResult<()> {
        let images = images.chunks_exact(self.page_size().get());
        let page = |(id, image): (&PageId, &[u8])| {
            let mut page = self.allocate_page(*id);
            page.bytes_mut().copy_from_slice(image);
            page
        };
        self.write_many(&mut ids.iter().zip(images).map(page).collect::<Vec<Page>>())
    }

    /// As [`PageStore::write_many`], for pages that nothing durable refers to yet, so that a torn one harms nobody: goes past
    /// double-write. Whoever makes something refer to them calls [`PageStore::sync`] first (L12).
    fn write_new(&self, pages: &mut [Page]) -> PageResult<()> {
        self.write_many(pages)
    }

    /// As [`PageStore::write_new`], of the pages that `make` makes, one after another, until it makes none and says so by `false`; where
    /// storage can, the first are written while the next are made. `make` is given the bytes of a page with anything in them, and makes them a
    /// page with a header, which says its id, but for the checksum. No page is made twice.
    ///
    /// As it is given, it writes up to 256 pages at once. On an error any of the pages that were made may or may not have been written.
    fn write_new_stream(&self, make: &mut dyn FnMut(&mut [u8]) -> bool) -> PageResult<()> {
        let mut pages: Vec<Page> = Vec::new();
        loop {
            let mut made = 0;
            while made < STREAM_PAGES {
                if made == pages.len() {
                    pages.push(self.allocate_page(PageId::new(0)));
                }
                if !make(pages[made].bytes_mut()) {
                    return self.write_new(&mut pages[..made]);
                }
                made += 1;
            }
            self.write_new(&mut pages)?;
        }
    }

    /// Makes every write that returned before this call durable. A failure is final for the handle (I9): never retry.
    fn sync(&self) -> PageResult<()>;

    /// Number of pages that the file has room for now.
    fn len(&self) -> PageResult<u64>;

    /// Whether there is room for no page at all.
    fn is_empty(&self) -> PageResult<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes room for at least `pages` pages, with their blocks reserved, or gives `NoSpace` and changes nothing.
    fn grow(&self, pages: u64) -> PageResult<()>;

    /// Gives back what lies behind the first `pages` pages; a file that is no longer stays as it is. Not durable by itself. The caller
    /// sees to it that nobody reads or writes a page behind, and that nothing durable refers to one.
    ///
    /// As it is given, it does nothing: a store need not be able to.
    fn cut(&self, _pages: u64) -> PageResult<()> {
        Ok(())
    }
}

impl<S: PageStore + ?Sized> PageStore for Arc<S> {
    fn page_size(&self) -> PageSize {
        (**self).page_size()
    }
    fn allocate_page(&self, id: PageId) -> Page {
        (**self).allocate_page(id)
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        (**self).read_into(id, page)
    }
    fn read_many(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        (**self).read_many(ids, pages)
    }
    fn reads(&self) -> Box<dyn PageReads + '_> {
        (**self).reads()
    }
    fn is_unwritten(&self, id: PageId) -> PageResult<bool> {
        (**self).is_unwritten(id)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        (**self).write_page(page)
    }
    fn write_many(&self, pages: &mut [Page]) -> PageResult<()> {
        (**self).write_many(pages)
    }
    fn write_stamped(&self, ids: &[PageId], images: &[u8]) -> PageResult<()> {
        (**self).write_stamped(ids, images)
    }
    fn write_new(&self, pages: &mut [Page]) -> PageResult<()> {
        (**self).write_new(pages)
    }
    fn write_new_stream(&self, make: &mut dyn FnMut(&mut [u8]) -> bool) -> PageResult<()> {
        (**self).write_new_stream(make)
    }
    fn sync(&self) -> PageResult<()> {
        (**self).sync()
    }
    fn len(&self) -> PageResult<u64> {
        (**self).len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        (**self).grow(pages)
    }
    fn cut(&self, pages: u64) -> PageResult<()> {
        (**self).cut(pages)
    }
}

/// What the pool needs of a log: nothing reaches the data file before the log is durable up to the page's LSN (P11, L2).
pub trait WriteAhead: Send + Sync + Debug {
    /// Everything before this LSN is durable. Rises, never falls.
    fn durable_lsn(&self) -> Lsn;

    /// Returns when the log is durable up to `lsn`; an error means that it is not and will not be.
    fn ensure_durable(&self, lsn: Lsn) -> PageResult<()>;
}

/// The number of an operation in the log. Each owner of page kinds has a range of its own; those below [`ENGINE_OP_KINDS`] are
/// pagestone's.
pub type OpKind = u16;

/// Kinds of operations, and of logical records, that are for engines: no floor of pagestone ever takes one of these. The page kinds
/// for engines are those from 128 on ([`crate::PageKind`]).
pub const ENGINE_OP_KINDS: RangeInclusive<OpKind> = 0x4000..=OpKind::MAX;

/// One change to one page: applied to the latched page and, from the same value, encoded for redo.
///
/// `apply` is the function that redo uses as well, so that the live path and recovery cannot drift. It reads no other
/// page and no clock, and gives the same bytes from the same bytes.
pub trait PageOp {
    /// Which operation this is.
    fn kind(&self) -> OpKind;

    /// Changes the page. An error leaves the page unusable and is a bug on the live path, corruption in recovery.
    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()>;

    /// Appends the bytes from which redo builds the same operation again. Never page hints, never padding.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Redo of one owner's operations.
#[derive(Clone, Debug)]
pub struct RedoRange {
    /// The kinds it owns.
    pub kinds: RangeInclusive<OpKind>,
    /// Decodes `payload` and applies it to the page.
    pub apply: fn(kind: OpKind, payload: &[u8], page: &PageWriter<'_>) -> PageResult<()>,
    /// Whether this kind writes the whole page, so that redo needs no valid old one.
    pub formats: fn(kind: OpKind) -> bool,
}

/// What recovery is given: every kind's redo. There is no registry.
#[derive(Clone, Debug, Default)]
pub struct RedoTable {
    ranges: Vec<RedoRange>,
}

impl RedoTable {
    /// A table of these ranges; panics if two of them overlap, which is a bug of the caller's.
    pub fn new(ranges: Vec<RedoRange>) -> Self {
        for (index, range) in ranges.iter().enumerate() {
            for other in &ranges[index + 1..] {
                assert!(
                    range.kinds.end() < other.kinds.start() || other.kinds.end() < range.kinds.start(),
                    "redo ranges {:?} and {:?} overlap",
                    range.kinds,
                    other.kinds
                );
            }
        }
        Self { ranges }
    }

    /// Whether redo of this kind needs no valid old page; an unknown kind does.
    pub fn formats(&self, kind: OpKind) -> bool {
        self.find(kind).is_some_and(|range| (range.formats)(kind))
    }

    /// Applies one record to a page. An unknown kind is [`PageError::Mismatch`].
    pub fn apply(&self, kind: OpKind, payload: &[u8], page: &PageWriter<'_>) -> PageResult<()> {
        let range = self.find(kind).ok_or_else(|| PageError::Mismatch {
            expected: "a known kind of operation".into(),
            found: format!("kind {kind}"),
        })?;
        (range.apply)(kind, payload, page)
    }

    fn find(&self, kind: OpKind) -> Option<&RedoRange> {
        self.ranges.iter().find(|range| range.kinds.contains(&kind))
    }
}
