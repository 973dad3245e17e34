//! The header of a frame: 64 bytes, one cache line, in an array apart from the page bytes.
//!
//! Who may touch what, and when:
//!
//! ```text
//!   latch             everyone; COOL and FRESH are the pool's tags in it
//!   page              read by everyone (relaxed, validated by the latch); changed only under the exclusive latch, by a
//!                     loader (NONE -> id) or the evictor (id -> NONE), with the table changed in the same hold (P2)
//!   lsn, rec_lsn      changed under the exclusive latch; rec_lsn also by the write-back that finished, while the page is dirty
//!   changes           raised under the exclusive latch
//!   written           set by the one write-back that has claimed `writing`, or with the page
//!   pins              raised and lowered by anybody; see P4 in `pin`. Above the pins of now, [63:24], stands how often the frame
//!                     was pinned with its page resident: a hit is counted by the pin that it takes anyway
//!   writing           claimed by compare-and-swap: one write of a page is in flight at most
//! ```
//!
//! Dirty means `changes != written`: a counter, so that it also holds where no log raises LSNs, and so that a change made
//! while the page was being written is not lost (P12).

use pagestone_hybrid_latch::{HybridLatch, Tag};
use pagestone_page_format::{Lsn, PageId};
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering, fence, fence_after_rmw};
use pagestone_sync::faults::planted;

/// The page that is on probation: the next sweep takes it unless it is touched before.
pub(crate) const COOL: Tag = Tag::A;

/// The page was brought in by a hint and not touched since.
pub(crate) const FRESH: Tag = Tag::B;

/// The page id of a frame that holds none.
const NO_PAGE: u64 = u64::MAX;

/// One pin more, or less, in `pins`.
const PIN: u64 = 1;
/// One hit more in `pins`. What comes past its 40 bits falls off the word.
const HIT: u64 = 1 << 24;
/// The pins of now in `pins`.
const PINS: u64 = HIT - 1;

#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Frame {
    pub(crate) latch: HybridLatch,
    page: AtomicU64,
    lsn: AtomicU64,
    rec_lsn: AtomicU64,
    changes: AtomicU64,
    written: AtomicU64,
    pins: AtomicU64,
    writing: AtomicBool,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Frame>() == 64 && align_of::<Frame>() == 64);

impl Frame {
    pub(crate) fn empty() -> Self {
        Self {
            latch: HybridLatch::new(),
            page: AtomicU64::new(NO_PAGE),
            lsn: AtomicU64::new(0),
            rec_lsn: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            written: AtomicU64::new(0),
            pins: AtomicU64::new(0),
            writing: AtomicBool::new(false),
        }
    }

    /// Whether it holds this page, as far as one relaxed load can tell.
    #[inline]
    pub(crate) fn holds(&self, id: PageId) -> bool {
        self.page.load(Ordering::Relaxed) == id.get()
    }

    pub(crate) fn page(&self) -> Option<PageId> {
        match self.page.load(Ordering::Relaxed) {
            NO_PAGE => None,
            id => Some(PageId::new(id)),
        }
    }

    /// Under the exclusive latch: the frame now holds `id`, clean, as it stands in storage with this LSN.
    pub(crate) fn install(&self, id: PageId, lsn: Lsn) {
        self.lsn.store(lsn.get(), Ordering::Relaxed);
        self.rec_lsn.store(0, Ordering::Relaxed);
        self.written.store(self.changes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.page.store(id.get(), Ordering::Relaxed);
    }

    /// Under the exclusive latch: the frame holds no page; what it held is clean or not wanted.
    pub(crate) fn clear(&self) {
        self.page.store(NO_PAGE, Ordering::Relaxed);
        self.written.store(self.changes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.latch.clear_tag(COOL);
        self.latch.clear_tag(FRESH);
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn::new(self.lsn.load(Ordering::Relaxed))
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        // Acquire: pairs with the Release in `settle_write`, so that who sees the page clean may rely on it being written.
        self.changes() != self.written.load(Ordering::Acquire)
    }

    /// Whether some change up to the count `changes` is in memory alone.
    pub(crate) fn is_unwritten_since(&self, changes: u64) -> bool {
        // Counters wrap together: compare by distance.
        self.is_dirty() && (self.written.load(Ordering::Relaxed).wrapping_sub(changes) as i64) < 0
    }

    /// Where redo of this page would have to begin, if it is dirty (L3). Safe against a racing commit: whoever makes the
    /// page dirty stores `rec_lsn` before it raises `changes`.
    pub(crate) fn rec_lsn_if_dirty(&self) -> Option<Lsn> {
        self.is_dirty().then(|| Lsn::new(self.rec_lsn.load(Ordering::Relaxed)))
    }

    /// Under the exclusive latch: the group `[start, end)` changed the page (L1, L3).
    pub(crate) fn changed(&self, start: Lsn, end: Lsn) {
        if !self.is_dirty() {
            self.rec_lsn.store(start.get(), Ordering::Relaxed);
        }
        self.lsn.store(end.get(), Ordering::Relaxed);
        let changes = self.changes.load(Ordering::Relaxed);
        // Release: pairs with the Acquire in `changes`, so that a scan that sees the page dirty sees its rec_lsn.
        self.changes.store(changes + 1, Ordering::Release);
    }

    /// Claims the right to write this page out; one write of a page is in flight at most.
    pub(crate) fn claim_write(&self) -> bool {
        // Acquire pairs with the Release in `release_write`: the next writer sees what the last one settled.
        let claimed =
            self.writing.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        fence(Ordering::SeqCst); // partner: `is_held_under_latch` (P4)
        claimed
    }

    pub(crate) fn release_write(&self) {
        self.writing.store(false, Ordering::Release);
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Acquire)
    }

    /// Under the write claim: a copy taken at `changes` with `lsn` is in storage. Clean if nothing came after; else redo may
    /// begin at the copy (L3), so that a hot page cannot hold the log.
    ///
    /// No latch is needed. Until `written` rises the page is dirty, so nobody else stores `rec_lsn`; a change that comes
    /// between the two steps leaves the older, lower one, which is safe.
    pub(crate) fn settle_write(&self, changes: u64, lsn: Lsn) {
        let changes =
            if planted("a write settles what came after its copy") { self.changes() } else { changes };
        if self.changes.load(Ordering::Acquire) != changes {
            self.rec_lsn.store(lsn.get(), Ordering::Relaxed);
        }
        self.written.store(changes, Ordering::Release); // partner: `is_dirty`
    }

    /// Raises the pin count, and the count of hits. After it, either the evictor sees the pin or the caller sees the evictor's
    /// latch (P4).
    ///
    /// # Panics
    ///
    /// With 2^23 pins of one page at once, long before the count would run into its neighbour: pins are guards, and they leak.
    #[inline]
    pub(crate) fn pin(&self) {
        let before = self.pins.fetch_add(PIN | HIT, Ordering::Relaxed);
        if !planted("a pin has no fence") {
            fence_after_rmw(); // partner: `is_held_under_latch`
        }
        if before & PINS >= PINS / 2 {
            too_many_pins();
        }
    }

    /// It was no hit after all: the page had left.
    pub(crate) fn no_hit(&self) {
        self.pins.fetch_sub(HIT, Ordering::Relaxed);
    }

    /// For a loader that already owns the frame.
    pub(crate) fn pin_owned(&self) {
        self.pins.fetch_add(PIN, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn unpin(&self) {
        let before = self.pins.fetch_sub(PIN, Ordering::Release);
        debug_assert!(before & PINS > 0, "P4: a pin is released once");
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Relaxed) & PINS != 0
    }

    /// How often it was pinned with its page resident, over all pages that it held.
    pub(crate) fn hits(&self) -> u64 {
        self.pins.load(Ordering::Relaxed) / HIT
    }

    /// Under the exclusive latch: whether somebody pinned it or is writing it out. Partner of the fences in `pin` and
    /// `claim_write` (P4).
    pub(crate) fn is_held_under_latch(&self) -> bool {
        if planted("an evictor does not look again under the latch") {
            return false;
        }
        if !planted("an evictor has no fence") {
            fence(Ordering::SeqCst);
        }
        self.pins.load(Ordering::Acquire) & PINS != 0
            || (self.is_writing() && !planted("who throws a page out does not wait for its write"))
    }
}

#[cold]
fn too_many_pins() -> ! {
    panic!("P4: millions of pins of one page: guards are leaked");
}
