//! The pager with its page size in its type.
//!
//! Invariant: a [`Pager<PAGE_SIZE>`] has a file of pages of `PAGE_SIZE` bytes, which is checked when it is opened; so an id of another
//! size cannot be asked of it.

use std::path::Path;

use pagestone_direct_io::MappedPage;
use pagestone_telemetry::Metric;

use crate::iter::{AllocatedPageIter, AllocatedProtectedPageIter};
use crate::layout::Shape;
use crate::protected::{DynProtectedPageId, DynProtectedPageWriter};
use crate::{DynPageId, DynPager, MappedOptions, MappedPageError, MappedResult, ReadOnly};

/// A page of a [`Pager`] with pages of so many bytes: its number, from 3 on. It may be stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageId<const PAGE_SIZE: usize>(pub u64);

/// A protected page of a [`Pager`]. It may be stored; it is no [`PageId`], and numbered by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProtectedPageId<const PAGE_SIZE: usize>(pub u64);

/// A file of pages of `PAGE_SIZE` bytes in memory: a power of two from 1024 on, which is checked when it is compiled.
///
/// All that changes which pages are in use is durable when the call returns. Pages are borrowed from the pager, so nobody can allocate
/// or free while one is held. See [`DynPager`] for what is the same with every page size.
///
/// ```
/// use pagestone_mapped_pages::{PageId, Pager};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pages");
/// let mut pager = Pager::<4096>::create(&path)?;
/// let id: PageId<4096> = pager.alloc()?;
/// id.get_mut(&mut pager)?.as_bytes_mut().fill(7);
/// pager.flush()?;
/// drop(pager);
///
/// let pager = Pager::<4096>::open(&path)?;
/// assert!(id.get(&pager)?.as_bytes().iter().all(|byte| *byte == 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Allocating while a page is borrowed:
///
/// ```compile_fail,E0499
/// # use pagestone_mapped_pages::Pager;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut pager = Pager::<4096>::create("pages")?;
/// let id = pager.alloc()?;
/// let page = id.get_mut(&mut pager)?;
/// pager.alloc()?;
/// page.as_bytes_mut()[0] = 1;
/// # Ok(()) }
/// ```
///
/// An id of another size:
///
/// ```compile_fail,E0308
/// # use pagestone_mapped_pages::{PageId, Pager};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pager = Pager::<4096>::open("pages")?;
/// let id: PageId<1024> = PageId(3);
/// id.get(&pager)?;
/// # Ok(()) }
/// ```
///
/// A size that is no power of two, and one that is too small:
///
/// ```compile_fail,E0080
/// # use pagestone_mapped_pages::Pager;
/// let pager = Pager::<1000>::create("pages");
/// ```
///
/// ```compile_fail,E0080
/// # use pagestone_mapped_pages::Pager;
/// let pager = Pager::<512>::create("pages");
/// ```
///
/// Freeing under an iterator:
///
/// ```compile_fail,E0502
/// # use pagestone_mapped_pages::Pager;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut pager = Pager::<4096>::open("pages")?;
/// for id in pager.iter_allocated_pages() {
///     pager.free(id)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pager<const PAGE_SIZE: usize>(DynPager);

impl<const PAGE_SIZE: usize> Pager<PAGE_SIZE> {
    /// Two to this power is the page size.
    const LOG2: u32 = {
        assert!(PAGE_SIZE.is_power_of_two(), "a page size is a power of two");
        assert!(PAGE_SIZE >= 1024, "a page has at least 1024 bytes");
        assert!(PAGE_SIZE <= 1 << 30, "a page has at most 2^30 bytes");
        PAGE_SIZE.trailing_zeros()
    };

    const SHAPE: Shape = Shape::new(Self::LOG2);

    /// Makes a file and opens it: [`MappedOptions::create`].
    pub fn create(path: impl AsRef<Path>) -> MappedResult<Self> {
        Ok(Self(MappedOptions::new().create(path, Self::LOG2)?))
    }

    /// Opens a file: [`MappedOptions::open`], and `InvalidPageSize` if its pages have another size.
    pub fn open(path: impl AsRef<Path>) -> MappedResult<Self> {
        MappedOptions::new().open(path)?.typed()
    }

    /// Opens a file to read, beside others that do so: [`MappedOptions::read_only`], and `InvalidPageSize`.
    pub fn read_only(path: impl AsRef<Path>) -> MappedResult<ReadOnly<Self>> {
        MappedOptions::new().read_only(path)?.0.typed().map(ReadOnly)
    }

    /// The same pager, whose page size is known when it runs.
    pub fn as_dyn(&self) -> &DynPager {
        &self.0
    }

    /// The same pager, whose page size is known when it runs.
    pub fn into_dyn(self) -> DynPager {
        self.0
    }

    pub(crate) fn dyn_mut(&mut self) -> &mut DynPager {
        &mut self.0
    }

    /// Bytes of a page: `PAGE_SIZE`.
    pub fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    /// As [`DynPager::page_count`].
    pub fn page_count(&self) -> u64 {
        self.0.page_count()
    }

    /// As [`DynPager::free_page_count`].
    pub fn free_page_count(&self) -> u64 {
        self.0.free_page_count()
    }

    /// As [`DynPager::alloc`].
    pub fn alloc(&mut self) -> MappedResult<PageId<PAGE_SIZE>> {
        self.0.alloc().map(|id| PageId(id.0))
    }

    /// As [`DynPager::alloc_bulk`].
    pub fn alloc_bulk(&mut self, count: usize) -> MappedResult<Vec<PageId<PAGE_SIZE>>> {
        Ok(self.0.alloc_bulk(count)?.into_iter().map(|id| PageId(id.0)).collect())
    }

    /// As [`DynPager::free`].
    pub fn free(&mut self, id: PageId<PAGE_SIZE>) -> MappedResult<()> {
        self.0.free(DynPageId(id.0))
    }

    /// As [`DynPager::free_bulk`].
    pub fn free_bulk(&mut self, ids: impl AsRef<[PageId<PAGE_SIZE>]>) -> MappedResult<()> {
        let ids: Vec<DynPageId> = ids.as_ref().iter().map(|id| DynPageId(id.0)).collect();
        self.0.free_bulk(ids)
    }

    /// As [`DynPager::alloc_protected`].
    pub fn alloc_protected(&mut self) -> MappedResult<ProtectedPageId<PAGE_SIZE>> {
        self.0.alloc_protected().map(|id| ProtectedPageId(id.0))
    }

    /// As [`DynPager::alloc_protected_bulk`].
    pub fn alloc_protected_bulk(&mut self, count: usize) -> MappedResult<Vec<ProtectedPageId<PAGE_SIZE>>> {
        Ok(self.0.alloc_protected_bulk(count)?.into_iter().map(|id| ProtectedPageId(id.0)).collect())
    }

    /// As [`DynPager::free_protected`].
    pub fn free_protected(&mut self, id: ProtectedPageId<PAGE_SIZE>) -> MappedResult<()> {
        self.0.free_protected(DynProtectedPageId(id.0))
    }

    /// As [`DynPager::free_protected_bulk`].
    pub fn free_protected_bulk(&mut self, ids: impl AsRef<[ProtectedPageId<PAGE_SIZE>]>) -> MappedResult<()> {
        let ids: Vec<DynProtectedPageId> = ids.as_ref().iter().map(|id| DynProtectedPageId(id.0)).collect();
        self.0.free_protected_bulk(ids)
    }

    /// As [`DynPager::get_many_mut`].
    ///
    /// ```
    /// use pagestone_mapped_pages::Pager;
    /// # let dir = tempfile::tempdir()?;
    /// let mut pager = Pager::<1024>::create(dir.path().join("pages"))?;
    /// let (a, b) = (pager.alloc()?, pager.alloc()?);
    /// a.get_mut(&mut pager)?.as_bytes_mut().fill(1);
    /// let [from, to] = pager.get_many_mut([a, b])?;
    /// to.as_bytes_mut().copy_from_slice(from.as_bytes());
    /// assert_eq!(b.get(&pager)?.as_bytes()[1023], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_mut<const K: usize>(
        &mut self,
        ids: [PageId<PAGE_SIZE>; K],
    ) -> MappedResult<[&mut MappedPage; K]> {
        self.0.get_many_mut(ids.map(|id| DynPageId(id.0)))
    }

    /// As [`DynPager::flush`].
    pub fn flush(&mut self) -> MappedResult<()> {
        self.0.flush()
    }

    /// As [`DynPager::flush_page`].
    pub fn flush_page(&mut self, id: PageId<PAGE_SIZE>) -> MappedResult<()> {
        self.0.flush_page(DynPageId(id.0))
    }

    /// As [`DynPager::shrink`].
    pub fn shrink(&mut self) -> MappedResult<u64> {
        self.0.shrink()
    }

    /// As [`DynPager::iter_allocated_pages`].
    pub fn iter_allocated_pages(&self) -> AllocatedPageIter<'_, PAGE_SIZE> {
        AllocatedPageIter(self.0.iter_allocated_pages())
    }

    /// As [`DynPager::iter_allocated_protected_pages`].
    pub fn iter_allocated_protected_pages(&self) -> AllocatedProtectedPageIter<'_, PAGE_SIZE> {
        AllocatedProtectedPageIter(self.0.iter_allocated_protected_pages())
    }

    /// As [`DynPager::metrics`].
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        self.0.metrics()
    }
}

impl DynPager {
    /// The same pager with its page size in its type. `InvalidPageSize` if it has another.
    pub fn typed<const PAGE_SIZE: usize>(self) -> MappedResult<Pager<PAGE_SIZE>> {
        if self.layout.page_log2() != Pager::<PAGE_SIZE>::LOG2 {
            return Err(MappedPageError::InvalidPageSize {
                expected: format!("{} in the file", self.page_size()),
                found: PAGE_SIZE.to_string(),
            });
        }
        Ok(Pager(self))
    }
}

impl<const PAGE_SIZE: usize> PageId<PAGE_SIZE> {
    /// The page, to read: [`DynPager::get`].
    #[inline]
    pub fn get<'a>(&self, pager: &'a Pager<PAGE_SIZE>) -> MappedResult<&'a MappedPage> {
        pager.0.get_in(DynPageId(self.0), Pager::<PAGE_SIZE>::SHAPE)
    }

    /// The page, to read and write: [`DynPager::get_mut`].
    #[inline]
    pub fn get_mut<'a>(&self, pager: &'a mut Pager<PAGE_SIZE>) -> MappedResult<&'a mut MappedPage> {
        pager.0.get_mut_in(DynPageId(self.0), Pager::<PAGE_SIZE>::SHAPE)
    }
}

impl<const PAGE_SIZE: usize> ProtectedPageId<PAGE_SIZE> {
    /// What was committed last, verified: [`DynPager::get_protected`].
    pub fn get<'a>(&self, pager: &'a Pager<PAGE_SIZE>) -> MappedResult<&'a MappedPage> {
        pager.0.get_protected(DynProtectedPageId(self.0))
    }

    /// A writer that begins with what was committed last: [`DynPager::get_protected_mut`].
    pub fn get_mut<'a>(
        &self,
        pager: &'a mut Pager<PAGE_SIZE>,
    ) -> MappedResult<ProtectedPageWriter<'a, PAGE_SIZE>> {
        pager.0.get_protected_mut(DynProtectedPageId(self.0)).map(ProtectedPageWriter)
    }
}

/// A change of a protected page that counts once it is committed. To drop it discards what was written.
///
/// ```
/// use pagestone_mapped_pages::Pager;
/// # let dir = tempfile::tempdir()?;
/// let mut pager = Pager::<4096>::create(dir.path().join("pages"))?;
/// let id = pager.alloc_protected()?;
/// let mut writer = id.get_mut(&mut pager)?;
/// writer.page_mut().as_bytes_mut()[..5].copy_from_slice(b"stone");
/// writer.commit()?;                                             // whole after every crash from now on
/// id.get_mut(&mut pager)?.page_mut().as_bytes_mut().fill(0);    // dropped
/// assert_eq!(&id.get(&pager)?.as_bytes()[..6], b"stone\0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ProtectedPageWriter<'a, const PAGE_SIZE: usize>(DynProtectedPageWriter<'a>);

impl<const PAGE_SIZE: usize> ProtectedPageWriter<'_, PAGE_SIZE> {
    /// The page as it will be.
    pub fn page_mut(&mut self) -> &mut MappedPage {
        self.0.page_mut()
    }

    /// Makes it durable, whole, and what readers see: [`DynProtectedPageWriter::commit`].
    pub fn commit(self) -> MappedResult<()> {
        self.0.commit()
    }
}
