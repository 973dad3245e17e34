//! Protected pages: whole after every crash, old or new.
//!
//! Invariants (numbered in `docs/invariants.md`):
//! * M4: the active copy of a protected page is written to by nobody; its bytes are durable before the commit that makes it active.
//!
//! ```text
//!   get_mut   active copy, verified ──copied──► the other copy        the writer changes that
//!   commit    flush the other copy ──► entry: it is active, checksum ──► metadata.commit
//!   drop      nothing: the other copy is nobody's until the next writer fills it
//! ```
//!
//! A new protected page has no bytes yet and shows zeros, whatever its copies held before.

use pagestone_direct_io::MappedPage;

use crate::directory::{Entry, checksum, id_of, place_of};
use crate::dyn_pager::{DynPager, not_mapped};
use crate::layout::{Address, ENTRY_LOG2, REGION_PAGES};
use crate::words::Change;
use crate::{MappedPageError, MappedResult};

/// A protected page of a [`DynPager`]. It may be stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DynProtectedPageId(pub u64);

/// Protected pages that a change takes, to be told to the space once it counts.
pub(crate) type Taken = Vec<(usize, usize, Entry)>;

impl DynPager {
    /// A protected page that nobody has. It shows zeros.
    ///
    /// Errors: as of [`DynPager::alloc`]; `DirectoryFull` if the file is as long as it can be.
    pub fn alloc_protected(&mut self) -> MappedResult<DynProtectedPageId> {
        let ids = self.alloc_protected_bulk(1)?;
        Ok(ids[0])
    }

    /// So many protected pages that nobody has, in one commit; all or none. Otherwise as [`DynPager::alloc_protected`].
    pub fn alloc_protected_bulk(&mut self, count: usize) -> MappedResult<Vec<DynProtectedPageId>> {
        let mut change = Change::default();
        let taken = self.find_protected(&mut change, count)?;
        self.commit_protected(&change, &taken)?;
        Ok(taken.iter().map(|(region, entry, _)| DynProtectedPageId(id_of(*region, *entry))).collect())
    }

    /// Has a change use so many protected pages. Grows the file as far as need be.
    pub(crate) fn find_protected(&mut self, change: &mut Change, count: usize) -> MappedResult<Taken> {
        self.poison.check()?;
        let full =
            MappedPageError::DirectoryFull { capacity: self.layout.regions_max * self.layout.entries_max() };
        let mut taken = Taken::new();
        let mut from = (0, 0);
        while taken.len() < count {
            match self.space.find_pair(self.words(), change, self.metadata.pages(), &mut from) {
                Some(found) => taken.push(found),
                None if self.grow()? => {}
                None => return Err(full),
            }
        }
        Ok(taken)
    }

    /// Makes a change durable by which these protected pages are allocated.
    pub(crate) fn commit_protected(&mut self, change: &Change, taken: &Taken) -> MappedResult<()> {
        self.commit(change)?;
        for (region, number, entry) in taken {
            entry.copies.iter().for_each(|copy| self.space.set_copy(*region, *copy, true));
            self.space.set_entry_free(*region, *number, false);
        }
        Ok(())
    }

    /// Gives a protected page back, both of its copies.
    ///
    /// Errors, with nothing changed: `DoubleFree`, `OutOfBounds`; `Unavailable`, and `Io` for metadata that could not be written.
    pub fn free_protected(&mut self, id: DynProtectedPageId) -> MappedResult<()> {
        self.free_protected_bulk([id])
    }

    /// Gives protected pages back, in one commit: all or, if one of the ids is wrong or there twice, none. Otherwise as
    /// [`DynPager::free_protected`].
    pub fn free_protected_bulk(&mut self, ids: impl AsRef<[DynProtectedPageId]>) -> MappedResult<()> {
        self.poison.check()?;
        let mut change = Change::default();
        let mut freed = Vec::with_capacity(ids.as_ref().len());
        for id in ids.as_ref() {
            let (region, number) = place_of(id.0);
            let twice = MappedPageError::DoubleFree { page: id.0 };
            let entry = self.protected(*id).map_err(|error| match error {
                MappedPageError::NotAllocated { page } => MappedPageError::DoubleFree { page },
                other => other,
            })?;
            if change.words.contains_key(&Address::entry(region, number, 0)) {
                return Err(twice);
            }
            (0..2).for_each(|word| change.set(Address::entry(region, number, word), 0));
            for copy in entry.copies {
                let address = Address::map(region, (copy / 64) as usize);
                let granule = ((1 << self.layout.granule()) - 1) << (copy % 64);
                change.set(address, change.get(self.words(), address) & !granule);
            }
            freed.push((region, number, entry));
        }
        self.commit(&change)?;
        for (region, number, entry) in freed {
            entry.copies.iter().for_each(|copy| self.space.set_copy(region, *copy, false));
            self.space.set_entry_free(region, number, true);
        }
        Ok(())
    }

    /// The entry of a protected page that is somebody's.
    fn protected(&self, id: DynProtectedPageId) -> MappedResult<Entry> {
        let (region, number) = place_of(id.0);
        let words = self.words();
        if region >= words.regions() || number >= words.entries(region) {
            let page_count = (words.regions() as u64) << ENTRY_LOG2;
            return Err(MappedPageError::OutOfBounds { page: id.0, page_count });
        }
        let decoded = Entry::decode(words.entry(region, number));
        let wrong = |reason| MappedPageError::CorruptProtectedDirectory { page: id.0, reason };
        decoded.map_err(wrong)?.ok_or(MappedPageError::NotAllocated { page: id.0 })
    }

    /// What was committed to a protected page last, verified; zeros if nothing was.
    ///
    /// Errors: `NotAllocated`, `OutOfBounds`; `CorruptProtectedPage` if it is not what was committed; `Unavailable`.
    pub fn get_protected(&self, id: DynProtectedPageId) -> MappedResult<&MappedPage> {
        self.poison.check()?;
        let entry = self.protected(id)?;
        self.active(id, &entry).map(MappedPage::from_bytes)
    }

    fn active(&self, id: DynProtectedPageId, entry: &Entry) -> MappedResult<&[u8]> {
        let Some(stored) = entry.checksum else {
            return Ok(self.zeros.get_or_init(|| vec![0; self.page_size()].into_boxed_slice()));
        };
        let bytes = self.maps.page(index_of(id, entry.copies[entry.active])).map_err(not_mapped)?;
        let computed = checksum(self.superblock.uuid, id.0, bytes);
        if computed != stored {
            self.metrics.damaged.inc();
            return Err(MappedPageError::CorruptProtectedPage { page: id.0, stored, computed });
        }
        Ok(bytes)
    }

    /// A writer of a protected page, which begins with what was committed last. Errors are those of [`DynPager::get_protected`].
    pub fn get_protected_mut(&mut self, id: DynProtectedPageId) -> MappedResult<DynProtectedPageWriter<'_>> {
        self.poison.check()?;
        let entry = self.stage(id)?;
        Ok(DynProtectedPageWriter { pager: self, id, entry })
    }

    /// Puts what was committed last into the copy that does not count.
    pub(crate) fn stage(&mut self, id: DynProtectedPageId) -> MappedResult<Entry> {
        let entry = self.protected(id)?;
        self.active(id, &entry)?;
        if entry.checksum.is_none() {
            return self.stage_new(id, entry);
        }
        let copies = [entry.active, 1 - entry.active].map(|copy| index_of(id, entry.copies[copy]));
        let [active, other] = self.maps.pages_mut(copies).map_err(not_mapped)?;
        other.copy_from_slice(active);
        Ok(entry)
    }

    /// The same for a page that was never written.
    pub(crate) fn stage_new(&mut self, id: DynProtectedPageId, entry: Entry) -> MappedResult<Entry> {
        self.staged_mut(id, &entry)?.fill(0);
        Ok(entry)
    }

    /// The copy that does not count.
    pub(crate) fn staged_mut(&mut self, id: DynProtectedPageId, entry: &Entry) -> MappedResult<&mut [u8]> {
        let shape = self.layout.shape();
        self.maps.page_mut(index_of(id, entry.copies[1 - entry.active]), shape).map_err(not_mapped)
    }

    /// Makes durable what stands in the copy that does not count, and has a change make it count.
    pub(crate) fn promote(
        &mut self,
        change: &mut Change,
        id: DynProtectedPageId,
        entry: Entry,
    ) -> MappedResult<()> {
        let active = 1 - entry.active;
        let index = index_of(id, entry.copies[active]);
        let flushed = self.maps.flush(index);
        self.finally("flush a protected page", flushed)?;
        let checksum = checksum(self.superblock.uuid, id.0, self.maps.page(index).map_err(not_mapped)?);
        let promoted = Entry { active, checksum: Some(checksum), ..entry };
        let (region, number) = place_of(id.0);
        for (word, value) in promoted.encode().into_iter().enumerate() {
            change.set(Address::entry(region, number, word), value);
        }
        Ok(())
    }
}

fn index_of(id: DynProtectedPageId, copy: u64) -> u64 {
    place_of(id.0).0 as u64 * REGION_PAGES + copy
}

/// A change of a protected page that counts once it is committed. To drop it discards what was written.
#[derive(Debug)]
pub struct DynProtectedPageWriter<'a> {
    pub(crate) pager: &'a mut DynPager,
    id: DynProtectedPageId,
    entry: Entry,
}

impl DynProtectedPageWriter<'_> {
    /// The page as it will be.
    pub fn page_mut(&mut self) -> &mut MappedPage {
        let staged = self.pager.staged_mut(self.id, &self.entry);
        MappedPage::from_bytes_mut(staged.expect("it was mapped when the writer was made"))
    }

    /// Makes it durable, whole, and what readers see.
    ///
    /// Errors: `Unavailable` for good if nobody knows what is on disk, which is the old page or the new one; `Io`, with the old one in
    /// place, for metadata that could not be written.
    pub fn commit(self) -> MappedResult<()> {
        let mut change = Change::default();
        self.pager.promote(&mut change, self.id, self.entry)?;
        self.pager.commit(&change)?;
        self.pager.metrics.promotions.inc();
        Ok(())
    }
}
