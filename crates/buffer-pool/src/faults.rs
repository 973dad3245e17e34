//! Faults that go on beside each other, each begun when it is known.
//!
//! Invariant: what is under way is claimed, and others may wait for it. So who has any under way waits for nothing but these reads, and
//! for the writes of dirty pages that make room: neither for a latch that is held across a wait, nor for another's load, nor for a pinned frame;
//! and it runs no code of others, which might want one of these very pages.
//!
//! ```text
//!   begin   absent · a frame at once ──► claimed, its read begun         others wait for it as for any load (P3)
//!           else                     ──► said, and nothing done
//!   wait    read ──► verified, published, pinned · or the error to those who waited
//!   drop    reads under way are waited for, their claims withdrawn (P10)
//! ```

use std::fmt;
use std::time::Instant;

use pagestone_page_format::{PageId, PageRead, PageReads, PageResult};
use pagestone_swip::MAX_SWIP_PAGE;

use crate::fault::{Claim, FirstTouch};
use crate::table::Entry;
use crate::variant::PREFETCH_SHARE;
use crate::{BufferPool, Pin};

/// What became of the wish for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is being read, and comes from [`Faults::wait`].
    Reading,
    /// It is there already.
    Resident,
    /// It is not to be had now: as many are under way as may be, another thread loads it, or there is no frame. Once some of those that
    /// are under way have come it can be asked for again; where none is, [`BufferPool::fault`] waits for what has to be waited for.
    NotNow,
}

/// Faults of one thread that are under way together, made by [`BufferPool::faults`].
///
/// While any is, the holder must not wait for other pages, nor call what may: another thread, or the same, would wait for these.
pub struct Faults<'p> {
    pool: &'p BufferPool,
    /// Before the claims: its drop waits for what is under way. None before the first.
    reads: Option<Box<dyn PageReads + 'p>>,
    claims: Vec<Claim<'p>>,
    ended: Vec<PageRead>,
    most: usize,
}

impl BufferPool {
    /// For who wants many pages, one after another, and has something to do with each as it comes: up to `most` are read at once, and a sixteenth
    /// of the pool at most.
    ///
    /// ```
    /// use pagestone_buffer_pool::{Begun, BufferPool};
    /// use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};
    /// let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 64);
    /// let ids: Vec<PageId> = (0..20).map(PageId::new).collect();
    /// for id in &ids {
    ///     pool.new_page(*id)?;
    /// }
    /// pool.drop_cache()?;
    /// let (mut faults, mut next, mut arrived) = (pool.faults(32), ids.iter(), Vec::new());
    /// let mut seen = 0;
    /// while seen < ids.len() {
    ///     while faults.has_room() && let Some(id) = next.next() {
    ///         assert_eq!(faults.begin(*id), Begun::Reading);
    ///     }
    ///     faults.wait(1, &mut arrived);
    ///     for (id, pin) in arrived.drain(..) {
    ///         assert_eq!(pin?.id(), id);
    ///         seen += 1;
    ///     }
    /// }
    /// # Ok::<(), pagestone_page_format::PageError>(())
    /// ```
    pub fn faults(&self, most: usize) -> Faults<'_> {
        let most = most.min(self.capacity() / PREFETCH_SHARE).max(1);
        Faults { pool: self, reads: None, claims: Vec::new(), ended: Vec::new(), most }
    }
}

impl<'p> Faults<'p> {
    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.claims.len()
    }

    /// Whether one more may be begun.
    pub fn has_room(&self) -> bool {
        self.claims.len() < self.most
    }

    /// Begins to read the page, if it can be done without waiting for anybody. It may write dirty pages out to have a frame; the caller holds no
    /// latch.
    pub fn begin(&mut self, id: PageId) -> Begun {
        match self.pool.table.get(id) {
            Entry::Resident(_) => return Begun::Resident,
            Entry::Loading if self.claims.iter().any(|claim| claim.id == id) => return Begun::Reading,
            Entry::Loading => return Begun::NotNow,
            Entry::Absent if id > MAX_SWIP_PAGE || !self.has_room() => return Begun::NotNow,
            Entry::Absent => {}
        }
        // An error of writing is told to who waits for a frame.
        let Ok(Some(index)) = self.pool.free_frame_now() else { return Begun::NotNow };
        let Some(claim) = Claim::take(self.pool, id, index) else { return Begun::NotNow };
        self.pool.counters.misses.add(1);
        let page = self.pool.staging.take(&*self.pool.store, id);
        self.claims.push(claim);
        self.reads.get_or_insert_with(|| self.pool.store.reads()).begin(page);
        Begun::Reading
    }

    /// Waits until `least` of those under way have come, or all, and appends them, pinned; in the place of one that cannot be read is its error, which
    /// those who waited for it get too. The pins are let go of before anything else is waited for.
    pub fn wait(&mut self, least: usize, arrived: &mut Vec<(PageId, PageResult<Pin<'p>>)>) {
        let Some(reads) = &mut self.reads else { return };
        let began = Instant::now();
        reads.wait(least, &mut self.ended);
        self.pool.metrics.batch_took(began);
        for PageRead { id, page, result } in self.ended.drain(..) {
            let at = self.claims.iter().position(|claim| claim.id == id);
            let claim = self.claims.swap_remove(at.expect("P3: what was begun was claimed"));
            let pin = match result.and_then(|()| self.pool.check_read(&page)) {
                Ok(()) => {
                    let published = self.pool.publish(claim, &page, FirstTouch::Now);
                    published.inspect(|pin| self.pool.load_ended(pin.id()))
                }
                Err(error) => {
                    self.pool.counters.failed_reads.add(1);
                    Err(claim.fail(error))
                }
            };
            arrived.push((id, pin));
            self.pool.staging.give(page);
        }
    }
}

impl fmt::Debug for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<PageId> = self.claims.iter().map(|claim| claim.id).collect();
        f.debug_struct("Faults").field("under_way", &ids).finish_non_exhaustive()
    }
}
