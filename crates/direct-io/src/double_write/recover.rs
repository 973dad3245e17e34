//! Opening: what the regions say, and the pages that are restored from them.
//!
//! Invariant: nothing is written before everything that will be is known; a page that stands whole in its place keeps its bytes;
//! no region is written before the data file was synced. So recovery can be cut anywhere and run again (L10).

use std::collections::BTreeMap;
use std::sync::Arc;

use pagestone_page_format::{
    AlignedBuf, Lsn, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore, Poison,
    StoreUuid,
};

use super::header::Header;
use super::regions::Regions;
use super::slots_max;
use super::store::{DoubleWrite, Parts};
use crate::{File, SharedSync, read_exact_at};

/// A copy of a page: its LSN, the sequence of its region, its slot. Ordered as recovery prefers them.
type Copy = (Lsn, u64, u64);

/// A double-write file as it was found. No region is written before [`DoubleWriteFile::restore`].
#[derive(Debug)]
pub struct DoubleWriteFile {
    file: Arc<dyn File>,
    size: PageSize,
    uuid: StoreUuid,
    checksum: PageChecksum,
    slots: AlignedBuf,
    next_sequence: u64,
    /// Of each page the copies that may be needed, the oldest first.
    copies: BTreeMap<PageId, Vec<Copy>>,
}

/// A double-write file from which every torn page was restored.
#[derive(Debug)]
pub struct Restored {
    parts: Parts,
    pages: u64,
    bytes: u64,
}

/// What will be written in its place.
struct Plan {
    id: PageId,
    slot: u64,
}

impl DoubleWriteFile {
    /// Reads the file of the store with this UUID. At most 8 MiB are read, or 64 pages if that is more, however long the file is.
    ///
    /// A file without a whole region of this store (empty, foreign, of another page size, or torn all over) is one in which
    /// nothing stands: a page is written in its place only after its region is durable, so a store whose regions are not whole
    /// has no page that was torn under their protection.
    ///
    /// Errors: `UnsupportedVersion` for a whole region of this store in another format, `Io`.
    pub fn read(
        file: Arc<dyn File>,
        size: PageSize,
        uuid: StoreUuid,
        checksum: PageChecksum,
    ) -> PageResult<Self> {
        let io = |error| PageError::io("read copies of pages", error);
        let bytes = size.get();
        let len = file.len().map_err(io)? / bytes as u64;
        let mut slots = AlignedBuf::zeroed(len.min(slots_max(size)) as usize * bytes);
        let got = read_exact_at(&*file, &mut slots, 0).map_err(io)?;
        let mut headers = Vec::new();
        for (at, slot) in slots[..got].chunks_exact(bytes).enumerate() {
            if let Some(header) = Header::decode(uuid, size, slot)? {
                headers.push((at as u64, header));
            }
        }
        let needed_from = headers.iter().map(|(_, header)| header.needed_from).max().unwrap_or(0);
        let newest = headers.iter().map(|(_, header)| header.sequence).max().unwrap_or(0);
        let mut copies: BTreeMap<PageId, Vec<Copy>> = BTreeMap::new();
        for (at, header) in headers.iter().filter(|(_, header)| header.sequence >= needed_from) {
            for (slot, (id, lsn)) in (at + 1..).zip(&header.copies) {
                copies.entry(*id).or_default().push((*lsn, header.sequence, slot));
            }
        }
        copies.values_mut().for_each(|copies| copies.sort_unstable());
        let next_sequence = newest.saturating_add(1);
        let file: Arc<dyn File> = Arc::new(SharedSync::new(file));
        Ok(Self { file, size, uuid, checksum, slots, next_sequence, copies })
    }

    /// The copy in this slot, if it is the one that was listed and is whole.
    fn copy(&self, id: PageId, (lsn, _, slot): Copy) -> Option<&[u8]> {
        let at = usize::try_from(slot).ok()?.checked_mul(self.size.get())?;
        let bytes = self.slots.get(at..at.checked_add(self.size.get())?)?;
        let header = self.checksum.verify(id, bytes).ok()?;
        (header.lsn == lsn).then_some(bytes)
    }

    /// The same without the copies of pages from `end` on: those that the file has lost because it was cut, and whoever has a log knows that
    /// every page there begins anew in it.
    pub fn before(mut self, end: PageId) -> Self {
        drop(self.copies.split_off(&end));
        self
    }

    /// Restores every page that fails its check in `pages` and has a whole copy: the one with the highest LSN, of equal ones that
    /// of the later region. Then makes `pages` durable, so that the regions can be written again.
    ///
    /// `needed_from` is the LSN from which the caller's log repeats every change, the checkpoint: an older copy is of a page that
    /// was durable in its place then, and would be no base for what the log repeats. `end` is the end of the log. A store without
    /// a log gives the lowest and the highest.
    ///
    /// Errors: `LsnBeyondLog` for a copy from behind `end` that would be needed, and what reading a page gives but a failed check;
    /// nothing was changed then. `NoSpace` and what writing and syncing give.
    pub fn restore(self, pages: &dyn PageStore, needed_from: Lsn, end: Lsn) -> PageResult<Restored> {
        let mut page = pages.allocate_page(PageId::new(0));
        let (mut restored, mut plans, mut any) = (0, Vec::new(), false);
        for (id, copies) in &self.copies {
            // Nothing, where the caller's log holds every change of the page.
            let mut needed = copies.iter().rev().filter(|(lsn, ..)| *lsn >= needed_from).peekable();
            if needed.peek().is_none() {
                continue;
            }
            any = true;
            let plan = match is_whole(pages, *id, &mut page)? {
                false => {
                    let newest = needed.find(|copy| self.copy(*id, **copy).is_some());
                    if let Some((lsn, ..)) = newest.filter(|(lsn, ..)| *lsn > end) {
                        return Err(PageError::LsnBeyondLog { page_id: *id, found: *lsn, durable: end });
                    }
                    restored += u64::from(newest.is_some());
                    newest
                }
                // Whole, but perhaps only in a cache, after a sync that failed: the same bytes again, for the sync below (L10).
                true => needed.find(|copy| self.copy(*id, **copy).is_some_and(|copy| *copy == *page.bytes())),
            };
            plans.extend(plan.map(|(_, _, slot)| Plan { id: *id, slot: *slot }));
        }
        if !plans.is_empty() {
            // Nothing is believed that could still vanish: while a page is being restored, its copy is the only one.
            self.file.sync().map_err(|error| PageError::io("sync copies of pages", error))?;
        }
        for Plan { id, slot } in plans {
            if id.get() >= pages.len()? {
                pages.grow(id.get() + 1)?;
            }
            let at = slot as usize * self.size.get();
            page.bytes_mut().copy_from_slice(&self.slots[at..at + self.size.get()]);
            pages.write_page(&mut page)?;
        }
        if any {
            // Also where nothing was restored: a page that stands whole in its place may not be durable there.
            pages.sync()?;
        }
        let bytes = self.file.len().map_err(|error| PageError::io("read copies of pages", error))?;
        let regions = Regions::new(bytes / self.size.get() as u64, slots_max(self.size), self.next_sequence);
        let Self { file, size, uuid, checksum, .. } = self;
        Ok(Restored { parts: Parts { file, size, uuid, checksum, regions }, pages: restored, bytes })
    }
}

/// Reads the page in its place; gives whether it passes its check there.
fn is_whole(pages: &dyn PageStore, id: PageId, page: &mut Page) -> PageResult<bool> {
    match pages.read_into(id, page) {
        Ok(()) => Ok(true),
        Err(
            PageError::ShortRead { .. }
            | PageError::BadMagic { .. }
            | PageError::UnsupportedVersion { .. }
            | PageError::ChecksumMismatch { .. }
            | PageError::MisdirectedPage { .. },
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Restored {
    /// Pages that had failed their check and were restored.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// From here on pages are written twice. Whoever writes something else than pages into the place of one calls
    /// [`PageStore::write_new`], or gives a later `needed_from` to the next [`DoubleWriteFile::restore`].
    ///
    /// Panics if `pages` has another page size: that is a bug of the caller's.
    pub fn write_twice<S: PageStore>(self, pages: S, poison: Poison) -> DoubleWrite<S> {
        DoubleWrite::new(self.parts, pages, poison)
    }

    /// From here on pages are written once: durably forgets every region, so that a later opening takes nothing from them.
    pub fn forget(self) -> PageResult<()> {
        let io = |error| PageError::io("forget copies of pages", error);
        if self.bytes > 0 {
            self.parts.file.set_len(0).map_err(io)?;
            self.parts.file.sync().map_err(io)?;
        }
        Ok(())
    }
}
