//! The pager, with a page size that is known when it runs.
//!
//! Invariant: what a call says was done is durable when it returns, and what it says was refused has changed nothing.
//!
//! ```text
//!   alloc    space: lowest free page ──► change: its bit ──► metadata.commit ──► space counts again
//!   get      id ──► its bit ──► its window                                    nothing is copied
//!   grow     reserve ──► sync ──► map ──► commit: so many pages
//! ```

use std::sync::{Arc, OnceLock};

use pagestone_direct_io::{File, MapAccess, MappedPage};
use pagestone_page_format::Poison;
use pagestone_sync::faults::planted;

use crate::iter::{DynAllocatedPageIter, DynAllocatedProtectedPageIter};
use crate::layout::{Address, BlockId, Layout, REGION_PAGES, RESERVED, Shape, place_of, region_of};
use crate::maps::Maps;
use crate::metadata::Metadata;
use crate::metrics::MappedMetrics;
use crate::space::Space;
use crate::superblock::Superblock;
use crate::words::{Change, Words};
use crate::{MappedPageError, MappedResult};

/// A page of a [`DynPager`]: its number, from 3 on. It may be stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DynPageId(pub u64);

/// A file of pages in memory, whose page size is that of the file.
///
/// [`crate::Pager`] is the same with the page size in its type. All that changes which pages are in use is durable when the call
/// returns; what stands in pages is durable after [`DynPager::flush`] or [`DynPager::flush_page`], and protected pages after each commit.
/// A page that is allocated holds what its last owner left, and zeros if it had none.
///
/// ```
/// use pagestone_mapped_pages::DynPager;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pages");
/// let mut pager = DynPager::create(&path, 12)?;   // pages of 4096 bytes
/// let id = pager.alloc()?;                        // durable
/// pager.get_mut(id)?.as_bytes_mut()[..5].copy_from_slice(b"stone");
/// pager.flush_page(id)?;                          // so is what stands in it
/// drop(pager);
///
/// let pager = DynPager::open(&path)?;
/// assert_eq!((pager.page_size(), &pager.get(id)?.as_bytes()[..5]), (4096, &b"stone"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DynPager {
    pub(crate) maps: Maps,
    pub(crate) metadata: Metadata,
    pub(crate) space: Space,
    pub(crate) superblock: Superblock,
    pub(crate) layout: Layout,
    pub(crate) file: Arc<dyn File>,
    pub(crate) poison: Poison,
    /// What a protected page shows that was never written.
    pub(crate) zeros: OnceLock<Box<[u8]>>,
    pub(crate) metrics: MappedMetrics,
}

impl DynPager {
    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        self.layout.page_size()
    }

    /// Pages of the file, the three reserved ones among them: one past the highest id that there can be now.
    pub fn page_count(&self) -> u64 {
        RESERVED + self.metadata.pages()
    }

    /// Pages that can be allocated before the file has to grow.
    pub fn free_page_count(&self) -> u64 {
        self.space.free_pages()
    }

    pub(crate) fn words(&self) -> &Words {
        self.metadata.words()
    }

    pub(crate) fn counters(&self) -> &MappedMetrics {
        &self.metrics
    }

    /// A page that nobody has, the lowest. The file grows if it has none.
    ///
    /// Errors: `Io` if the file cannot grow, after which the pager is `Unavailable`; `Unavailable` after a failed growth or sync.
    pub fn alloc(&mut self) -> MappedResult<DynPageId> {
        let ids = self.alloc_bulk(1)?;
        Ok(ids[0])
    }

    /// So many pages that nobody has, in one commit; all or none. Otherwise as [`DynPager::alloc`].
    pub fn alloc_bulk(&mut self, count: usize) -> MappedResult<Vec<DynPageId>> {
        let mut change = Change::default();
        let pages = self.find_pages(&mut change, count)?;
        self.commit(change)?;
        Ok(pages.into_iter().map(|index| DynPageId(index + RESERVED)).collect())
    }

    /// Has a change use so many pages that are free, and gives their indices. Grows the file as far as need be.
    pub(crate) fn find_pages(&mut self, change: &mut Change, count: usize) -> MappedResult<Vec<u64>> {
        self.poison.check()?;
        let in_use = self.metadata.pages() - self.space.free_pages();
        if count as u64 > self.layout.pages_max() - in_use {
            return Err(self.too_large());
        }
        loop {
            let mut tried = change.clone();
            let found = self.space.find_pages(self.words(), &mut tried, self.metadata.pages(), count);
            if found.len() == count {
                *change = tried;
                return Ok(found);
            }
            // As far as is known to be needed; what the change takes beside is found out by the next look.
            let missing = (count - found.len()) as u64;
            let pages = self.metadata.pages();
            while self.metadata.pages() < pages + missing {
                if !self.grow()? {
                    return Err(self.too_large());
                }
            }
        }
    }

    fn too_large(&self) -> MappedPageError {
        MappedPageError::io("grow the file", std::io::ErrorKind::FileTooLarge.into())
    }

    /// Gives a page back. It may be given out again at once.
    ///
    /// Errors, with nothing changed: `DoubleFree`, `OutOfBounds`, `ReservedPage`; `Unavailable`, and `Io` for metadata that could not
    /// be written.
    pub fn free(&mut self, id: DynPageId) -> MappedResult<()> {
        self.free_bulk([id])
    }

    /// Gives pages back, in one commit: all or, if one of the ids is wrong or there twice, none. Otherwise as [`DynPager::free`].
    pub fn free_bulk(&mut self, ids: impl AsRef<[DynPageId]>) -> MappedResult<()> {
        self.poison.check()?;
        let mut change = Change::default();
        for id in ids.as_ref() {
            self.give_back(&mut change, *id)?;
        }
        self.commit(change)
    }

    /// Has a change free a page.
    pub(crate) fn give_back(&self, change: &mut Change, id: DynPageId) -> MappedResult<()> {
        let twice = MappedPageError::DoubleFree { page: id.0 };
        if planted("a page is freed twice and nobody is told") && self.allocated(id).is_err() {
            return Ok(());
        }
        let index = self.allocated(id).map_err(|error| match error {
            MappedPageError::NotAllocated { .. } => MappedPageError::DoubleFree { page: id.0 },
            other => other,
        })?;
        let (address, bit) = bit_of(index);
        let used = change.get(self.words(), address);
        if used & bit == 0 {
            return Err(twice);
        }
        change.set(address, used & !bit);
        Ok(())
    }

    /// The index of a page that is somebody's. `Unavailable` of all after a failed growth or sync: nothing is lent then.
    #[inline]
    fn allocated(&self, id: DynPageId) -> MappedResult<u64> {
        let index = id.0.wrapping_sub(RESERVED);
        if self.maps.is_lent(index) { Ok(index) } else { Err(self.not_allocated(id)) }
    }

    #[cold]
    fn not_allocated(&self, id: DynPageId) -> MappedPageError {
        let page = id.0;
        if let Err(unavailable) = self.poison.check() {
            return unavailable.into();
        }
        let Some(index) = page.checked_sub(RESERVED) else { return MappedPageError::ReservedPage { page } };
        if index >= self.metadata.pages() {
            return MappedPageError::OutOfBounds { page, page_count: self.page_count() };
        }
        let (address, bit) = bit_of(index);
        match self.words().get(address) & bit {
            0 => MappedPageError::NotAllocated { page },
            _ => MappedPageError::ReservedPage { page },
        }
    }

    /// A page, to read.
    ///
    /// Errors: `NotAllocated`, `OutOfBounds`, `ReservedPage`; `Unavailable`; `Io` if it is the first page of its part of the file that is
    /// asked for since the file was opened, and that part cannot be mapped: the next call tries again.
    #[inline]
    pub fn get(&self, id: DynPageId) -> MappedResult<&MappedPage> {
        self.get_in(id, self.layout.shape())
    }

    /// The same, of pages of this shape, which is that of the file.
    #[inline]
    pub(crate) fn get_in(&self, id: DynPageId, shape: Shape) -> MappedResult<&MappedPage> {
        let index = id.0.wrapping_sub(RESERVED);
        match self.maps.lent(index, shape) {
            Some(bytes) => Ok(MappedPage::from_bytes(bytes)),
            None => self.get_first(id),
        }
    }

    /// A page whose part of the file is not mapped yet, or not by the system; or why there is none.
    #[cold]
    #[inline(never)]
    fn get_first(&self, id: DynPageId) -> MappedResult<&MappedPage> {
        let index = self.allocated(id)?;
        Ok(MappedPage::from_bytes(self.maps.page(index).map_err(not_mapped)?))
    }

    /// A page, to read and write. What is written may reach the disk at any instant, and is there after [`DynPager::flush_page`].
    /// Errors are those of [`DynPager::get`].
    #[inline]
    pub fn get_mut(&mut self, id: DynPageId) -> MappedResult<&mut MappedPage> {
        self.get_mut_in(id, self.layout.shape())
    }

    /// The same, of pages of this shape, which is that of the file.
    #[inline]
    pub(crate) fn get_mut_in(&mut self, id: DynPageId, shape: Shape) -> MappedResult<&mut MappedPage> {
        let index = id.0.wrapping_sub(RESERVED);
        if !self.maps.is_ready(index, shape) {
            self.get_first(id)?;
        }
        Ok(MappedPage::from_bytes_mut(self.maps.page_mut(index, shape).map_err(not_mapped)?))
    }

    /// Several pages at once, to read and write, in the order of the ids. Errors are those of [`DynPager::get`], and `BorrowedTwice` for
    /// an id that is there twice.
    pub fn get_many_mut<const K: usize>(
        &mut self,
        ids: [DynPageId; K],
    ) -> MappedResult<[&mut MappedPage; K]> {
        self.poison.check()?;
        let mut indices = [0; K];
        for (at, id) in ids.iter().enumerate() {
            if ids[..at].contains(id) {
                return Err(MappedPageError::BorrowedTwice { page: id.0 });
            }
            indices[at] = self.allocated(*id)?;
        }
        Ok(self.maps.pages_mut(indices).map_err(not_mapped)?.map(MappedPage::from_bytes_mut))
    }

    /// Makes durable what stands in all pages.
    ///
    /// Errors: `Unavailable` from the first failure on: nobody knows what is on disk.
    pub fn flush(&mut self) -> MappedResult<()> {
        self.poison.check()?;
        let synced = self.file.sync();
        self.finally("flush", synced)
    }

    /// Makes durable what stands in one page, and in those that share its 4 KiB. Errors are those of [`DynPager::get`] and
    /// [`DynPager::flush`].
    pub fn flush_page(&mut self, id: DynPageId) -> MappedResult<()> {
        self.poison.check()?;
        let index = self.allocated(id)?;
        let flushed = self.maps.flush(index);
        self.finally("flush a page", flushed)
    }

    /// Gives free pages at the end of the file back to the file system; gives how many. Ids stay what they are.
    ///
    /// Errors: as of [`DynPager::free`]; `Io` if the file cannot be cut, after which the pager is `Unavailable`.
    pub fn shrink(&mut self) -> MappedResult<u64> {
        self.poison.check()?;
        let before = self.metadata.pages();
        let needed = self.last_in_use().map_or(0, |last| last + 1).next_multiple_of(self.layout.granule());
        if needed == before {
            return Ok(0);
        }
        self.commit(Change { pages: Some(needed), ..Change::default() })?;
        // Some systems cut no file that is mapped anywhere. A cut that does not happen is made up for at the next growth.
        self.maps = self.maps_of(0);
        let cut = self.file.set_len(self.layout.file_len(needed));
        self.or_unavailable("cut the file", cut)?;
        self.maps = self.maps_of(needed);
        self.lend_all();
        Ok(before - needed)
    }

    fn last_in_use(&self) -> Option<u64> {
        let words = self.words();
        let region = (0..words.regions()).rev().find(|region| {
            words.has_map(*region)
                && (0..REGION_PAGES as usize / 64).any(|word| words.map(*region, word) != 0)
        })?;
        let word = (0..REGION_PAGES as usize / 64).rev().find(|word| words.map(region, *word) != 0)?;
        let bit = u64::from(words.map(region, word).ilog2());
        Some(region as u64 * REGION_PAGES + word as u64 * 64 + bit)
    }

    /// All pages that were allocated and are no protected ones, by ascending id.
    pub fn iter_allocated_pages(&self) -> DynAllocatedPageIter<'_> {
        DynAllocatedPageIter::new(self)
    }

    /// All protected pages, by ascending id.
    pub fn iter_allocated_protected_pages(&self) -> DynAllocatedProtectedPageIter<'_> {
        DynAllocatedProtectedPageIter::new(self)
    }

    /// Makes a change durable, and counts again what it touched.
    pub(crate) fn commit(&mut self, mut change: Change) -> MappedResult<()> {
        if change.is_empty() {
            return Ok(());
        }
        if !self.publish(&mut change)? {
            self.write_out(&mut change)?;
            let is_published = self.publish(&mut change)?;
            assert!(is_published, "no patches are left");
        }
        let pages = self.metadata.pages();
        if change.pages.is_some() {
            self.space.resize(self.metadata.words(), pages);
        }
        let mut counted = None;
        for region in change.words.keys().map(|address| address.region()) {
            if counted.replace(region) != Some(region) {
                self.space.count(region, self.metadata.words(), pages);
                self.lend(region);
            }
        }
        Ok(())
    }

    fn publish(&mut self, change: &mut Change) -> MappedResult<bool> {
        let published = self.metadata.commit(change, &self.metrics);
        if self.poison.is_poisoned() {
            self.maps.lend_nothing();
        }
        published
    }

    /// Has the pages of a region be found that are somebody's and no copies.
    pub(crate) fn lend(&mut self, region: usize) {
        let (words, space) = (self.metadata.words(), &self.space);
        self.maps.lend(region, |word| words.map(region, word) & !space.copies(region, word));
    }

    /// The same of all regions, where all windows are new.
    pub(crate) fn lend_all(&mut self) {
        for region in 0..self.words().regions() {
            if self.words().has_map(region) {
                self.lend(region);
            }
        }
    }

    /// Makes the file longer, by as much as it has within limits. `false`, with nothing changed, if it is as long as a file can be.
    pub(crate) fn grow(&mut self) -> MappedResult<bool> {
        let pages = self.metadata.pages();
        let Some(grown) = self.layout.grown(pages) else { return Ok(false) };
        let lengthened = self.lengthen(pages, grown);
        self.or_unavailable("grow the file", lengthened)?;
        // The root must not speak of pages that a crash takes back (M2).
        if !planted("a root speaks of pages that the file may lose") {
            let synced = self.file.sync();
            self.finally("sync the grown file", synced)?;
        }
        let mapped = self.maps.grow(grown);
        self.or_unavailable("map the grown file", mapped)?;
        self.commit(Change { pages: Some(grown), ..Change::default() })?;
        self.metrics.growths.inc();
        Ok(true)
    }

    fn maps_of(&self, pages: u64) -> Maps {
        let (file, reserve) = (Arc::clone(&self.file), self.superblock.reserve);
        Maps::new(self.layout, file, MapAccess::Write, reserve, pages)
    }

    fn lengthen(&self, pages: u64, grown: u64) -> std::io::Result<()> {
        let before = self.layout.file_len(pages);
        // What a cut growth or a cut shrinking left behind the end must not look like metadata of a new region.
        if self.file.len()? > before {
            self.file.set_len(before)?;
        }
        let after = self.layout.file_len(grown);
        if !self.superblock.reserve {
            return self.file.set_len(after);
        }
        let region = region_of(pages);
        if place_of(pages) == 0 {
            let slots = self.layout.slot_at(BlockId::new(region, 0), 0);
            self.file.reserve(slots, 2 * crate::layout::BLOCK as u64)?;
        }
        let start = self.layout.page_at(region, place_of(pages));
        self.file.reserve(start, after - start)
    }

    /// After this nobody knows what is on disk.
    pub(crate) fn finally(
        &mut self,
        operation: &'static str,
        result: std::io::Result<()>,
    ) -> MappedResult<()> {
        result.map_err(|error| {
            self.maps.lend_nothing();
            self.poison.poison(format_args!("{operation} failed: {error}")).into()
        })
    }

    /// After this the file is not as long as it should be, or not mapped. The first who is told gets what the system said.
    fn or_unavailable(&mut self, operation: &'static str, result: std::io::Result<()>) -> MappedResult<()> {
        result.map_err(|error| {
            self.maps.lend_nothing();
            self.poison.poison(format_args!("{operation} failed: {error}"));
            MappedPageError::io(operation, error)
        })
    }
}

/// A part of the file is mapped when its first page is asked for.
#[cold]
pub(crate) fn not_mapped(error: std::io::Error) -> MappedPageError {
    MappedPageError::io("map a part of the file", error)
}

fn bit_of(index: u64) -> (Address, u64) {
    let place = place_of(index);
    (Address::map(region_of(index), (place / 64) as usize), 1 << (place % 64))
}
