//! Writing: the copies, their sync, the pages in their places.

use std::io;
use std::sync::Arc;

use pagestone_page_format::{
    AlignedBuf, Page, PageChecksum, PageError, PageId, PageReads, PageResult, PageSize, PageStore, Poison,
    StoreUuid,
};
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::{Condvar, Mutex};

use super::header::Header;
use super::region_pages_max;
use super::regions::{Regions, Remedy, Taken};
use crate::page_file::{is_no_space, pages_of_piece};
use crate::{File, WriteAt, write_all_stream};

/// A [`PageStore`] that writes every page twice, so that a torn one can be restored by the next opening. Made by
/// [`super::Restored::write_twice`].
///
/// A failed sync of either file is final: it poisons the handle (L9). A failed write leaves the pages to be written again, and
/// keeps the region until they are.
#[derive(Debug)]
pub struct DoubleWrite<S> {
    pages: S,
    file: Arc<dyn File>,
    size: PageSize,
    uuid: StoreUuid,
    checksum: PageChecksum,
    poison: Poison,
    /// Never held across I/O.
    regions: Mutex<Regions>,
    /// Signalled when a region's writes have ended or slots have become free.
    changed: Condvar,
    /// One grower at a time. Held across I/O, by writers only.
    growing: Mutex<()>,
    /// Slots of the largest region, for the next ones to be written.
    spare: Mutex<Vec<AlignedBuf>>,
    counters: Counters,
}

/// Buffers for regions that are kept, of 1 MiB at 4 KiB pages: one for each of two writers.
const SPARE_BUFFERS: usize = 2;

#[derive(Debug, Default)]
struct Counters {
    regions: AtomicU64,
    pages: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    data_syncs: AtomicU64,
}

/// What was written twice since the opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DoubleWriteStats {
    /// Regions written.
    pub regions: u64,
    /// Pages copied into them.
    pub pages: u64,
    /// Bytes written into them: copies and headers.
    pub bytes: u64,
    /// Syncs behind them: one for all regions of a batch.
    pub syncs: u64,
    /// Syncs of the data file for want of a free region.
    pub data_syncs: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// What a [`DoubleWrite`] is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) file: Arc<dyn File>,
    pub(super) size: PageSize,
    pub(super) uuid: StoreUuid,
    pub(super) checksum: PageChecksum,
    pub(super) regions: Regions,
}

/// A region in use; however its batch ends, it is given back as it must be.
struct Region<'a, S> {
    of: &'a DoubleWrite<S>,
    taken: Taken,
    pages: usize,
    durable: bool,
    ended: bool,
}

impl<S> Region<'_, S> {
    /// Its slots: the header's and one for each page.
    fn slots(&self) -> usize {
        self.pages + 1
    }

    /// Its copies are durable: from here on it protects its pages.
    fn in_place(&mut self) {
        self.of.regions.lock().in_place(self.taken.at);
        self.durable = true;
    }
}

impl<S> Drop for Region<'_, S> {
    fn drop(&mut self) {
        let mut regions = self.of.regions.lock();
        match (self.durable, self.ended) {
            (false, _) => regions.forget(self.taken.at),
            (true, true) => regions.ended(self.taken.at),
            (true, false) => regions.failed(self.taken.at),
        }
        drop(regions);
        self.of.changed.notify_all();
    }
}

impl<S: PageStore> DoubleWrite<S> {
    pub(super) fn new(parts: Parts, pages: S, poison: Poison) -> Self {
        let Parts { file, size, uuid, checksum, regions } = parts;
        assert_eq!(size, pages.page_size(), "copies are as large as pages");
        Self {
            pages,
            file,
            size,
            uuid,
            checksum,
            poison,
            regions: Mutex::new(regions),
            changed: Condvar::new(),
            growing: Mutex::new(()),
            spare: Mutex::new(Vec::new()),
            counters: Counters::default(),
        }
    }

    /// What was written twice so far.
    pub fn stats(&self) -> DoubleWriteStats {
        DoubleWriteStats {
            regions: self.counters.regions.load(Ordering::Relaxed),
            pages: self.counters.pages.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            data_syncs: self.counters.data_syncs.load(Ordering::Relaxed),
            file_bytes: self.regions.lock().slots() * self.size.get() as u64,
        }
    }

    /// Refuses, before anything is written, what has no place: a failed write in place would keep a region.
    fn check(&self, pages: &[Page]) -> PageResult<()> {
        let len = self.pages.len()?;
        for page in pages {
            if page.page_size() != self.size {
                return Err(PageError::InvalidPageSize { size: page.page_size().get() });
            }
            if page.id().get() >= len {
                return Err(PageError::InvalidPageId { page_id: page.id() });
            }
        }
        Ok(())
    }

    /// Regions for some of these pages, the first of them. May wait for others' writes, and for a sync of the data file.
    fn take(&self, pages: &[Page]) -> PageResult<Vec<Region<'_, S>>> {
        let ids: Vec<PageId> = pages.iter().map(Page::id).collect();
        let mut regions = vec![self.take_one(&ids)?];
        let mut taken = regions[0].pages;
        // More of them as far as there is room now: whoever waits while it holds regions would wait for one that does the same.
        while let Some(region) = self.take_now(&ids[taken..]) {
            taken += region.pages;
            regions.push(region);
        }
        Ok(regions)
    }

    /// One as large as may be, if there is room.
    fn take_now(&self, ids: &[PageId]) -> Option<Region<'_, S>> {
        let count = ids.len().min(region_pages_max(self.size));
        let taken = (count > 0).then(|| self.regions.lock().take(&ids[..count])).flatten()?;
        Some(self.region(taken, count))
    }

    fn region(&self, taken: Taken, pages: usize) -> Region<'_, S> {
        Region { of: self, taken, pages, durable: false, ended: false }
    }

    fn take_one(&self, ids: &[PageId]) -> PageResult<Region<'_, S>> {
        let (mut count, mut may_grow) = (ids.len().min(region_pages_max(self.size)), true);
        loop {
            self.poison.check()?;
            let mut regions = self.regions.lock();
            if let Some(taken) = regions.take(&ids[..count]) {
                return Ok(self.region(taken, count));
            }
            match regions.remedy(count, may_grow) {
                Remedy::Grow(slots) => {
                    drop(regions);
                    may_grow = self.grow(slots)?;
                }
                Remedy::Sync => {
                    drop(regions);
                    self.counters.data_syncs.fetch_add(1, Ordering::Relaxed);
                    self.sync()?;
                }
                Remedy::Wait => drop(self.changed.wait(regions)),
                Remedy::Smaller if count > 1 => count /= 2,
                Remedy::Smaller => return Err(PageError::NoSpace { needed: 2 * self.size.get() as u64 }),
            }
        }
    }

    /// Makes the file so many slots long; gives whether there was room for that.
    fn grow(&self, slots: u64) -> PageResult<bool> {
        let _alone = self.growing.lock();
        let have = self.regions.lock().slots();
        if slots <= have {
            return Ok(true);
        }
        let bytes = |slots: u64| slots * self.size.get() as u64;
        match self.file.reserve(bytes(have), bytes(slots - have)) {
            Ok(()) => {
                self.regions.lock().grown(slots);
                Ok(true)
            }
            Err(error) if is_no_space(&error) => Ok(false),
            Err(error) => Err(PageError::io("grow the double-write file", error)),
        }
    }

    /// Steps 2 and 3, for as many pages as the regions have slots.
    fn write_twice(&self, mut regions: Vec<Region<'_, S>>, pages: &mut [Page]) -> PageResult<()> {
        let mut buffers: Vec<AlignedBuf> = regions.iter().map(|_| self.buffer()).collect();
        let mut written = self.write_copies(&regions, &mut buffers, pages);
        if written.is_ok() {
            written = self.write_in_place(&mut regions, &buffers, pages);
        }
        let mut spare = self.spare.lock();
        let room = SPARE_BUFFERS.saturating_sub(spare.len());
        spare.extend(buffers.into_iter().take(room));
        written
    }

    fn buffer(&self) -> AlignedBuf {
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| AlignedBuf::zeroed((region_pages_max(self.size) + 1) * self.size.get()))
    }

    /// The copies are durable when this returns.
    fn write_copies(
        &self,
        regions: &[Region<'_, S>],
        buffers: &mut [AlignedBuf],
        mut pages: &mut [Page],
    ) -> PageResult<()> {
        for (region, buffer) in regions.iter().zip(buffers) {
            let of_region;
            (of_region, pages) = pages.split_at_mut(region.pages);
            self.write_region(region, &mut buffer[..region.slots() * self.size.get()], of_region)
                .map_err(|error| PageError::io("write copies of pages", error))?;
        }
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.file
            .sync()
            .map_err(|error| self.poison.poison(format_args!("syncing copies of pages failed: {error}")))
    }

    /// Writes header and copies into the region's slots, by way of `slots`; the first are under way while the next are stamped.
    fn write_region(&self, region: &Region<'_, S>, slots: &mut [u8], pages: &mut [Page]) -> io::Result<()> {
        let (size, count) = (self.size.get(), region.slots());
        let header = Header {
            sequence: region.taken.sequence,
            needed_from: region.taken.needed_from,
            copies: pages.iter().map(|page| (page.id(), page.lsn())).collect(),
        };
        let piece = pages_of_piece(&*self.file, count, size) * size;
        let pieces = slots.chunks_mut(piece).zip((region.taken.at * size as u64..).step_by(piece));
        let (mut header, mut pages) = (Some(header), pages.iter_mut());
        let mut writes = pieces.map(|(piece, offset)| {
            for slot in piece.chunks_exact_mut(size) {
                match header.take() {
                    Some(header) => header.encode(self.uuid, self.size, slot),
                    None => {
                        let page = pages.next().expect("there is a slot for each page");
                        slot.copy_from_slice(page.to_checksummed_bytes(&self.checksum));
                    }
                }
            }
            WriteAt::new(piece, offset)
        });
        let written = write_all_stream(&*self.file, &mut writes);
        written.into_iter().try_for_each(|write| write.result.map(drop))
    }

    /// The same bytes once more: a page is stamped once.
    fn write_in_place(
        &self,
        regions: &mut [Region<'_, S>],
        buffers: &[AlignedBuf],
        mut pages: &[Page],
    ) -> PageResult<()> {
        for region in regions.iter_mut() {
            region.in_place();
            self.counters.regions.fetch_add(1, Ordering::Relaxed);
            self.counters.pages.fetch_add(region.pages as u64, Ordering::Relaxed);
            self.counters.bytes.fetch_add((region.slots() * self.size.get()) as u64, Ordering::Relaxed);
        }
        for (region, buffer) in regions.iter_mut().zip(buffers) {
            let of_region;
            (of_region, pages) = pages.split_at(region.pages);
            let ids: Vec<PageId> = of_region.iter().map(Page::id).collect();
            let copies = &buffer[self.size.get()..region.slots() * self.size.get()];
            self.pages.write_stamped(&ids, copies)?;
            region.ended = true;
        }
        Ok(())
    }
}

impl<S: PageStore> PageStore for DoubleWrite<S> {
    fn page_size(&self) -> PageSize {
        self.size
    }

    fn allocate_page(&self, id: PageId) -> Page {
        self.pages.allocate_page(id)
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.pages.read_into(id, page)
    }

    fn read_many(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        self.pages.read_many(ids, pages)
    }

    fn reads(&self) -> Box<dyn PageReads + '_> {
        self.pages.reads()
    }

    fn is_unwritten(&self, id: PageId) -> PageResult<bool> {
        self.pages.is_unwritten(id)
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.write_many(std::slice::from_mut(page))
    }

    /// The caller has made the log durable up to every page's LSN: a copy is a page on disk (L2).
    fn write_many(&self, pages: &mut [Page]) -> PageResult<()> {
        self.check(pages)?;
        let mut rest = pages;
        while !rest.is_empty() {
            let regions = self.take(rest)?;
            let (now, later) = rest.split_at_mut(regions.iter().map(|region| region.pages).sum());
            self.write_twice(regions, now)?;
            rest = later;
        }
        Ok(())
    }

    fn write_new(&self, pages: &mut [Page]) -> PageResult<()> {
        self.pages.write_new(pages)
    }

    fn write_new_stream(&self, make: &mut dyn FnMut(&mut [u8]) -> bool) -> PageResult<()> {
        self.pages.write_new_stream(make)
    }

    fn sync(&self) -> PageResult<()> {
        self.poison.check()?;
        let number = self.regions.lock().sync_begins();
        self.pages
            .sync()
            .map_err(|error| self.poison.poison(format_args!("syncing the data file failed: {error}")))?;
        self.regions.lock().synced(number);
        self.changed.notify_all();
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        self.pages.len()
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.pages.grow(pages)
    }

    /// Copies of pages that are cut off may stay in regions: an opening takes none from before the checkpoint that it begins at.
    fn cut(&self, pages: u64) -> PageResult<()> {
        self.pages.cut(pages)
    }
}
