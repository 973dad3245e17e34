//! The page provider: a thread that frees frames before anybody wants them.
//!
//! Invariant: it helps, and nobody depends on it. Who finds no frame frees some himself, as in a pool without a provider, so one that is
//! asleep, slow or dead costs time and nothing else. And it does not sleep over a demand: who takes a frame and leaves fewer than
//! the low mark says so after that, and what is said ends the next sleep.
//!
//! ```text
//!   who takes a frame                            provider
//!   take · fewer left than the low mark?         asleep
//!      └─ wanted := true, wake ────────────────► wanted := false · sweep, batch by batch, up to the high mark
//!                                                  ends early: nothing can be freed, a write failed, it is to stop
//!                                                asleep, unless somebody said meanwhile that he wants more
//! ```
//!
//! One sweep is what a fault would do (`evict.rs`): clean victims first, dirty ones in one batch, log first. It is not retried in vain, nor
//! after an error: that is counted, and whoever then finds no frame is told. After LeanStore (ICDE 2018), which has such threads for
//! all of the work.

use std::fmt;
use std::io;

use pagestone_page_format::{PageError, PageResult};
use pagestone_sync::atomic::{AtomicBool, Ordering};
use pagestone_sync::faults::planted;
use pagestone_sync::{Arc, Condvar, Mutex};
use pagestone_threading::{Spawner, ThreadClass, Worker, WorkerPanicked};

use crate::BufferPool;
use crate::variant::{PROVIDED_MAX, PROVIDED_SHARE};

/// How the pool asks its provider for frames.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// Whether there is a provider to ask.
    served: AtomicBool,
    pub(crate) state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// There is a provider, awake, asleep or dead: from its start until its end has been waited for.
    taken: bool,
    pub(crate) wanted: bool,
    pub(crate) stopped: bool,
}

impl Demand {
    #[inline]
    pub(crate) fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn raise(&self) {
        let mut state = self.state.lock();
        if !state.wanted {
            state.wanted = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Sleeps until frames are wanted; false: there is to be no more work. What is wanted from now on ends the next sleep.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.stopped && !state.wanted {
            state = self.changed.wait(state);
        }
        state.wanted = false;
        !state.stopped
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// For a provider that is to begin; false if there is one. Nothing is wanted of it yet.
    pub(crate) fn take(&self) -> bool {
        let mut state = self.state.lock();
        let free = !state.taken;
        if free {
            *state = State { taken: true, ..State::default() };
            self.served.store(true, Ordering::Relaxed);
        }
        free
    }

    /// The provider is no more. In one hold: what is said to the next one must not be forgotten with this one.
    pub(crate) fn leave(&self) {
        if planted("a provider that ends takes the next one with it") {
            self.state.lock().taken = false;
            *self.state.lock() = State::default();
            return self.served.store(false, Ordering::Relaxed);
        }
        let mut state = self.state.lock();
        self.served.store(false, Ordering::Relaxed);
        *state = State::default();
    }
}

impl BufferPool {
    /// The marks: with fewer free frames than the low one the provider is woken, and then it frees until the high one is reached. A pool
    /// of fewer than 64 frames has none to spare.
    fn low_mark(&self) -> usize {
        (self.capacity() / PROVIDED_SHARE).min(PROVIDED_MAX)
    }

    fn high_mark(&self) -> usize {
        2 * self.low_mark()
    }

    /// To be called after a frame was taken off the free list, or none was there.
    #[inline]
    pub(crate) fn frame_was_wanted(&self) {
        if self.demand.is_served()
            && self.free.len() < self.low_mark()
            && !planted("nobody asks the provider")
        {
            self.demand.raise();
        }
    }

    /// One round of the page provider, for whoever has a thread of his own for it: frees frames until there are as many as a provider
    /// keeps, one in 32 and 256 at most, or no more can be freed. Writes dirty pages if there are no clean ones to evict. Gives how many it
    /// freed; the caller holds no latch.
    ///
    /// Errors: those of writing; the pages are still dirty, and whoever finds no frame is told too.
    pub fn provide_frames(&self) -> PageResult<usize> {
        let mut all = 0;
        while self.free.len() < self.high_mark() && !self.demand.is_stopped() {
            let freed = self.sweep().inspect_err(|_| self.counters.failed_provisions.add(1))?;
            if freed == 0 {
                break;
            }
            self.counters.provided.add(freed as u64);
            all += freed;
        }
        Ok(all)
    }

    /// The life of a provider.
    pub(crate) fn provide_until_stopped(&self) {
        while self.demand.wait() {
            // Counted. The next demand tries again, and who is in need of a frame meets the error himself.
            let _ = self.provide_frames();
            if planted("what is wanted while the provider works is forgotten") {
                self.demand.state.lock().wanted = false;
            }
        }
    }
}

/// The background page provider of a pool: while it lives, faults find free frames and seldom have to evict. Dropping it ends the thread
/// and waits for that.
///
/// It is worth its while where there are cores to spare: it does the same work, on another core and ahead of time. Its panics poison
/// what the pool poisons (E8), and the pool works on without it.
///
/// ```
/// use std::sync::Arc;
/// use pagestone_buffer_pool::{BufferPool, PageProvider, Spawner, ThreadClass};
/// use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};
///
/// let pool = Arc::new(BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 1024));
/// let provider = PageProvider::start(&pool, &Spawner::unpinned(), ThreadClass::Worker)?;
/// for id in (0..4096).map(PageId::new) {
///     pool.new_page(id)?.write()?.payload_mut()[0] = 1;
/// }
/// provider.stop().expect("no panic");
/// assert!(pool.stats().evictions >= 3072); // by the provider, as far as it was ahead
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
#[must_use = "dropping it ends the provider"]
pub struct PageProvider {
    pool: Arc<BufferPool>,
    worker: Option<Worker>,
}

impl PageProvider {
    /// Starts the provider of this pool, on a thread of this class.
    ///
    /// Errors: `Io` if the pool has one already, be it one that panicked and is not dropped yet, and what the system says if it refuses the thread or its place.
    pub fn start(pool: &Arc<BufferPool>, threads: &Spawner, class: ThreadClass) -> PageResult<Self> {
        let failed = |error| PageError::io("starting the page provider", error);
        if !pool.demand.take() {
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "the pool has one")));
        }
        let (serving, bereft) = (Arc::clone(pool), Arc::clone(pool));
        let on_panic = move |message| bereft.provider_panicked(message);
        let started = threads.spawn(class, NAME, on_panic, move || serving.provide_until_stopped());
        match started {
            Ok(worker) => Ok(Self { pool: Arc::clone(pool), worker: Some(worker) }),
            Err(error) => {
                pool.demand.leave();
                Err(failed(error))
            }
        }
    }

    /// Ends the thread and waits for it; tells if it had panicked.
    pub fn stop(mut self) -> Result<(), WorkerPanicked> {
        self.end()
    }

    fn end(&mut self) -> Result<(), WorkerPanicked> {
        let Some(worker) = self.worker.take() else { return Ok(()) };
        self.pool.demand.stop();
        let ended = worker.join();
        self.pool.demand.leave();
        ended
    }
}

/// The system shows 15 bytes of it.
const NAME: &str = "pagestone-pages";

impl BufferPool {
    /// E8: what it worked on may be half done, so nothing more is written; those who wait for frames look again.
    #[cold]
    fn provider_panicked(&self, message: String) {
        self.demand.served.store(false, Ordering::Relaxed);
        self.poison.poison(format_args!("the thread {NAME} panicked: {message}"));
        self.frame_may_be_free();
    }
}

impl Drop for PageProvider {
    fn drop(&mut self) {
        // A panic has poisoned the handle when it happened.
        let _ = self.end();
    }
}

impl fmt::Debug for PageProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageProvider").field("worker", &self.worker).finish_non_exhaustive()
    }
}
