//! The hot path: from a swip to its page, without writing a shared line.
//!
//! Invariant (P7): the page that held the swip is validated by the caller after this returned; that alone catches an id
//! that was freed and used again in the same frame.

use pagestone_hybrid_latch::Optimistic;
use pagestone_page_format::{FrameIndex, PageId, SpeculativePage};
use pagestone_swip::SwipWord;
use pagestone_sync::faults::planted;
use pagestone_sync::thread;

use crate::frame::{COOL, Frame};
use crate::table::Entry;
use crate::{BufferPool, ExclusivePage, OptimisticPage, Pin, Restart, SharedPage};

/// Looks at a latched page before the caller lets go of everything and begins again.
const LATCHED_LOOKS: usize = 64;

impl BufferPool {
    /// Finds the page that a swip names.
    ///
    /// Hot hint: the frame's header is sampled and says the same id. Otherwise the table; otherwise
    /// [`Restart::Fault`]. The answer's [`OptimisticPage::frame`] differs from the hint when the hint is worth a repair.
    /// Waits only while the very page is held exclusively: the caller may hold latches above it in latch order, none below.
    #[inline]
    pub fn resolve(&self, swip: SwipWord) -> Result<OptimisticPage<'_>, Restart> {
        self.resolve_asking(swip, |_| ())
    }

    /// As [`BufferPool::resolve`]. As soon as the swip's hint says where the page would be, and before anything of it was looked at,
    /// `ask` asks the processor for the lines that will be read ([`SpeculativePage::prefetch`]): so they come together with that of
    /// the frame's header. A hint that is wrong costs memory bandwidth.
    #[inline(always)]
    pub fn resolve_asking<'p>(
        &'p self,
        swip: SwipWord,
        ask: impl FnOnce(SpeculativePage<'p>),
    ) -> Result<OptimisticPage<'p>, Restart> {
        if let Some(index) = swip.hint()
            && let Some(page) = self.sample(index, swip.page_id(), ask)?
        {
            return Ok(page);
        }
        // Taken apart and put together: what is returned through memory here would stand in memory on the way above too.
        let OptimisticPage { pool, index, id, latch, page } = self.resolve_by_table(swip.page_id())?;
        Ok(OptimisticPage { pool, index, id, latch, page })
    }

    /// As [`BufferPool::resolve`], by the table, for who has an id and no hint.
    #[inline]
    pub fn resolve_by_id(&self, id: PageId) -> Result<OptimisticPage<'_>, Restart> {
        if let Some(index) = self.table.hint(id)
            && let Some(page) = self.sample(index, id, |_| ())?
        {
            return Ok(page);
        }
        match self.table.get(id) {
            // The frame may have been evicted since the table was read: look again.
            Entry::Resident(index) => self.sample(index, id, |_| ())?.ok_or(Restart::Conflict),
            Entry::Absent | Entry::Loading => Err(Restart::Fault(id)),
        }
    }

    /// Says that the page of a swip will be resolved soon, if the swip has a hint: the processor is asked for the frame's header, and
    /// `ask` asks it for the lines of the page that will be read ([`SpeculativePage::prefetch`]). No I/O, no wait, no answer: a hint
    /// that is wrong costs memory bandwidth.
    #[inline(always)]
    pub fn expect<'p>(&'p self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) {
        if let Some(index) = swip.hint()
            && let Some(frame) = self.frames.get(index.index())
        {
            frame.latch.prefetch();
            ask(self.frame_bytes(index));
        }
    }

    /// The bytes of a frame of the pool, whatever page it holds.
    #[inline(always)]
    pub(crate) fn frame_bytes(&self, index: FrameIndex) -> SpeculativePage<'_> {
        SpeculativePage::new(self.arena.words(index))
    }

    /// As [`BufferPool::resolve`], then waits for the page shared. The caller may hold latches above it in latch order.
    #[track_caller]
    pub fn resolve_shared(&self, swip: SwipWord) -> Result<SharedPage<'_>, Restart> {
        let pin = self.pin_for_latch(swip)?;
        let latch = pin.latch().lock_shared().map_err(|_| Restart::Fault(pin.id))?;
        Ok(SharedPage { pool: self, index: pin.index, id: pin.id, latch })
    }

    /// As [`BufferPool::resolve`], then waits for the page exclusively. The caller may hold latches above it in latch order.
    #[track_caller]
    pub fn resolve_exclusive(&self, swip: SwipWord) -> Result<ExclusivePage<'_>, Restart> {
        let pin = self.pin_for_latch(swip)?;
        let latch = pin.latch().lock_exclusive().map_err(|_| Restart::Fault(pin.id))?;
        Ok(ExclusivePage { pool: self, index: pin.index, id: pin.id, latch })
    }

    /// Pins the page, so that whoever waits for the latch then waits for this page's holders and for nobody else's: an order
    /// of latches is an order of pages, not of frames. Waits only a moment itself: while the frame is held it may be by the
    /// evictor, or, in a file that lies about its pages, by the caller.
    fn pin_for_latch(&self, swip: SwipWord) -> Result<Pin<'_>, Restart> {
        let (index, id) = self.find(swip)?;
        let frame = &self.frames[index.index()];
        frame.pin();
        let pin = Pin { pool: self, index, id };
        for _ in 0..LATCHED_LOOKS {
            if frame.latch.optimistic_or_restart().is_ok() {
                if frame.holds(id) {
                    return Ok(pin);
                }
                frame.no_hit();
                return Err(Restart::Conflict);
            }
            if frame.latch.is_poisoned() {
                return Err(Restart::Fault(id));
            }
            thread::yield_now();
        }
        Err(Restart::Conflict)
    }

    fn find(&self, swip: SwipWord) -> Result<(FrameIndex, PageId), Restart> {
        let id = swip.page_id();
        if let Some(index) = swip.hint()
            && self.frames.get(index.index()).is_some_and(|frame| frame.holds(id))
        {
            return Ok((index, id));
        }
        match self.table.get(id) {
            Entry::Resident(index) => Ok((index, id)),
            Entry::Absent | Entry::Loading => Err(Restart::Fault(id)),
        }
    }

    #[inline(always)]
    fn sample<'p>(
        &'p self,
        index: FrameIndex,
        id: PageId,
        ask: impl FnOnce(SpeculativePage<'p>),
    ) -> Result<Option<OptimisticPage<'p>>, Restart> {
        let Some(frame) = self.frames.get(index.index()) else { return Ok(None) };
        let page = self.frame_bytes(index);
        ask(page);
        let latch = match frame.latch.optimistic_or_restart() {
            Ok(latch) => latch,
            // Whoever holds it may be about to make it another page's.
            Err(_) if !frame.holds(id) => return Ok(None),
            Err(_) => self.sample_waiting(frame, id)?,
        };
        if !frame.holds(id) && !planted("a sampled frame is not asked again for its page") {
            return Ok(None);
        }
        // The second touch warms; the step that is taken again with the faulted page pinned is still the first.
        if latch.tag(COOL) && !frame.is_pinned() {
            self.touch_cool(frame);
        }
        Ok(Some(OptimisticPage { pool: self, index, id, latch, page }))
    }

    #[cold]
    fn sample_waiting<'p>(&'p self, frame: &'p Frame, id: PageId) -> Result<Optimistic<'p>, Restart> {
        // A poisoned latch is told as an error by `fault`, the one place that gives errors.
        frame.latch.counting(&self.contention).optimistic_spin().map_err(|_| Restart::Fault(id))
    }

    #[cold]
    fn resolve_by_table(&self, id: PageId) -> Result<OptimisticPage<'_>, Restart> {
        let page = self.resolve_by_id(id);
        if !matches!(page, Err(Restart::Fault(_))) {
            self.counters.table_hits.add(1);
        }
        page
    }
}
