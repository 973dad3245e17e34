//! Pool, log and space map together: pages that change only by mini-transactions.

use std::sync::Arc;

use pagestone_allocator::LoggedAllocator;
use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{PageError, PageId, PageResult, Poison};
use pagestone_sync::atomic::{AtomicBool, Ordering};
use pagestone_wal::Wal;

use crate::{MiniTxn, Reserve};

/// What every mini-transaction of one store shares.
#[derive(Debug)]
pub struct LoggedPool {
    pool: Arc<BufferPool>,
    log: Arc<Wal>,
    allocator: LoggedAllocator,
    poison: Poison,
    closed: AtomicBool,
}

impl LoggedPool {
    /// Over a pool whose write-ahead log is `log` and whose pages `allocator` gives out; the three share `poison`. From now on the
    /// log syncs the pool's storage before it writes a group that takes extents (L12). Panics if the log has another write
    /// barrier already, which is a bug of the caller's.
    pub fn new(pool: Arc<BufferPool>, log: Arc<Wal>, allocator: LoggedAllocator, poison: Poison) -> Self {
        // Weak, because the pool holds the log. Nobody waits for the log once the pool is gone.
        let extents = Arc::downgrade(&pool);
        log.set_write_barrier(move || extents.upgrade().ok_or(PageError::Closed)?.sync());
        Self { pool, log, allocator, poison, closed: AtomicBool::new(false) }
    }

    /// The pages.
    pub fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    /// The log.
    pub fn log(&self) -> &Wal {
        &self.log
    }

    /// The page ids.
    pub fn allocator(&self) -> &LoggedAllocator {
        &self.allocator
    }

    /// Where the first failure of this handle is recorded.
    pub fn poison(&self) -> &Poison {
        &self.poison
    }

    /// From now on every call gives `Closed`; what is under way ends as it would have.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Refuses after [`LoggedPool::close`].
    #[inline]
    pub fn check_open(&self) -> PageResult<()> {
        if self.closed.load(Ordering::Relaxed) { Err(PageError::Closed) } else { Ok(()) }
    }

    /// Begins a mini-transaction. Waits for whatever `reserve` names; the caller holds no latch.
    ///
    /// Errors, with nothing changed: `Poisoned`, `NoSpace` if the file cannot grow, `BufferPoolExhausted`, and those of
    /// reading space-map pages and of the log.
    pub fn begin(&self, reserve: Reserve<'_>) -> PageResult<MiniTxn<'_>> {
        self.check_open()?;
        self.poison.check()?;
        MiniTxn::begin(self, reserve)
    }

    /// As [`LoggedPool::begin`], but its new pages have ids below `end`; nothing if too few of those are known to be free. So it never
    /// makes the file longer.
    pub fn begin_below(&self, end: PageId, reserve: Reserve<'_>) -> PageResult<Option<MiniTxn<'_>>> {
        self.check_open()?;
        self.poison.check()?;
        let Some(ids) = self.allocator.reserve_below(reserve.new_pages, end) else { return Ok(None) };
        MiniTxn::begin_with(self, reserve, Some(ids)).map(Some)
    }
}
