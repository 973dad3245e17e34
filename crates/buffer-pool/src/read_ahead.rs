//! Threads that bring pages in ahead of who will want them.
//!
//! Invariant: they help, and nobody depends on them. Who comes to a page that was asked for waits for its load, or loads it himself; so
//! one that is slow, full or dead costs time and nothing else. An error in what is read ahead is told to nobody but by a counter
//! ([`BufferPool::prefetch`]): who comes to the page reads it again and is told.
//!
//! ```text
//!   who scans                                    reader 1            reader 2
//!   prefetch_soon(64 pages) ──► requests ──────► one read            one read        each under way while the other one's
//!   looks at the pages before ◄───────────────── verify, publish     is verified     pages are verified, and the scan goes on
//! ```
//!
//! Six readers, because a disk may tell of several reads together: a virtual disk behind one thread takes what is queued, does one after
//! another, and says so once at the end. With few readers all of them would verify then, and the disk would have nothing to do meanwhile; with
//! twice as many one half is under way. As with the kernels' read-ahead it is who scans that says how far.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use pagestone_page_format::{PageError, PageId, PageResult};
use pagestone_sync::atomic::{AtomicBool, Ordering};
use pagestone_sync::{Arc, Condvar, Mutex};
use pagestone_threading::{Spawner, ThreadClass, Worker};

use crate::BufferPool;

const READERS: usize = 6;
/// Requests that wait at most: more would be read long after they were wanted.
const WAITING_MAX: usize = 16;

/// What readers are to bring in.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Whether there are readers.
    served: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<PageId>>,
    taken: bool,
    stopped: bool,
}

impl Requests {
    /// Leaves a request, unless nobody serves it or too many wait.
    fn leave(&self, ids: &[PageId]) -> bool {
        if !self.served.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.state.lock();
        let has_room = !state.stopped && state.waiting.len() < WAITING_MAX;
        if has_room {
            state.waiting.push_back(ids.to_vec());
            drop(state);
            self.changed.notify_one();
        }
        has_room
    }

    /// The next request; nothing once there is to be no more work.
    fn wait(&self) -> Option<Vec<PageId>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(ids) = state.waiting.pop_front() {
                return Some(ids);
            }
            state = self.changed.wait(state);
        }
    }

    fn take(&self) -> bool {
        let mut state = self.state.lock();
        let free = !state.taken;
        if free {
            *state = State { taken: true, ..State::default() };
            self.served.store(true, Ordering::Relaxed);
        }
        free
    }

    fn stop(&self) {
        self.served.store(false, Ordering::Relaxed);
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    fn end(&self) {
        *self.state.lock() = State::default();
    }
}

impl BufferPool {
    /// As [`BufferPool::prefetch`], by the pool's readers if it has such ([`ReadAhead`]): then it returns at once. If they have too much to
    /// do, or there are none, the pages are read before it returns.
    pub fn prefetch_soon(&self, ids: &[PageId]) {
        if !self.requests.leave(ids) {
            self.prefetch(ids);
        }
    }
}

/// The threads that read ahead for a pool: while they live, [`BufferPool::prefetch_soon`] waits for nothing. Dropping it ends them and waits
/// for that; what was asked for and not begun is not read.
///
/// Their panics poison what the pool poisons (E8), and the pool works on without them.
///
/// ```
/// use std::sync::Arc;
/// use pagestone_buffer_pool::{BufferPool, ReadAhead, Spawner, ThreadClass};
/// use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};
///
/// let pool = Arc::new(BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 1024));
/// let ids: Vec<PageId> = (0..32).map(PageId::new).collect();
/// for id in &ids {
///     pool.new_page(*id)?.write()?.payload_mut()[0] = 1;
/// }
/// pool.drop_cache()?;
/// let readers = ReadAhead::start(&pool, &Spawner::unpinned(), ThreadClass::Worker)?;
/// pool.prefetch_soon(&ids);
/// assert_eq!(pool.fetch(ids[31])?.read()?.payload()[0], 1); // there already, or waited for, or read here
/// drop(readers);
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
#[must_use = "dropping it ends the readers"]
pub struct ReadAhead {
    pool: Arc<BufferPool>,
    workers: Vec<Worker>,
}

impl ReadAhead {
    /// Starts the readers of this pool, six threads of this class.
    ///
    /// Errors: `Io` if the pool has some already, and what the system says if it refuses a thread or its place.
    pub fn start(pool: &Arc<BufferPool>, threads: &Spawner, class: ThreadClass) -> PageResult<Self> {
        let failed = |error| PageError::io("starting to read ahead", error);
        if !pool.requests.take() {
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "the pool has readers")));
        }
        let mut all = Self { pool: Arc::clone(pool), workers: Vec::with_capacity(READERS) };
        for _ in 0..READERS {
            let (serving, bereft) = (Arc::clone(pool), Arc::clone(pool));
            let on_panic = move |message| bereft.reader_panicked(message);
            let body = move || {
                while let Some(ids) = serving.requests.wait() {
                    serving.prefetch(&ids);
                }
            };
            all.workers.push(threads.spawn(class, NAME, on_panic, body).map_err(failed)?);
        }
        Ok(all)
    }
}

/// The system shows 15 bytes of it.
const NAME: &str = "pagestone-reads";

impl BufferPool {
    /// E8: nothing more is written, and nothing more is left to who is no more.
    #[cold]
    fn reader_panicked(&self, message: String) {
        self.requests.stop();
        self.poison.poison(format_args!("the thread {NAME} panicked: {message}"));
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.pool.requests.stop();
        for worker in self.workers.drain(..) {
            // A panic has poisoned the handle when it happened.
            let _ = worker.join();
        }
        self.pool.requests.end();
    }
}

impl fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead").field("workers", &self.workers).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::{Duration, Instant};

    use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore};

    use super::*;

    #[test]
    fn what_is_asked_for_comes_without_anybody_waiting_and_after_the_end_at_once() {
        let pool = Arc::new(BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 512));
        let ids: Vec<PageId> = (0..64).map(PageId::new).collect();
        ids.iter().for_each(|id| drop(pool.new_page(*id).expect("a frame")));
        let readers = ReadAhead::start(&pool, &Spawner::unpinned(), ThreadClass::Worker).expect("threads");
        let second = ReadAhead::start(&pool, &Spawner::unpinned(), ThreadClass::Worker);
        assert!(matches!(second, Err(PageError::Io { .. })), "{second:?}");
        for round in 1..4 {
            pool.drop_cache().expect("written");
            // One that does not exist is no concern of the others.
            pool.prefetch_soon(&[PageId::new(9999)]);
            ids.chunks(32).for_each(|some| pool.prefetch_soon(some));
            let begun = Instant::now();
            while pool.stats().prefetches < round * 64 {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing was read: {:?}", pool.stats());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(ids.iter().all(|id| pool.is_resident(*id)));
        }
        assert_eq!(pool.stats().failed_prefetches, 3);
        drop(readers);
        pool.drop_cache().expect("written");
        pool.prefetch_soon(&ids[..32]);
        assert!(ids[..32].iter().all(|id| pool.is_resident(*id)), "without readers it is done at once");
        drop(ReadAhead::start(&pool, &Spawner::unpinned(), ThreadClass::Worker).expect("others may follow"));
    }
}
