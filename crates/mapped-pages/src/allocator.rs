//! What allocators of pages have in common, for code that works with any.
//!
//! Invariant: a handle is asked of the allocator that gave it; what it lends lives no longer than the borrow of that.
//!
//! ```
//! use pagestone_mapped_pages::{BulkPageAllocator, MappedPage, MappedPageError, PageHandle, PageId, Pager};
//!
//! fn filled<A, H>(allocator: &mut A, count: usize) -> Result<Vec<H>, A::Error>
//! where
//!     H: for<'a> PageHandle<A, Error = A::Error, Mut<'a> = &'a mut MappedPage>,
//!     A: BulkPageAllocator<H>,
//! {
//!     let pages = allocator.alloc_bulk(count)?;
//!     for page in &pages {
//!         page.get_mut(allocator)?.as_bytes_mut().fill(7);
//!     }
//!     Ok(pages)
//! }
//! # let dir = tempfile::tempdir()?;
//! let mut pager = Pager::<4096>::create(dir.path().join("pages"))?;
//! let pages: Vec<PageId<4096>> = filled(&mut pager, 3)?;
//! assert_eq!(pages[2].get(&pager)?.as_bytes()[4095], 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use pagestone_direct_io::MappedPage;

use crate::protected::{DynProtectedPageId, DynProtectedPageWriter};
use crate::{DynPageId, DynPager, MappedPageError, PageId, Pager, ProtectedPageId, ProtectedPageWriter};

/// A page of an allocator, by which it is borrowed.
pub trait PageHandle<A: ?Sized> {
    /// Why it could not be.
    type Error;
    /// What is given to change it: the page, or a writer that has to be committed.
    type Mut<'a>: 'a
    where
        A: 'a,
        Self: 'a;

    /// The page, to read.
    fn get<'a>(&self, allocator: &'a A) -> Result<&'a MappedPage, Self::Error>;

    /// The page, to change.
    fn get_mut<'a>(&self, allocator: &'a mut A) -> Result<Self::Mut<'a>, Self::Error>;
}

/// Gives out pages and takes them back, one by one.
pub trait PageAllocator<H: PageHandle<Self>>: Sized {
    /// Why it could not.
    type Error;

    /// A page that nobody has.
    fn alloc(&mut self) -> Result<H, Self::Error>;

    /// Takes a page back. An error has changed nothing.
    fn free(&mut self, page: H) -> Result<(), Self::Error>;
}

/// Gives out pages and takes them back, all or none of several.
pub trait BulkPageAllocator<H: PageHandle<Self>>: PageAllocator<H> {
    /// So many pages that nobody has. An error has allocated none.
    fn alloc_bulk(&mut self, count: usize) -> Result<Vec<H>, Self::Error>;

    /// Takes pages back. All are looked at before any is taken: an error, for one that is there twice among them, has changed nothing.
    fn free_bulk(&mut self, pages: Vec<H>) -> Result<(), Self::Error>;
}

/// One kind of page of one kind of pager, by its own methods.
macro_rules! allocates {
    ([$($generics:tt)*] $pager:ty, $id:ty, $writer:ty, $get:expr, $get_mut:expr,
     $alloc:ident, $free:ident, $alloc_bulk:ident, $free_bulk:ident) => {
        impl<$($generics)*> PageHandle<$pager> for $id {
            type Error = MappedPageError;
            type Mut<'a> = $writer;

            fn get<'a>(&self, pager: &'a $pager) -> Result<&'a MappedPage, MappedPageError> {
                $get(pager, *self)
            }

            fn get_mut<'a>(&self, pager: &'a mut $pager) -> Result<$writer, MappedPageError> {
                $get_mut(pager, *self)
            }
        }

        impl<$($generics)*> PageAllocator<$id> for $pager {
            type Error = MappedPageError;

            fn alloc(&mut self) -> Result<$id, MappedPageError> {
                self.$alloc()
            }

            fn free(&mut self, page: $id) -> Result<(), MappedPageError> {
                self.$free(page)
            }
        }

        impl<$($generics)*> BulkPageAllocator<$id> for $pager {
            fn alloc_bulk(&mut self, count: usize) -> Result<Vec<$id>, MappedPageError> {
                self.$alloc_bulk(count)
            }

            fn free_bulk(&mut self, pages: Vec<$id>) -> Result<(), MappedPageError> {
                self.$free_bulk(pages)
            }
        }
    };
}

allocates!(
    [const N: usize] Pager<N>, PageId<N>, &'a mut MappedPage,
    |pager, id: PageId<N>| id.get(pager), |pager, id: PageId<N>| id.get_mut(pager),
    alloc, free, alloc_bulk, free_bulk
);
allocates!(
    [const N: usize] Pager<N>, ProtectedPageId<N>, ProtectedPageWriter<'a, N>,
    |pager, id: ProtectedPageId<N>| id.get(pager), |pager, id: ProtectedPageId<N>| id.get_mut(pager),
    alloc_protected, free_protected, alloc_protected_bulk, free_protected_bulk
);
allocates!(
    [] DynPager, DynPageId, &'a mut MappedPage, DynPager::get, DynPager::get_mut,
    alloc, free, alloc_bulk, free_bulk
);
allocates!(
    [] DynPager, DynProtectedPageId, DynProtectedPageWriter<'a>, DynPager::get_protected, DynPager::get_protected_mut,
    alloc_protected, free_protected, alloc_protected_bulk, free_protected_bulk
);
