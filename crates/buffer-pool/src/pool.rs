//! The pool itself: what it owns, and how it is made.

use std::path::Path;
use std::time::Duration;

use pagestone_direct_io::PageFile;
use pagestone_hybrid_latch::Contention;
use pagestone_page_format::{
    FrameIndex, Lsn, PageError, PageId, PageResult, PageSize, PageStore, Poison, WriteAhead,
};
use pagestone_swip::MAX_FRAMES;
use pagestone_sync::atomic::{AtomicUsize, Ordering};
use pagestone_sync::{Arc, Condvar, Mutex, Queue};

use crate::admission::Gate;
use crate::arena::Arena;
use crate::budget::Budget;
use crate::evict::young_places;
use crate::frame::Frame;
use crate::loads::LoadPlace;
use crate::metrics::PoolMetrics;
use crate::provider::Demand;
use crate::read_ahead::Requests;
use crate::staging::Staging;
use crate::stats::Counters;
use crate::table::PageTable;
use crate::variant::LOAD_PLACES;
use crate::{MIN_FRAMES, PoolOptions, PoolStats};

/// Why a step of a descent has to be taken again. Control flow, not an error: it never leaves the retry loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// A writer was faster; what was read means nothing.
    Conflict,
    /// The page is not resident: drop every guard, call [`BufferPool::fault`], and take the step again with the pin held.
    Fault(PageId),
}

/// Frames, the table that finds them, and the storage behind. Shared by reference; all methods take `&self`.
#[derive(Debug)]
pub struct BufferPool {
    pub(crate) store: Box<dyn PageStore>,
    pub(crate) size: PageSize,
    pub(crate) frames: Box<[Frame]>,
    pub(crate) arena: Arena,
    pub(crate) table: PageTable,
    pub(crate) free: Queue<FrameIndex>,
    /// Frames in the order in which they were loaded, those on probation among them. Nobody owns a frame by it: an entry may be
    /// out of date.
    pub(crate) young: Queue<FrameIndex>,
    pub(crate) hand: AtomicUsize,
    pub(crate) staging: Staging,
    pub(crate) loads: Box<[LoadPlace]>,
    /// Signalled when a frame may have become evictable or a write-back ended.
    pub(crate) frame_freed: Waiters,
    /// Where frames are asked for ahead of time.
    pub(crate) demand: Demand,
    pub(crate) requests: Requests,
    pub(crate) budget: Budget,
    pub(crate) gate: Gate,
    pub(crate) log: Option<std::sync::Arc<dyn WriteAhead>>,
    pub(crate) poison: Poison,
    pub(crate) exhausted_wait: Duration,
    pub(crate) counters: Counters,
    pub(crate) metrics: PoolMetrics,
    /// Who waited for the latches of frames.
    pub(crate) contention: Contention,
}

/// A place to wait for something that is true of atomics: checked under the lock, signalled under it after the change.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    lock: Mutex<()>,
    changed: Condvar,
    sleepers: AtomicUsize,
}

impl Waiters {
    /// Waits until somebody notifies, unless it is `done`, for at most `limit`: for who looks again soon by itself, since it
    /// may miss [`Waiters::notify_if_waiting`].
    pub(crate) fn wait_briefly(&self, limit: Duration, done: impl FnOnce() -> bool) {
        let guard = self.lock.lock();
        if !done() {
            self.sleepers.fetch_add(1, Ordering::Relaxed);
            drop(self.changed.wait_briefly(guard, limit));
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Free of charge while nobody waits in [`Waiters::wait_briefly`]. Who is just going to sleep there may miss it.
    pub(crate) fn notify_if_waiting(&self) {
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }
}

impl BufferPool {
    /// A pool over `store`.
    ///
    /// Errors: [`PageError::BufferPoolExhausted`] for fewer than [`MIN_FRAMES`] or more frames than a swip can name,
    /// [`PageError::Io`] if the memory cannot be reserved.
    pub fn with_options(store: Box<dyn PageStore>, options: PoolOptions) -> PageResult<Self> {
        let capacity = options.frames;
        let frames = options.frames_max.max(capacity);
        if capacity < MIN_FRAMES || frames > MAX_FRAMES {
            let wrong = if capacity < MIN_FRAMES { capacity } else { frames };
            return Err(PageError::BufferPoolExhausted { capacity: wrong });
        }
        let size = store.page_size();
        let free = Queue::new(frames);
        for index in 0..capacity {
            free.push(FrameIndex::new(index as u32)).expect("P9: the free list has room for every frame");
        }
        Ok(Self {
            size,
            frames: (0..frames).map(|_| Frame::empty()).collect(),
            arena: Arena::reserve(frames, size)?,
            table: PageTable::for_frames(frames),
            free,
            young: Queue::new(young_places(frames)),
            hand: AtomicUsize::new(0),
            staging: Staging::new(size),
            loads: (0..LOAD_PLACES).map(|_| LoadPlace::default()).collect(),
            frame_freed: Waiters::default(),
            demand: Demand::default(),
            requests: Requests::default(),
            budget: Budget::new(capacity),
            gate: Gate::new(capacity),
            log: options.log,
            poison: options.poison,
            exhausted_wait: options.exhausted_wait,
            counters: Counters::default(),
            metrics: PoolMetrics::new(),
            contention: Contention::new(),
            store,
        })
    }

    /// A pool of unlogged pages with default options. A number of frames that no pool can have, 0 or 2^24 and more, is taken for the
    /// nearest one that it can: [`BufferPool::capacity`] says which.
    ///
    /// # Panics
    ///
    /// If the system has no address space for the frames, as a `Vec` does. [`BufferPool::with_options`] gives an error.
    pub fn new(store: impl PageStore + 'static, frames: usize) -> Self {
        let frames = frames.clamp(MIN_FRAMES, MAX_FRAMES);
        Self::with_options(Box::new(store), PoolOptions::new(frames))
            .unwrap_or_else(|error| panic!("a pool of {frames} frames: {error}"))
    }

    /// A pool over the page file of this name, which is made if there is none: [`PageFile::open`], then as [`BufferPool::new`],
    /// with errors.
    ///
    /// ```
    /// use pagestone_buffer_pool::BufferPool;
    /// use pagestone_page_format::{DEFAULT_PAGE_SIZE, PageId};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("pages");
    /// let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 64)?;
    /// let page = pool.new_page(PageId::new(0))?; // the file grows
    /// page.write()?.payload_mut()[..5].copy_from_slice(b"hello");
    /// drop(page);
    /// pool.checkpoint()?; // written and synced
    /// drop(pool);
    ///
    /// let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 64)?;
    /// assert_eq!(&pool.fetch(PageId::new(0))?.read()?.payload()[..5], b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>, page_size: PageSize, frames: usize) -> PageResult<Self> {
        let frames = frames.clamp(MIN_FRAMES, MAX_FRAMES);
        Self::with_options(Box::new(PageFile::open(path, page_size)?), PoolOptions::new(frames))
    }

    /// Size of every page.
    pub fn page_size(&self) -> PageSize {
        self.size
    }

    /// Frames of the pool: what its budget is now.
    pub fn capacity(&self) -> usize {
        self.budget.capacity()
    }

    /// Pages resident now.
    pub fn resident_len(&self) -> usize {
        self.frames.iter().filter(|frame| frame.page().is_some()).count()
    }

    /// Whether the page is resident now.
    pub fn is_resident(&self, id: PageId) -> bool {
        matches!(self.table.get(id), crate::table::Entry::Resident(_))
    }

    /// Whether the page is resident now with changes that storage lacks; storage may then hold an older image of it, half a
    /// write of a newer one, or none.
    pub fn is_dirty(&self, id: PageId) -> bool {
        match self.table.get(id) {
            crate::table::Entry::Resident(index) => {
                let frame = &self.frames[index.index()];
                frame.holds(id) && frame.is_dirty()
            }
            crate::table::Entry::Absent | crate::table::Entry::Loading => false,
        }
    }

    /// Operations that wait now for a page that another one is loading.
    pub fn waiting_for_loads(&self) -> usize {
        self.loads.iter().map(LoadPlace::waiting).sum()
    }

    /// The storage behind the pool.
    pub fn store(&self) -> &dyn PageStore {
        &*self.store
    }

    /// The least LSN from which redo of a dirty page would have to begin, over all frames; none if all are clean (L5).
    pub fn oldest_rec_lsn(&self) -> Option<Lsn> {
        self.frames.iter().filter_map(Frame::rec_lsn_if_dirty).min()
    }

    /// Dirty pages now.
    pub fn dirty_len(&self) -> usize {
        self.frames.iter().filter(|frame| frame.is_dirty()).count()
    }

    /// What the pool has done so far.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            frames: self.capacity() as u64,
            resident: self.resident_len() as u64,
            hits: self.frames.iter().map(Frame::hits).sum(),
            misses: self.counters.misses.get(),
            failed_reads: self.counters.failed_reads.get(),
            table_hits: self.counters.table_hits.get(),
            prefetches: self.counters.prefetches.get(),
            prefetch_hits: self.counters.prefetch_hits.get(),
            failed_prefetches: self.counters.failed_prefetches.get(),
            evictions: self.counters.evictions.get(),
            write_backs: self.counters.write_backs.get(),
            write_batches: self.counters.write_batches.get(),
            load_waits: self.counters.load_waits.get(),
            frame_waits: self.counters.frame_waits.get(),
            provided: self.counters.provided.get(),
            failed_provisions: self.counters.failed_provisions.get(),
        }
    }

    /// The error for a latch whose holder panicked (E7).
    #[cold]
    pub(crate) fn latch_poisoned(&self, id: PageId) -> PageError {
        self.poison.poison(format_args!("a panic while page {id} was latched exclusively"))
    }

    pub(crate) fn load_place(&self, id: PageId) -> &LoadPlace {
        &self.loads[id.get() as usize % self.loads.len()]
    }
}

/// The pool is shared by reference count wherever trees and transactions hold it.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<BufferPool>>();
};
