//! Pages in pieces: equal slots of a page, each with an owner of its own.
//!
//! Invariant: a handle is believed only while its slot is in the hands of those for whom it was made; a parent page with no slot in use is
//! given back to the pager.
//!
//! ```text
//!   parent page   │ slot 0 │ slot 1 │ … │        PARENT / SUB of them
//!   in memory     │ 17     │ 0      │ … │        which allocation has the slot; 0: nobody
//!   handle        page, slot, 17                 another number: stale
//! ```
//!
//! Numbers of allocations are never used again, so a handle stays stale when its slot, or a page of the same id, is somebody else's. They
//! live as long as the allocator; handles are not stored. What is stored is page and slot: [`SubPageAllocator::mark_used`] makes a
//! handle of them after reopening, or, where the allocator keeps its state on disk ([`SubPageAllocator::create_on_disk`]),
//! [`SubPageAllocator::find`].
//!
//! ```text
//!   mod.rs       SubPageAllocator
//!   slots.rs     which slots are free
//!   on_disk.rs   the same in protected pages
//! ```

mod on_disk;
mod slots;

use pagestone_direct_io::MappedPage;

use crate::words::Change;
use crate::{
    BulkPageAllocator, DynPageId, MappedPageError, MappedResult, PageAllocator, PageHandle, PageId, Pager,
    ProtectedPageId,
};
use on_disk::Chain;
use slots::{Found, Slots};

/// One slot of a page of `PARENT` bytes, `SUB` bytes long, for as long as nobody frees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubPageId<const PARENT: usize, const SUB: usize> {
    page: PageId<PARENT>,
    slot: usize,
    allocation: u64,
}

impl<const PARENT: usize, const SUB: usize> SubPageId<PARENT, SUB> {
    /// The page in which it lies.
    pub fn page(&self) -> PageId<PARENT> {
        self.page
    }

    /// The slot of that page, from 0 on.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The slot as bytes of the page.
    pub fn get<'a>(&self, allocator: &'a SubPageAllocator<PARENT, SUB>) -> MappedResult<&'a MappedPage> {
        allocator.check(*self)?;
        let page = self.page.get(&allocator.pager)?;
        Ok(MappedPage::from_bytes(&page.as_bytes()[self.slot * SUB..(self.slot + 1) * SUB]))
    }

    /// The same, to change. It is durable when the page is flushed.
    pub fn get_mut<'a>(
        &self,
        allocator: &'a mut SubPageAllocator<PARENT, SUB>,
    ) -> MappedResult<&'a mut MappedPage> {
        allocator.check(*self)?;
        let page = self.page.get_mut(&mut allocator.pager)?;
        Ok(MappedPage::from_bytes_mut(&mut page.as_bytes_mut()[self.slot * SUB..(self.slot + 1) * SUB]))
    }
}

/// Divides pages of a pager into slots of `SUB` bytes: a power of two, less than `PARENT`, which is checked when it is compiled.
///
/// ```
/// use pagestone_mapped_pages::{MappedPageError, Pager, SubPageAllocator};
/// # let dir = tempfile::tempdir()?;
/// let pager = Pager::<4096>::create(dir.path().join("pages"))?;
/// let mut slots = SubPageAllocator::<4096, 512>::new(pager);
/// let id = slots.alloc()?;
/// id.get_mut(&mut slots)?.as_bytes_mut().fill(7);
/// assert_eq!(id.get(&slots)?.len(), 512);
/// slots.free(id)?;
/// let other = slots.alloc()?;                                                   // the same slot
/// assert!(matches!(id.get(&slots), Err(MappedPageError::StaleHandle { .. })));  // and not the same owner
/// assert_eq!(other.slot(), id.slot());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0080
/// # use pagestone_mapped_pages::{Pager, SubPageAllocator};
/// let slots = SubPageAllocator::<4096, 500>::new(Pager::open("pages").unwrap());
/// ```
#[derive(Debug)]
pub struct SubPageAllocator<const PARENT: usize, const SUB: usize> {
    pager: Pager<PARENT>,
    slots: Slots,
    /// None: the state is in memory alone.
    chain: Option<Chain>,
}

impl<const PARENT: usize, const SUB: usize> SubPageAllocator<PARENT, SUB> {
    /// Slots of a page.
    const SLOTS: usize = {
        assert!(SUB.is_power_of_two(), "a sub-page's size is a power of two");
        assert!(SUB < PARENT, "a sub-page is less than a page");
        PARENT / SUB
    };

    /// Over a pager, without a page of it yet. Which slots are in use is known in memory alone: after reopening, whoever stored
    /// pages and slots tells by [`SubPageAllocator::mark_used`].
    pub fn new(pager: Pager<PARENT>) -> Self {
        Self { pager, slots: Slots::new(Self::SLOTS), chain: None }
    }

    /// Over a pager, with a state that is kept in protected pages: every call is durable when it returns, and whole after a crash.
    /// [`SubPageAllocator::head`] is what to store, for [`SubPageAllocator::open_on_disk`].
    ///
    /// Errors: those of [`Pager::alloc_protected`].
    pub fn create_on_disk(mut pager: Pager<PARENT>) -> MappedResult<Self> {
        let chain = Chain::create(pager.dyn_mut(), Self::SLOTS)?;
        Ok(Self { pager, slots: Slots::new(Self::SLOTS), chain: Some(chain) })
    }

    /// Over a pager in which [`SubPageAllocator::create_on_disk`] made this head.
    ///
    /// Errors: `CorruptProtectedDirectory` for a page that is no such head, of other sizes, or contradicts itself; those of
    /// [`ProtectedPageId::get`].
    pub fn open_on_disk(pager: Pager<PARENT>, head: ProtectedPageId<PARENT>) -> MappedResult<Self> {
        let (chain, slots) = Chain::open(pager.as_dyn(), head.0, Self::SLOTS)?;
        Ok(Self { pager, slots, chain: Some(chain) })
    }

    /// Where the state is kept, if it is kept on disk.
    pub fn head(&self) -> Option<ProtectedPageId<PARENT>> {
        self.chain.as_ref().map(|chain| ProtectedPageId(chain.head()))
    }

    /// The pager.
    pub fn pager(&self) -> &Pager<PARENT> {
        &self.pager
    }

    /// The pager, to flush it or to change other pages of it.
    pub fn pager_mut(&mut self) -> &mut Pager<PARENT> {
        &mut self.pager
    }

    /// Gives the pager back. Pages with slots in use stay allocated.
    pub fn into_pager(self) -> Pager<PARENT> {
        self.pager
    }

    /// A slot that nobody has. A page that is needed for it is allocated, durably.
    ///
    /// Errors: those of [`Pager::alloc`].
    pub fn alloc(&mut self) -> MappedResult<SubPageId<PARENT, SUB>> {
        let ids = self.alloc_bulk(1)?;
        Ok(ids[0])
    }

    /// So many slots that nobody has; all or none. Otherwise as [`SubPageAllocator::alloc`].
    pub fn alloc_bulk(&mut self, count: usize) -> MappedResult<Vec<SubPageId<PARENT, SUB>>> {
        let mut change = Change::default();
        let mut found = self.slots.find(count);
        let missing = (count - found.len()).div_ceil(Self::SLOTS);
        let parents = self.pager.dyn_mut().find_pages(&mut change, missing)?;
        let parents = parents.into_iter().map(|index| index + crate::layout::RESERVED);
        found.extend(parents.flat_map(|page| (0..Self::SLOTS).map(move |slot| Found { page, slot })));
        found.truncate(count);
        let taken = self.slots.with(&found);
        match &mut self.chain {
            Some(chain) => chain.commit(self.pager.dyn_mut(), change, &taken)?,
            None => self.pager.dyn_mut().commit(change)?,
        }
        let id = |found: &Found| {
            let allocation = self.slots.take(*found);
            SubPageId { page: PageId(found.page), slot: found.slot, allocation }
        };
        Ok(found.iter().map(id).collect())
    }

    /// Gives a slot back; a page whose last one it was goes back to the pager.
    ///
    /// Errors, with nothing changed: `StaleHandle` for one that was freed before; those of [`Pager::free`].
    pub fn free(&mut self, id: SubPageId<PARENT, SUB>) -> MappedResult<()> {
        self.free_bulk([id])
    }

    /// Gives slots back: all or, if one is stale or there twice (`DoubleFree`), none. Otherwise as [`SubPageAllocator::free`].
    pub fn free_bulk(&mut self, ids: impl AsRef<[SubPageId<PARENT, SUB>]>) -> MappedResult<()> {
        let mut ids = ids.as_ref().to_vec();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(MappedPageError::DoubleFree { page: pair[0].page.0 });
        }
        ids.iter().try_for_each(|id| self.check(*id))?;
        let found: Vec<Found> = ids.iter().map(|id| Found { page: id.page.0, slot: id.slot }).collect();
        let left = self.slots.without(&found);
        let mut change = Change::default();
        for (page, _) in left.iter().filter(|(_, used)| used.iter().all(|word| *word == 0)) {
            self.pager.as_dyn().give_back(&mut change, DynPageId(*page))?;
        }
        match &mut self.chain {
            Some(chain) => chain.commit(self.pager.dyn_mut(), change, &left)?,
            None => self.pager.dyn_mut().commit(change)?,
        }
        found.iter().for_each(|found| self.slots.give(*found));
        Ok(())
    }

    /// Says that a slot was in use before the file was opened, and makes a handle for it; `page` was allocated then and is so now.
    ///
    /// Errors: `OutOfBounds` for a slot that no page has, those of [`PageId::get`] for the page, `DoubleFree` for a slot that is known
    /// to be in use. Where the state is on disk it needs no telling, and every slot in use is an error.
    pub fn mark_used(&mut self, page: PageId<PARENT>, slot: usize) -> MappedResult<SubPageId<PARENT, SUB>> {
        page.get(&self.pager)?;
        let found = Found { page: page.0, slot };
        if slot >= Self::SLOTS {
            return Err(MappedPageError::OutOfBounds { page: slot as u64, page_count: Self::SLOTS as u64 });
        }
        if self.slots.allocation(found) != 0 {
            return Err(MappedPageError::DoubleFree { page: page.0 });
        }
        let taken = self.slots.with(&[found]);
        if let Some(chain) = &mut self.chain {
            chain.commit(self.pager.dyn_mut(), Change::default(), &taken)?;
        }
        let allocation = self.slots.take(found);
        Ok(SubPageId { page, slot, allocation })
    }

    /// The handle of a slot that is in use: after [`SubPageAllocator::open_on_disk`], of one that was stored as page and slot.
    pub fn find(&self, page: PageId<PARENT>, slot: usize) -> Option<SubPageId<PARENT, SUB>> {
        let allocation = self.slots.allocation(Found { page: page.0, slot });
        (allocation != 0).then_some(SubPageId { page, slot, allocation })
    }

    /// All slots in use, by page and slot.
    pub fn iter(&self) -> impl Iterator<Item = SubPageId<PARENT, SUB>> + '_ {
        self.slots.iter().map(|(found, allocation)| SubPageId {
            page: PageId(found.page),
            slot: found.slot,
            allocation,
        })
    }

    fn check(&self, id: SubPageId<PARENT, SUB>) -> MappedResult<()> {
        let known = self.slots.allocation(Found { page: id.page.0, slot: id.slot });
        if known != id.allocation {
            return Err(MappedPageError::StaleHandle { page: id.page.0, slot: id.slot });
        }
        Ok(())
    }
}

impl<const PARENT: usize, const SUB: usize> PageHandle<SubPageAllocator<PARENT, SUB>>
    for SubPageId<PARENT, SUB>
{
    type Error = MappedPageError;
    type Mut<'a> = &'a mut MappedPage;

    fn get<'a>(&self, allocator: &'a SubPageAllocator<PARENT, SUB>) -> MappedResult<&'a MappedPage> {
        SubPageId::get(self, allocator)
    }

    fn get_mut<'a>(
        &self,
        allocator: &'a mut SubPageAllocator<PARENT, SUB>,
    ) -> MappedResult<&'a mut MappedPage> {
        SubPageId::get_mut(self, allocator)
    }
}

impl<const PARENT: usize, const SUB: usize> PageAllocator<SubPageId<PARENT, SUB>>
    for SubPageAllocator<PARENT, SUB>
{
    type Error = MappedPageError;

    fn alloc(&mut self) -> MappedResult<SubPageId<PARENT, SUB>> {
        SubPageAllocator::alloc(self)
    }

    fn free(&mut self, page: SubPageId<PARENT, SUB>) -> MappedResult<()> {
        SubPageAllocator::free(self, page)
    }
}

impl<const PARENT: usize, const SUB: usize> BulkPageAllocator<SubPageId<PARENT, SUB>>
    for SubPageAllocator<PARENT, SUB>
{
    fn alloc_bulk(&mut self, count: usize) -> MappedResult<Vec<SubPageId<PARENT, SUB>>> {
        SubPageAllocator::alloc_bulk(self, count)
    }

    fn free_bulk(&mut self, pages: Vec<SubPageId<PARENT, SUB>>) -> MappedResult<()> {
        SubPageAllocator::free_bulk(self, pages)
    }
}
