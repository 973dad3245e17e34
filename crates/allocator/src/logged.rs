//! The allocator under the log: who gets which id, and what must be read or written down before.
//!
//! Invariant: the mutex is a leaf and short. No I/O, no wait and no call of the caller's code happens under it.
//!
//! ```text
//!   reserve ──► next step? ── Take ────► grow the file if need be ──► Reservation
//!                 ▲   │
//!                 │   ├───── Load ────► claim the region, unlock, MapSource::load_region,   lock, merge
//!                 │   ├───── Format ──► claim the region, unlock, MapSource::format_region, lock, add
//!                 │   └───── Wait ────► until the claim of another thread ends
//!                 └──────────┘
//! ```
//!
//! An id is free for one thread only after its region has been taken in, and a region is taken in once; what happens to it
//! meanwhile reaches the allocator through [`Release`], which is told before a bit is cleared. So a load that runs beside
//! such a change gives the same result whether it saw the bit set or clear.

use pagestone_page_format::{Lsn, PageError, PageId, PageResult, PageSize};
use pagestone_sync::faults::planted;
use pagestone_sync::{Condvar, Mutex, MutexGuard};

use crate::metrics::AllocatorMetrics;
use crate::readers::Readers;
use crate::request::{Look, Request, Step};
use crate::state::{GrewBeside, State};
use crate::{ExtentReservation, MapSource, ReadGuard, Release, ReplayedFrees, Reservation, region_bits};

/// How many unknown regions one call of `reserve` reads before it takes ids past the highest in use.
const REGIONS_PER_RESERVE: u32 = 4;

/// Gives out page ids, lowest first, and takes them back. All calls may come from many threads at once.
///
/// It begins by knowing nothing and does no I/O of its own: regions are asked of a [`MapSource`] as they are needed. The
/// cost of a call does not depend on the size of the file, until the file cannot grow: then every region is looked into,
/// once.
///
/// ```
/// use pagestone_allocator::{MapSource, LoggedAllocator, RegionBits};
/// use pagestone_page_format::{DEFAULT_PAGE_SIZE, PageId, PageResult};
///
/// // A new file, kept nowhere: region 0 is not formatted yet, and formatting it writes nothing down.
/// struct Nowhere;
/// impl MapSource for Nowhere {
///     fn load_region(&self, _region: u64) -> PageResult<Option<RegionBits>> { Ok(None) }
///     fn format_region(&self, _region: u64) -> PageResult<()> { Ok(()) }
///     fn grow(&self, _pages: u64) -> PageResult<()> { Ok(()) }
///     fn file_pages(&self) -> PageResult<u64> { Ok(0) }
/// }
///
/// let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
/// let mut ids = allocator.reserve(&Nowhere, 3)?;
/// assert_eq!(ids.take(), Some(PageId::new(1)));
/// for (map_page, set_bits) in ids.set_bits() {
///     assert_eq!((map_page, set_bits.first, set_bits.count), (PageId::new(0), PageId::new(1), 1));
///     // ... latch the map page, apply, and put the operation into the group ...
/// }
/// ids.commit(); // after the group was appended; ids 2 and 3, which were not taken, are free again
/// assert_eq!(allocator.high_water(), Some(2));
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
pub struct LoggedAllocator {
    /// Ids of a region.
    bits: u64,
    page_bytes: u64,
    state: Mutex<State>,
    readers: Readers,
    pub(crate) metrics: AllocatorMetrics,
    /// Notified when a region is no longer in progress, and when a cut has ended.
    pub(crate) progress: Condvar,
}

impl std::fmt::Debug for LoggedAllocator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedAllocator")
            .field("regions", &self.regions())
            .field("free", &self.free_count())
            .field("high_water", &self.high_water())
            .finish()
    }
}

impl LoggedAllocator {
    /// For a file whose map pages are changed through the log. No id past `last` is given out: [`PageId::MAX`], or less
    /// where references to pages have fewer bits.
    pub fn under_log(size: PageSize, last: PageId) -> Self {
        Self::with_region_bits(region_bits(size), size, last)
    }

    /// As [`LoggedAllocator::under_log`], after a recovery that replayed the log up to `end`: `frees` may be used as pages at once, and
    /// as extents when a checkpoint has passed `end` ([`LoggedAllocator::checkpoint_passed`]). What the map says is free beside them was
    /// freed before the checkpoint that recovery began at. That one must stand in both superblock copies before an id is reserved (L8).
    pub fn after_replay(size: PageSize, last: PageId, frees: &ReplayedFrees, end: Lsn) -> Self {
        let allocator = Self::under_log(size, last);
        allocator.state().freed_by_replay(end, frees);
        allocator
    }

    /// With regions of any size, which tests make small.
    pub(crate) fn with_region_bits(bits: u64, size: PageSize, last: PageId) -> Self {
        let end = last.min(PageId::MAX).get() + 1;
        Self {
            bits,
            page_bytes: size.get() as u64,
            state: Mutex::new(State::new(bits, end)),
            readers: Readers::default(),
            metrics: AllocatorMetrics::default(),
            progress: Condvar::new(),
        }
    }

    /// Reserves `ids` ids, the lowest that are known to be free, and makes room for them in the file: all or none.
    ///
    /// May wait for the I/O of another thread that is here too, and may commit a mini-transaction through `source`. So call
    /// it first: before log space and frames are held, and with nothing latched.
    ///
    /// Errors: `NoSpace` if the file cannot have so many more pages, and whatever `source` gives; nothing is reserved then.
    pub fn reserve(&self, source: &dyn MapSource, ids: usize) -> PageResult<Reservation<'_>> {
        let taken = self.reserve_as(source, Request::Singles(ids as u64))?;
        Ok(Reservation::new(self, &taken.keep()))
    }

    /// Reserves ids in a row, all or none; otherwise as [`LoggedAllocator::reserve`].
    ///
    /// A run lies within one region, so more than [`region_bits`] - 1 ids in a row are `NoSpace`. Ids that were freed a
    /// moment ago may be among them: that is right for pages that go through the log, and not for extents that are written
    /// past it before a checkpoint has passed their free (L8).
    pub fn reserve_run(&self, source: &dyn MapSource, ids: u32) -> PageResult<Reservation<'_>> {
        let taken = self.reserve_as(source, Request::Run(ids.into()))?;
        Ok(Reservation::new(self, &taken.keep()))
    }

    /// Reserves `pages` ids for bytes that are written past the pool: in one run if the file has one so long, else in as few as
    /// it can have without growing, else past its end; at most `runs` runs, each within one region. All or none; otherwise as
    /// [`LoggedAllocator::reserve`].
    ///
    /// Only ids are given whose last free a checkpoint has passed and that nobody reads any more (L8). Where such are missing and
    /// others are free, the file grows, and [`LoggedAllocator::wants_checkpoint`] says so. Where it cannot grow, that is `NoSpace`, and
    /// [`LoggedAllocator::needs_checkpoint`] says whether some are free but not yet for extents.
    pub fn reserve_extents(
        &self,
        source: &dyn MapSource,
        pages: u64,
        runs: usize,
    ) -> PageResult<ExtentReservation<'_>> {
        let taken = self.reserve_as(source, Request::Extents { pages, runs });
        let taken = taken.inspect_err(|error| {
            if matches!(error, PageError::NoSpace { .. }) {
                self.state().note_full();
            }
        })?;
        Ok(ExtentReservation::new(self, taken.keep()))
    }

    /// Registers a reader of values in extents: extents that are freed from now on stay as they are until the guard is dropped.
    /// To be taken before the page with the reference is validated.
    pub fn read_guard(&self) -> ReadGuard {
        self.readers.guard()
    }

    /// Says that recovery will never again begin before `lsn`: what was freed by groups that end there or before may be used
    /// as extents. To be called after each checkpoint, with the **older** superblock copy's LSN (L6, L8).
    pub fn checkpoint_passed(&self, lsn: Lsn) {
        self.state().checkpoint_passed(lsn);
    }

    /// Whether the file grew by extents while enough ids were free for pages alone: a checkpoint, in both superblock copies, would
    /// make them free for extents.
    pub fn wants_checkpoint(&self) -> bool {
        self.state().grew_beside().is_some()
    }

    /// Whether these ids are so many, a sixteenth of the file, that the next extents should wait for that checkpoint rather
    /// than let the file grow further; or the file could not grow.
    pub fn needs_checkpoint(&self) -> bool {
        self.state().grew_beside() == Some(GrewBeside::ManyYoung)
    }

    /// Ids that were freed and cannot be extents yet, in the regions that are known: no checkpoint has passed their free, or
    /// somebody still reads them.
    pub fn quarantined_count(&self) -> u64 {
        self.state().quarantined()
    }

    /// Begins a release, of no ids yet.
    pub fn release(&self) -> Release<'_> {
        Release::new(self)
    }

    /// Free ids below the high water, in the regions that are known.
    pub fn free_count(&self) -> u64 {
        self.state().free_count()
    }

    /// One past the highest id that is in use or reserved; `None` before the last region was needed.
    pub fn high_water(&self) -> Option<u64> {
        self.state().high_water()
    }

    /// How many regions are formatted; `None` before region 0 was needed.
    pub fn regions(&self) -> Option<u64> {
        self.state().regions.count()
    }

    /// The map page of an id.
    pub(crate) fn map_page_of(&self, id: PageId) -> PageId {
        PageId::new(id.get() - id.get() % self.bits)
    }

    /// The state, with what readers have let go of since.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.let_go(&self.readers);
        state
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    fn reserve_as(&self, source: &dyn MapSource, request: Request) -> PageResult<Taken<'_>> {
        if request.ids() == 0 {
            return Ok(Taken { allocator: self, runs: Vec::new() });
        }
        let mut look = Look::Regions(REGIONS_PER_RESERVE);
        loop {
            let mut state = self.state();
            let step = state.next_step(request, look);
            let done = match step {
                Step::Wait => {
                    self.metrics.waits.inc();
                    drop(self.progress.wait(state));
                    continue;
                }
                Step::NoSpace => return Err(self.no_space(request)),
                Step::Take => {
                    let taken = Taken { allocator: self, runs: state.take(request) };
                    drop(state);
                    // If there is no room, dropping it gives the ids back.
                    match self.make_room(source, taken.end()) {
                        Ok(()) => {
                            self.metrics.reservations.inc();
                            return Ok(taken);
                        }
                        Err(error) => Err(error),
                    }
                }
                Step::Load(region) => {
                    if let Look::Regions(more) = &mut look {
                        *more = more.saturating_sub(1);
                    }
                    state.regions.begin(region);
                    drop(state);
                    self.load(source, region)
                }
                Step::Format { region, pages } => {
                    state.regions.begin(region);
                    drop(state);
                    self.format(source, region, pages)
                }
            };
            match done {
                Ok(()) => {}
                // A full disk: free ids in regions that nobody has looked into are the only ones left.
                Err(PageError::NoSpace { .. }) if look != Look::All => look = Look::All,
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn load_every_region(&self, source: &dyn MapSource) -> PageResult<()> {
        loop {
            let mut state = self.state();
            let region = state.regions.must_load().or_else(|| state.regions.lowest_unknown());
            let Some(region) = region else { return Ok(()) };
            if state.regions.is_busy() {
                drop(self.progress.wait(state));
                continue;
            }
            state.regions.begin(region);
            drop(state);
            self.load(source, region)?;
        }
    }

    /// Reads a region that this thread has put in progress, and takes it in.
    fn load(&self, source: &dyn MapSource, region: u64) -> PageResult<()> {
        self.metrics.loads.inc();
        let _claim = Claim(self);
        let loaded = source.load_region(region)?;
        self.state.lock().merge(region, loaded)
    }

    /// Makes a region that this thread has put in progress.
    fn format(&self, source: &dyn MapSource, region: u64, pages: u64) -> PageResult<()> {
        self.metrics.loads.inc();
        let _claim = Claim(self);
        self.make_room(source, pages)?;
        source.format_region(region)?;
        self.state.lock().add_region(region);
        Ok(())
    }

    /// Makes the file at least that long.
    fn make_room(&self, source: &dyn MapSource, pages: u64) -> PageResult<()> {
        let state = self.state.lock();
        if pages <= state.room {
            return Ok(());
        }
        let cuts = state.tail.cuts();
        drop(state);
        let mut room = source.file_pages()?;
        if room < pages {
            source.grow(pages)?;
            // The file may have grown by more than was asked, which saves the next calls.
            room = source.file_pages()?.max(pages);
        }
        let mut state = self.state.lock();
        // What was beyond the ids of this call may have been cut off since it was measured.
        let is_so = state.tail.cuts() == cuts || planted("what was measured beside a cut is believed");
        let room = if is_so { room } else { pages };
        state.room = state.room.max(room);
        Ok(())
    }

    #[cold]
    fn no_space(&self, request: Request) -> PageError {
        PageError::NoSpace { needed: request.ids().saturating_mul(self.page_bytes) }
    }
}

/// Runs that were taken: given back when dropped.
struct Taken<'a> {
    allocator: &'a LoggedAllocator,
    runs: Vec<(u64, u64)>,
}

impl Taken<'_> {
    /// One past the last id, the runs being in order.
    fn end(&self) -> u64 {
        self.runs.last().map_or(0, |(start, len)| start + len)
    }

    /// The runs, for somebody who gives them back.
    fn keep(mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.runs)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let mut state = self.allocator.state();
        for (start, len) in self.runs.drain(..) {
            state.forfeit(start, len);
        }
    }
}

/// The region in progress: ended and announced on every way out, an error's and a panic's too, so that nobody waits for
/// a thread that has left.
pub(crate) struct Claim<'a>(pub(crate) &'a LoggedAllocator);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.state.lock().regions.end();
        self.0.progress.notify_all();
    }
}
