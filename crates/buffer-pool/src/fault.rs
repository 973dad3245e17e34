//! The miss path: one loader per page (P3).
//!
//! ```text
//!   Absent ──claim──► Loading ──read ok──► Resident        by the loader; waiters look again
//!                        └──────read failed──► Absent      the frame goes back, nothing is cached
//! ```

use std::time::{Duration, Instant};

use pagestone_page_format::{
    FrameIndex, Lsn, Page, PageError, PageHeader, PageId, PageKind, PageResult, PageWriter,
};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::faults::planted;

use crate::frame::COOL;
use crate::table::Entry;
use crate::{BufferPool, Pin};

/// A waiter looks again at least this often; it is woken when the load ends.
const LOAD_WAIT: Duration = Duration::from_millis(100);

impl BufferPool {
    /// Brings the page into memory and pins it. May do I/O and wait: the caller holds no latch.
    ///
    /// Errors: those of reading (a bad page is cached nowhere and tried again by the next call),
    /// `BufferPoolExhausted`, `InvalidPageId` for an id that no swip can hold, `LsnBeyondLog`, `Poisoned`.
    #[inline]
    pub fn fault(&self, id: PageId) -> PageResult<Pin<'_>> {
        if let Entry::Resident(index) = self.table.get(id)
            && let Some(pin) = self.pin_resident(id, index)?
        {
            return Ok(pin);
        }
        self.load_or_wait(id)
    }

    /// What is left of [`BufferPool::fault`] when the page is not resident at first sight.
    #[cold]
    fn load_or_wait(&self, id: PageId) -> PageResult<Pin<'_>> {
        let pin = self.bring(id, || self.free_frame().map(Some), |page| self.read(id, page))?;
        Ok(pin.expect("a frame was waited for"))
    }

    /// As [`BufferPool::fault`], but gives nothing where it would have to wait for a frame: for callers who hold pins, which
    /// others may be waiting for. It may do I/O.
    pub fn try_fault(&self, id: PageId) -> PageResult<Option<Pin<'_>>> {
        self.bring(id, || self.free_frame_now(), |page| self.read(id, page))
    }

    fn read(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.counters.misses.add(1);
        let began = Instant::now();
        let read = self.store.read_into(id, page).and_then(|()| self.check_lsn(page));
        self.metrics.read_took(began);
        read.inspect_err(|_| self.counters.failed_reads.add(1))
    }

    /// Gives a pinned frame to a page whose old contents do not matter, without reading it: a new page, or one that redo
    /// formats. The page is zeroed but for its header, and clean; one that was resident keeps its contents.
    pub fn adopt(&self, id: PageId, kind: PageKind) -> PageResult<Pin<'_>> {
        let blank = |page: &mut Page| {
            page.bytes_mut().fill(0);
            PageHeader::new(kind, id).encode(page.bytes_mut());
            Ok(())
        };
        let pin = self.bring(id, || self.free_frame().map(Some), blank)?;
        Ok(pin.expect("a frame was waited for"))
    }

    /// Nothing if `free_frame` gives none.
    fn bring(
        &self,
        id: PageId,
        free_frame: impl Fn() -> PageResult<Option<FrameIndex>>,
        fill: impl Fn(&mut Page) -> PageResult<()>,
    ) -> PageResult<Option<Pin<'_>>> {
        if id > MAX_SWIP_PAGE {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        loop {
            match self.table.get(id) {
                Entry::Resident(index) => {
                    if let Some(pin) = self.pin_resident(id, index)? {
                        return Ok(Some(pin));
                    }
                }
                Entry::Loading => self.wait_for_load(id),
                Entry::Absent => {
                    let Some(index) = free_frame()? else { return Ok(None) };
                    if self.table.claim(id, index).is_err() {
                        if !planted("who lost a claim keeps its frame") {
                            self.give_back(index);
                        }
                        continue;
                    }
                    return self.load(id, index, &fill).map(Some);
                }
            }
        }
    }

    fn load(
        &self,
        id: PageId,
        index: FrameIndex,
        fill: &impl Fn(&mut Page) -> PageResult<()>,
    ) -> PageResult<Pin<'_>> {
        let unclaim = Unclaim { pool: self, id, index };
        let mut page = self.staging.take(&*self.store, id);
        let filled = fill(&mut page);
        if let Err(error) = filled {
            self.staging.give(page);
            return Err(error); // `unclaim` gives the frame back
        }
        let frame = &self.frames[index.index()];
        let Ok(latch) = frame.latch.lock_exclusive() else {
            return Err(self.latch_poisoned(id));
        };
        PageWriter::new(self.arena.words(index)).copy_in(page.bytes());
        frame.install(id, page.lsn());
        frame.latch.set_tag(COOL); // new pages are on probation; the second touch warms
        frame.pin_owned();
        std::mem::forget(unclaim);
        self.table.publish(id, index);
        drop(latch);
        if !planted("who loaded a page wakes nobody") {
            self.load_waiters(id).notify();
        }
        self.staging.give(page);
        Ok(Pin { pool: self, index, id })
    }

    /// Pins the page if it is still in that frame (P4: pin, fence, then look).
    #[inline]
    fn pin_resident(&self, id: PageId, index: FrameIndex) -> PageResult<Option<Pin<'_>>> {
        let frame = &self.frames[index.index()];
        frame.pin();
        let pin = Pin { pool: self, index, id };
        // While somebody holds it exclusively it may be the evictor: wait until the latch tells.
        let latch = frame.latch.optimistic_spin().map_err(|_| self.latch_poisoned(id))?;
        if !frame.holds(id) {
            return Ok(None);
        }
        if latch.tag(COOL) {
            frame.latch.clear_tag(COOL);
        }
        Ok(Some(pin))
    }

    fn wait_for_load(&self, id: PageId) {
        self.counters.load_waits.add(1);
        self.load_waiters(id).wait_until(LOAD_WAIT, || self.table.get(id) != Entry::Loading);
    }

    /// E2: a page from the future of the log is of another time, or another store.
    fn check_lsn(&self, page: &Page) -> PageResult<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let (found, durable) = (page.lsn(), log.durable_lsn());
        if found > durable && found != Lsn::ZERO {
            return Err(PageError::LsnBeyondLog { page_id: page.id(), found, durable });
        }
        Ok(())
    }
}

/// Takes a loader's claim back if its read fails or panics (P10), and wakes those who waited for it.
struct Unclaim<'p> {
    pool: &'p BufferPool,
    id: PageId,
    index: FrameIndex,
}

impl Drop for Unclaim<'_> {
    fn drop(&mut self) {
        if planted("a failed load keeps its claim") {
            return;
        }
        self.pool.table.remove(self.id);
        self.pool.give_back(self.index);
        if planted("a failed load gives its frame back twice") {
            self.pool.give_back(self.index);
        }
        self.pool.load_waiters(self.id).notify();
    }
}
