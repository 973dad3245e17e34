//! The miss path: one loader per page (P3).
//!
//! ```text
//!   Absent ──claim──► Loading ──read ok──► Resident        by the loader; waiters look again
//!                        └──────read failed──► Absent      the frame goes back, nothing is cached, waiters get the error
//! ```

use std::time::{Duration, Instant};

use pagestone_page_format::{
    FrameIndex, Lsn, Page, PageError, PageHeader, PageId, PageKind, PageResult, PageWriter,
};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::faults::planted;

use crate::frame::{COOL, FRESH, Frame};
use crate::table::Entry;
use crate::{BufferPool, Pin};

/// A waiter looks again at least this often; it is woken when the load ends.
const LOAD_WAIT: Duration = Duration::from_millis(100);

impl BufferPool {
    /// Brings the page into memory and pins it. May do I/O and wait: the caller holds no latch.
    ///
    /// Errors: those of reading (a bad page is cached nowhere and tried again by the next call; who waited for another
    /// thread's read gets that read's error),
    /// `BufferPoolExhausted`, `InvalidPageId` for an id that no swip can hold, `LsnBeyondLog`, `Poisoned`.
    #[inline]
    pub fn fault(&self, id: PageId) -> PageResult<Pin<'_>> {
        // The pin's own look at the frame is what makes the answer right, so the table need not be validated.
        if let Some(index) = self.table.hint(id)
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
                Entry::Loading => self.wait_for_load(id)?,
                Entry::Absent => {
                    let Some(index) = free_frame()? else { return Ok(None) };
                    if let Some(claim) = Claim::take(self, id, index) {
                        return self.load(claim, &fill).map(Some);
                    }
                }
            }
        }
    }

    fn load(&self, claim: Claim<'_>, fill: &impl Fn(&mut Page) -> PageResult<()>) -> PageResult<Pin<'_>> {
        let mut page = self.staging.take(&*self.store, claim.id);
        let pin = match fill(&mut page) {
            Ok(()) => self.publish(claim, &page, FirstTouch::Now),
            Err(error) => Err(claim.fail(error)),
        };
        self.staging.give(page);
        pin
    }

    /// The claimed page is in memory: into its frame, pinned, and into the table.
    pub(crate) fn publish(
        &self,
        claim: Claim<'_>,
        page: &Page,
        first_touch: FirstTouch,
    ) -> PageResult<Pin<'_>> {
        let (id, index) = (claim.id, claim.index);
        let frame = &self.frames[index.index()];
        let Ok(latch) = frame.latch.counting(&self.contention).lock_exclusive() else {
            return Err(claim.fail(self.latch_poisoned(id)));
        };
        PageWriter::new(self.arena.words(index)).copy_in(page.bytes());
        frame.install(id, page.lsn());
        frame.latch.set_tag(COOL); // new pages are on probation; the second touch warms
        if first_touch == FirstTouch::ToCome {
            frame.latch.set_tag(FRESH);
        }
        frame.pin_owned();
        std::mem::forget(claim);
        self.table.publish(id, index);
        drop(latch);
        // Without room it has the clock alone, as all have that were touched twice.
        let _without_room = self.young.push(index);
        if !planted("who loaded a page wakes nobody") {
            self.load_place(id).ended();
        }
        Ok(Pin { pool: self, index, id })
    }

    /// Pins the page if it is still in that frame (P4: pin, fence, then look).
    #[inline]
    pub(crate) fn pin_resident(&self, id: PageId, index: FrameIndex) -> PageResult<Option<Pin<'_>>> {
        let frame = &self.frames[index.index()];
        frame.pin();
        let pin = Pin { pool: self, index, id };
        // While somebody holds it exclusively it may be the evictor: wait until the latch tells.
        let latch =
            frame.latch.counting(&self.contention).optimistic_spin().map_err(|_| self.latch_poisoned(id))?;
        if !frame.holds(id) {
            frame.no_hit();
            return Ok(None);
        }
        if latch.tag(COOL) {
            self.touch_cool(frame);
        }
        Ok(Some(pin))
    }

    /// A page on probation is touched: it is warm from now on, unless it came by a hint and this is its first touch.
    pub(crate) fn touch_cool(&self, frame: &Frame) {
        if frame.latch.tag(FRESH) {
            frame.latch.clear_tag(FRESH);
            self.counters.prefetch_hits.add(1);
        } else {
            frame.latch.clear_tag(COOL);
        }
    }

    /// Waits for another thread's load of the page; its error is the loader's.
    pub(crate) fn wait_for_load(&self, id: PageId) -> PageResult<()> {
        let waited = self.load_place(id).wait(id, LOAD_WAIT, || self.table.get(id) == Entry::Loading);
        if !matches!(waited, Ok(false)) {
            self.counters.load_waits.add(1);
        }
        waited.map(drop)
    }

    /// E2: a page from the future of the log is of another time, or another store.
    pub(crate) fn check_lsn(&self, page: &Page) -> PageResult<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let (found, durable) = (page.lsn(), log.durable_lsn());
        if found > durable && found != Lsn::ZERO {
            return Err(PageError::LsnBeyondLog { page_id: page.id(), found, durable });
        }
        Ok(())
    }
}

/// What counts as the first touch of a page: the second one warms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstTouch {
    /// Its loading: who loaded it uses it.
    Now,
    /// The one after its loading, which was a hint.
    ToCome,
}

/// The right, and the duty, to load a page into a frame. Given back if the read fails or panics (P10), and those who waited
/// are told.
#[must_use = "a page that is claimed is loaded or given back"]
pub(crate) struct Claim<'p> {
    pool: &'p BufferPool,
    pub(crate) id: PageId,
    pub(crate) index: FrameIndex,
}

impl<'p> Claim<'p> {
    /// Claims the page for this frame, or gives the frame back because somebody else was faster.
    pub(crate) fn take(pool: &'p BufferPool, id: PageId, index: FrameIndex) -> Option<Self> {
        if pool.table.claim(id, index).is_ok() {
            return Some(Self { pool, id, index });
        }
        if !planted("who lost a claim keeps its frame") {
            pool.give_back(index);
        }
        None
    }

    /// The page could not be loaded: everybody who waits for it gets this error.
    pub(crate) fn fail(self, error: PageError) -> PageError {
        self.withdraw(Some(&error));
        std::mem::forget(self);
        error
    }

    fn withdraw(&self, error: Option<&PageError>) {
        if planted("a failed load keeps its claim") {
            return;
        }
        self.pool.load_place(self.id).failed(self.id, error, || self.pool.table.remove(self.id));
        self.pool.give_back(self.index);
        if planted("a failed load gives its frame back twice") {
            self.pool.give_back(self.index);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.withdraw(None);
    }
}
