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
use pagestone_swip::{MAX_SWIP_PAGE, check_swips};
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
        let pin = self.bring(id, Source::Storage, NoFrame::Wait)?;
        Ok(pin.expect("a frame was waited for"))
    }

    /// As [`BufferPool::fault`], but gives nothing where it would have to wait for a frame: for callers who hold pins, which
    /// others may be waiting for. It may do I/O.
    pub fn try_fault(&self, id: PageId) -> PageResult<Option<Pin<'_>>> {
        self.bring(id, Source::Storage, NoFrame::GiveUp)
    }

    fn read(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.counters.misses.add(1);
        let began = Instant::now();
        let read = self.store.read_into(id, page).and_then(|()| self.check_read(page));
        self.metrics.read_took(began);
        read.inspect_err(|_| self.counters.failed_reads.add(1))
    }

    /// Gives a pinned frame to a page whose old contents do not matter, without reading it: a new page, or one that redo
    /// formats. The page is zeroed but for its header, and clean; one that was resident keeps its contents. That somebody else tries to
    /// read the old ones, and cannot, is no error here.
    pub fn adopt(&self, id: PageId, kind: PageKind) -> PageResult<Pin<'_>> {
        let pin = self.bring(id, Source::Nothing(kind), NoFrame::Wait)?;
        Ok(pin.expect("a frame was waited for"))
    }

    /// Nothing if there is no frame and `no_frame` says to give up.
    fn bring(&self, id: PageId, source: Source, no_frame: NoFrame) -> PageResult<Option<Pin<'_>>> {
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
                Entry::Loading => match (self.wait_for_load(id), source) {
                    (Err(error), Source::Storage) => return Err(error),
                    // Whoever it is that wants the old page: it is gone.
                    (Err(_), Source::Nothing(_)) | (Ok(()), _) => {}
                },
                Entry::Absent => {
                    let index = match no_frame {
                        NoFrame::Wait => self.free_frame(id)?,
                        NoFrame::GiveUp => self.free_frame_now()?,
                    };
                    match (index, no_frame) {
                        (Some(index), _) => {
                            if let Some(claim) = Claim::take(self, id, index) {
                                return self.load(claim, source).map(Some);
                            }
                        }
                        (None, NoFrame::Wait) => {} // the page has come instead
                        (None, NoFrame::GiveUp) => return Ok(None),
                    }
                }
            }
        }
    }

    fn load(&self, claim: Claim<'_>, source: Source) -> PageResult<Pin<'_>> {
        let mut page = self.staging.take(&*self.store, claim.id);
        let filled = match source {
            Source::Storage => self.read(claim.id, &mut page),
            Source::Nothing(kind) => {
                page.bytes_mut().fill(0);
                PageHeader::new(kind, claim.id).encode(page.bytes_mut());
                Ok(())
            }
        };
        let pin = match filled {
            Ok(()) => self.publish(claim, &page, FirstTouch::Now).inspect(|pin| self.load_ended(pin.id)),
            Err(error) => Err(claim.fail(error)),
        };
        self.staging.give(page);
        pin
    }

    /// Wakes those who wait for a page that was published.
    pub(crate) fn load_ended(&self, id: PageId) {
        if !planted("who loaded a page wakes nobody") {
            self.load_place(id).ended();
        }
    }

    /// The claimed page is in memory: into its frame, pinned, and into the table. The caller says so to those who wait for it.
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
    #[cold]
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

    /// What storage does not know: that a page can be written again, and that it is not from the future of the log, which would be
    /// one of another time, or another store (E2).
    pub(crate) fn check_read(&self, page: &Page) -> PageResult<()> {
        check_swips(page.bytes()).map_err(|error| error.malformed(page.id()))?;
        let Some(log) = &self.log else { return Ok(()) };
        let (found, durable) = (page.lsn(), log.durable_lsn());
        if found > durable && found != Lsn::ZERO {
            return Err(PageError::LsnBeyondLog { page_id: page.id(), found, durable });
        }
        Ok(())
    }
}

/// Where the bytes of a page come from that is brought in.
#[derive(Debug, Clone, Copy)]
enum Source {
    Storage,
    /// What was there does not matter, and may be unreadable.
    Nothing(PageKind),
}

/// What is done where every frame is pinned.
#[derive(Debug, Clone, Copy)]
enum NoFrame {
    Wait,
    GiveUp,
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
