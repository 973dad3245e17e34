//! Many pages at once: pinned by `fetch_many`, only brought in by `prefetch`.
//!
//! Invariant: nobody waits while it holds claims. Neither for a latch, nor for another's load, nor for a pinned frame: a
//! claim is what others wait for, so two batches over the same pages in different orders would wait for each other.
//!
//! ```text
//!   fetch_many   1  pin what is resident                        may wait for latches; no claims
//!                2  claim what is absent, up to WAVE pages      what others load is left for the next round
//!                3  read the wave in one call, publish each     a bad page spoils no other
//!                4  nothing pinned and nothing claimed: wait for a load, or for a frame
//!   prefetch     2 and 3 once, without pins; step 4 never
//! ```
//!
//! One call to storage keeps the whole wave in flight, where single reads keep one: it is asynchrony and batch size that
//! matter, not the call.

use std::time::Instant;

use pagestone_page_format::{Page, PageError, PageId, PageResult};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::faults::planted;

use crate::fault::{Claim, FirstTouch};
use crate::table::Entry;
use crate::variant::PREFETCH_SHARE;
use crate::{BufferPool, PageGuard, Pin};

/// Pages read by one call to storage at most.
const WAVE: usize = 64;

/// A page of a batch: where its answer goes, and the right to load it.
type Wave<'p> = Vec<(usize, Claim<'p>)>;
/// What became of pages of a batch, by their places in it.
type Answers<T> = Vec<(usize, T)>;

impl BufferPool {
    /// Pins many pages; those that are not resident are read together, up to 64 by one call to storage. `answers[i]` is of
    /// `ids[i]`: a page that cannot be read spoils no other. An id may come twice and is then pinned twice.
    ///
    /// May do I/O and wait: the caller holds no latch. All pages stay pinned together, so no more than [`BufferPool::capacity`]
    /// different ones can be had, and fewer while others hold pins: the rest are [`PageError::BufferPoolExhausted`] after one bounded
    /// wait for all of them. Threads that pin many pages at once take turns by [`BufferPool::admit`].
    ///
    /// ```
    /// use pagestone_buffer_pool::BufferPool;
    /// use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};
    /// let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 8);
    /// let ids: Vec<PageId> = (0..4).map(PageId::new).collect();
    /// for id in &ids {
    ///     pool.new_page(*id)?.write()?.payload_mut()[0] = id.get() as u8;
    /// }
    /// pool.drop_cache()?;
    /// pool.prefetch(&ids); // a hint; not needed for what follows
    /// for (id, page) in ids.iter().zip(pool.fetch_many(&ids)) {
    ///     assert_eq!(page?.read()?.payload()[0], id.get() as u8);
    /// }
    /// # Ok::<(), pagestone_page_format::PageError>(())
    /// ```
    pub fn fetch_many(&self, ids: &[PageId]) -> Vec<PageResult<PageGuard<'_>>> {
        self.fault_many(ids).into_iter().map(|pin| pin.map(PageGuard::new)).collect()
    }

    /// [`BufferPool::fetch_many`] in the face by swip: pins and no guards.
    pub fn fault_many(&self, ids: &[PageId]) -> Vec<PageResult<Pin<'_>>> {
        let mut answers: Vec<Option<PageResult<Pin<'_>>>> = ids.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..ids.len()).collect();
        let mut exhausted = false;
        while !left.is_empty() {
            let before = left.len();
            // 1. What is resident.
            left.retain(|&at| {
                answers[at] = self.pin_if_resident(ids[at]).transpose();
                answers[at].is_none()
            });
            // 2. and 3. What is absent.
            let (wave, failed) = self.claim_wave(&left, ids, WAVE);
            failed.into_iter().for_each(|(at, error)| answers[at] = Some(Err(error)));
            let read = self.read_wave(wave, FirstTouch::Now);
            read.into_iter().for_each(|(at, pin)| answers[at] = Some(pin));
            left.retain(|&at| answers[at].is_none());
            // 4. Nothing moved: all that is left is being loaded by others, or wants a frame.
            if left.len() == before {
                let at = left[0];
                answers[at] = self.wait_for_one(ids[at], &mut exhausted).transpose();
                left.retain(|&at| answers[at].is_none());
            }
        }
        answers.into_iter().map(|answer| answer.expect("every page of a batch has its answer")).collect()
    }

    /// Says that these pages will be wanted soon: those that are absent are read together, as far as frames can be had without
    /// waiting, and at most a sixteenth of the pool by one call. A page that nobody touches before the clock comes round goes out again; the
    /// first touch counts as its loading, so a scan that reads ahead makes nothing hot.
    ///
    /// It may read, and write dirty pages out to have frames; the caller holds no latch. Errors are dropped and counted in
    /// [`crate::PoolStats::failed_prefetches`]; who then fetches such a page is told.
    pub fn prefetch(&self, ids: &[PageId]) {
        let mut most = (self.capacity() / PREFETCH_SHARE).max(1);
        for ids in ids.chunks(WAVE) {
            let all: Vec<usize> = (0..ids.len()).collect();
            let (wave, failed) = self.claim_wave(&all, ids, most);
            most -= wave.len();
            self.counters.failed_prefetches.add(failed.len() as u64);
            for (_, pin) in self.read_wave(wave, FirstTouch::ToCome) {
                let counter = match &pin {
                    Ok(_) => &self.counters.prefetches,
                    Err(_) => &self.counters.failed_prefetches,
                };
                counter.add(1);
            }
            if most == 0 {
                return;
            }
        }
    }

    fn pin_if_resident(&self, id: PageId) -> PageResult<Option<Pin<'_>>> {
        match self.table.get(id) {
            Entry::Resident(index) => self.pin_resident(id, index),
            Entry::Absent | Entry::Loading => Ok(None),
        }
    }

    /// Claims those of the pages at `places` of `ids` that are absent, as far as frames can be had without waiting, `most` of them at
    /// most; gives also what went wrong. Waits for nothing but its own writes of dirty pages.
    fn claim_wave(&self, places: &[usize], ids: &[PageId], most: usize) -> (Wave<'_>, Answers<PageError>) {
        let (mut wave, mut failed) = (Vec::new(), Vec::new());
        for &at in places {
            let id = ids[at];
            if id > MAX_SWIP_PAGE {
                failed.push((at, PageError::InvalidPageId { page_id: id }));
                continue;
            }
            if wave.len() == most {
                break;
            }
            match self.table.get(id) {
                Entry::Absent => {}
                Entry::Loading if planted("a batch waits for others while it holds claims") => {
                    drop(self.wait_for_load(id));
                    continue;
                }
                Entry::Loading | Entry::Resident(_) => continue,
            }
            match self.free_frame_now() {
                Ok(Some(index)) => wave.extend(Claim::take(self, id, index).map(|claim| (at, claim))),
                Ok(None) => break,
                Err(error) => failed.push((at, error)),
            }
        }
        (wave, failed)
    }

    /// Reads what is claimed by one call to storage, and publishes it.
    fn read_wave<'p>(&'p self, wave: Wave<'p>, first_touch: FirstTouch) -> Answers<PageResult<Pin<'p>>> {
        if wave.is_empty() {
            return Vec::new();
        }
        let ids: Vec<PageId> = wave.iter().map(|(_, claim)| claim.id).collect();
        let mut pages: Vec<Page> = ids.iter().map(|id| self.staging.take(&*self.store, *id)).collect();
        self.counters.misses.add(ids.len() as u64);
        let began = Instant::now();
        let results = self.store.read_many(&ids, &mut pages);
        self.metrics.batch_took(began);
        assert_eq!(results.len(), ids.len(), "PageStore::read_many gives one result per page");
        let mut answers = Vec::with_capacity(wave.len());
        for (((at, claim), read), page) in wave.into_iter().zip(results).zip(pages) {
            let pin = match read.and_then(|()| self.check_read(&page)) {
                Ok(()) => self.publish(claim, &page, first_touch),
                Err(error) => {
                    self.counters.failed_reads.add(1);
                    Err(claim.fail(error))
                }
            };
            answers.push((at, pin));
            self.staging.give(page);
        }
        // Once all are there: who waits for one of them mostly wants the next ones too, and would else be woken for each.
        for (_, pin) in &answers {
            if let Ok(pin) = pin {
                self.load_ended(pin.id);
            }
        }
        answers
    }

    /// Waits for another thread's load, or brings the page in once there is a frame. Without claims: the one that it takes is loaded
    /// at once. Only the first page of a batch waits for a frame in vain.
    fn wait_for_one(&self, id: PageId, exhausted: &mut bool) -> PageResult<Option<Pin<'_>>> {
        match self.table.get(id) {
            Entry::Resident(_) => Ok(None),
            Entry::Loading => self.wait_for_load(id).map(|()| None),
            Entry::Absent if *exhausted => Err(PageError::BufferPoolExhausted { capacity: self.capacity() }),
            Entry::Absent => {
                let index = self.free_frame(id).inspect_err(|error| {
                    *exhausted = matches!(error, PageError::BufferPoolExhausted { .. });
                })?;
                let Some(index) = index else { return Ok(None) };
                let wave = Claim::take(self, id, index).map(|claim| (0, claim)).into_iter().collect();
                self.read_wave(wave, FirstTouch::Now).pop().map(|(_, pin)| pin).transpose()
            }
        }
    }
}
