//! Protected pages: whole after every crash, old or new.
//!
//! Invariants (numbered in `docs/invariants.md`):
//! * M4: the active copy of a protected page is written to by nobody; its bytes are durable before the commit that makes it active.
//! * M7: a page reads as its active copy with its patch, which is in the root; who writes the copy out has the patch go in the same commit.
//!
//! ```text
//!   get_mut   active copy with its patch, verified ──copied──► the writer's bytes
//!   commit    little differs from the active copy?
//!               yes   patch ──► root                                                             one sync
//!               no    the other copy ──► flush ──► entry: it is active, checksum ──► root        two
//!   drop      nothing
//! ```
//!
//! A new protected page has no bytes yet and shows zeros, whatever its copies held before.

use std::collections::BTreeSet;

use pagestone_direct_io::MappedPage;
use pagestone_sync::faults::planted;

use crate::directory::{Entry, checksum, id_of, place_of};
use crate::dyn_pager::{DynPager, not_mapped};
use crate::layout::{Address, ENTRY_LOG2, REGION_PAGES};
use crate::patch::{PATCHED_PAGE_MAX, Patch, Patched};
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
        self.commit_protected(change, &taken)?;
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
    pub(crate) fn commit_protected(&mut self, change: Change, taken: &Taken) -> MappedResult<()> {
        self.commit(change)?;
        for (region, number, entry) in taken {
            entry.copies.iter().for_each(|copy| self.space.set_copy(*region, *copy, true));
            self.space.set_entry_free(*region, *number, false);
        }
        let regions: BTreeSet<usize> = taken.iter().map(|(region, ..)| *region).collect();
        regions.into_iter().for_each(|region| self.lend(region));
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
            if self.metadata.patched(id.0).is_some() && !planted("a freed page keeps its patch") {
                change.patches.insert(id.0, None);
            }
            for copy in entry.copies {
                let address = Address::map(region, (copy / 64) as usize);
                let granule = ((1 << self.layout.granule()) - 1) << (copy % 64);
                change.set(address, change.get(self.words(), address) & !granule);
            }
            freed.push((region, number, entry));
        }
        self.commit(change)?;
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

    /// What a protected page reads as.
    fn active(&self, id: DynProtectedPageId, entry: &Entry) -> MappedResult<&[u8]> {
        let (stored, bytes) = match self.metadata.patched(id.0) {
            Some(patched) => (Some(patched.patch.checksum), &*patched.bytes),
            None => (entry.checksum, self.base(id, entry)?),
        };
        let Some(stored) = stored else { return Ok(bytes) };
        let computed = checksum(self.superblock.uuid, id.0, bytes);
        if computed != stored {
            self.metrics.damaged.inc();
            return Err(MappedPageError::CorruptProtectedPage { page: id.0, stored, computed });
        }
        Ok(bytes)
    }

    /// What stands in the active copy, verified by nobody; zeros before there was one.
    fn base(&self, id: DynProtectedPageId, entry: &Entry) -> MappedResult<&[u8]> {
        if entry.checksum.is_none() {
            return Ok(self.zeros.get_or_init(|| vec![0; self.page_size()].into_boxed_slice()));
        }
        self.maps.page(index_of(id, entry.copies[entry.active])).map_err(not_mapped)
    }

    /// Makes the pages of patches that a root held, when it is opened.
    pub(crate) fn read_patched(&mut self) -> MappedResult<()> {
        for id in self.metadata.patched_ids() {
            let id = DynProtectedPageId(id);
            let entry = self.protected(id).map_err(|error| match error {
                wrong @ MappedPageError::CorruptProtectedDirectory { .. } => wrong,
                _ => MappedPageError::metadata(format!("a patch of {id:?}, which nobody has")),
            })?;
            let patch = self.metadata.patched(id.0).expect("it is one of those").patch.clone();
            let bytes = patch.apply(self.base(id, &entry)?);
            self.metadata.patched_mut(id.0).expect("it is one of those").bytes = bytes;
        }
        Ok(())
    }

    /// A writer of a protected page, which begins with what was committed last. Errors are those of [`DynPager::get_protected`].
    pub fn get_protected_mut(&mut self, id: DynProtectedPageId) -> MappedResult<DynProtectedPageWriter<'_>> {
        self.poison.check()?;
        let (entry, bytes) = self.stage(id)?;
        Ok(DynProtectedPageWriter { pager: self, id, entry, bytes })
    }

    /// What was committed last, to be changed.
    pub(crate) fn stage(&self, id: DynProtectedPageId) -> MappedResult<(Entry, Box<[u8]>)> {
        let entry = self.protected(id)?;
        Ok((entry, self.active(id, &entry)?.into()))
    }

    /// Has a change make a protected page read so: by a patch if it differs little from its active copy, else by its other copy, which is
    /// made durable here.
    pub(crate) fn put(
        &mut self,
        change: &mut Change,
        id: DynProtectedPageId,
        entry: Entry,
        bytes: Box<[u8]>,
    ) -> MappedResult<()> {
        let checksum = checksum(self.superblock.uuid, id.0, &bytes);
        if bytes.len() <= PATCHED_PAGE_MAX
            && let Some(patch) = Patch::between(self.base(id, &entry)?, &bytes, checksum)
            && (!patch.is_empty() || entry.checksum.is_none_or(|stored| stored == checksum))
        {
            let is_needed = !patch.is_empty();
            if is_needed || self.metadata.patched(id.0).is_some() {
                change.patches.insert(id.0, is_needed.then_some(Patched { patch, bytes }));
            }
            return Ok(());
        }
        let index = self.promote(change, id, entry, &bytes)?;
        if !planted("a copy is not synced before the root that makes it count") {
            let flushed = self.maps.flush(index);
            self.finally("flush a protected page", flushed)?;
        }
        Ok(())
    }

    /// Writes a protected page into the copy that does not count, and has a change make that count; gives its place. It is durable
    /// after a flush of that, or a sync.
    fn promote(
        &mut self,
        change: &mut Change,
        id: DynProtectedPageId,
        entry: Entry,
        bytes: &[u8],
    ) -> MappedResult<u64> {
        let active = 1 - entry.active;
        let index = index_of(id, entry.copies[active]);
        let shape = self.layout.shape();
        self.maps.page_mut(index, shape).map_err(not_mapped)?.copy_from_slice(bytes);
        let checksum = checksum(self.superblock.uuid, id.0, bytes);
        let promoted = Entry { active, checksum: Some(checksum), ..entry };
        let (region, number) = place_of(id.0);
        for (word, value) in promoted.encode().into_iter().enumerate() {
            change.set(Address::entry(region, number, word), value);
        }
        if self.metadata.patched(id.0).is_some() || change.patches.contains_key(&id.0) {
            change.patches.insert(id.0, None);
        }
        Ok(index)
    }

    /// Puts all pages that have or get a patch into their copies, and makes a fold of a change, whose sync makes those durable.
    pub(crate) fn write_out(&mut self, change: &mut Change) -> MappedResult<()> {
        let gone = |id: &u64| matches!(change.patches.get(id), Some(None));
        let mut ids = self.metadata.patched_ids();
        ids.retain(|id| !gone(id));
        ids.extend(change.patches.iter().filter(|(_, patched)| patched.is_some()).map(|(id, _)| *id));
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let bytes = match change.patches.remove(&id) {
                Some(patched) => patched.expect("those without a patch were left out").bytes,
                None => self.metadata.patched(id).expect("it has one").bytes.clone(),
            };
            let (region, number) = place_of(id);
            let words = [0, 1].map(|word| change.get(self.words(), Address::entry(region, number, word)));
            let wrong = |reason| MappedPageError::CorruptProtectedDirectory { page: id, reason };
            let entry = Entry::decode(words).map_err(wrong)?.expect("a page that is freed has no patch");
            self.promote(change, DynProtectedPageId(id), entry, &bytes)?;
        }
        change.is_fold = true;
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
    bytes: Box<[u8]>,
}

impl DynProtectedPageWriter<'_> {
    /// The page as it will be.
    pub fn page_mut(&mut self) -> &mut MappedPage {
        MappedPage::from_bytes_mut(&mut self.bytes)
    }

    /// Makes it durable, whole, and what readers see.
    ///
    /// Costs one sync where little differs from what stands in the page's copy, and two otherwise.
    ///
    /// Errors: `Unavailable` for good if nobody knows what is on disk, which is the old page or the new one; `Io`, with the old one in
    /// place, for metadata that could not be written.
    pub fn commit(self) -> MappedResult<()> {
        let mut change = Change::default();
        self.pager.put(&mut change, self.id, self.entry, self.bytes)?;
        self.pager.commit(change)?;
        self.pager.metrics.promotions.inc();
        Ok(())
    }
}
