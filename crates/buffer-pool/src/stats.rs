//! What the pool has done, counted on the cold paths only: a hit writes no shared line.

use pagestone_sync::atomic::{AtomicU64, Ordering};

/// Counters since the pool was made, and what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Frames of the pool.
    pub frames: u64,
    /// Pages resident now.
    pub resident: u64,
    /// Pins of pages that were resident, counted by the pin itself: [`crate::BufferPool::fetch`] and its like, and what is latched by swip.
    /// Optimistic reads by swip write nothing, and so are counted nowhere; those of them that had no good hint are `table_hits`.
    pub hits: u64,
    /// Pages read from storage.
    pub misses: u64,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Accesses that found the page by the table because the hint was missing or stale.
    pub table_hits: u64,
    /// Pages that hints brought in ([`crate::BufferPool::prefetch`]); they count among the misses too.
    pub prefetches: u64,
    /// Pages of those that somebody then touched.
    pub prefetch_hits: u64,
    /// Hints that came to nothing because of an error, which nobody was told.
    pub failed_prefetches: u64,
    /// Pages evicted.
    pub evictions: u64,
    /// Pages written to storage.
    pub write_backs: u64,
    /// Write batches; each made the log durable once and called storage once.
    pub write_batches: u64,
    /// Times that an operation waited because another one was loading the page.
    pub load_waits: u64,
    /// Times that an operation waited for a frame.
    pub frame_waits: u64,
    /// Frames that a page provider freed ahead of time; their pages count among the evictions too.
    pub provided: u64,
    /// Rounds of a page provider that an error ended, which nobody was told.
    pub failed_provisions: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) misses: Counter,
    pub(crate) failed_reads: Counter,
    pub(crate) table_hits: Counter,
    pub(crate) prefetches: Counter,
    pub(crate) prefetch_hits: Counter,
    pub(crate) failed_prefetches: Counter,
    pub(crate) evictions: Counter,
    pub(crate) write_backs: Counter,
    pub(crate) write_batches: Counter,
    pub(crate) load_waits: Counter,
    pub(crate) frame_waits: Counter,
    pub(crate) provided: Counter,
    pub(crate) failed_provisions: Counter,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
