//! What a pool is given when it is made.

use std::sync::Arc;
use std::time::Duration;

use pagestone_page_format::{Poison, WriteAhead};

/// The fewest frames that a pool works with. Whoever pins several pages at once needs as many, a tree more.
pub const MIN_FRAMES: usize = 1;

/// How a pool is set up.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Pages that it holds in memory at most; at least [`MIN_FRAMES`], at most 2^24 - 1.
    pub frames: usize,
    /// Pages that the budget can be raised to by [`crate::BufferPool::set_capacity`]. They cost address space, and, whether used or not, the
    /// memory of their headers and table entries, up to 122 bytes each. Fewer than `frames` means `frames`.
    pub frames_max: usize,
    /// The log that must be durable before a page is written (P11); none for pools of unlogged pages.
    pub log: Option<Arc<dyn WriteAhead>>,
    /// Where failures of the handle are recorded; shared with the log and the store above.
    pub poison: Poison,
    /// How long an operation waits for a frame while all are pinned, before `BufferPoolExhausted`.
    pub exhausted_wait: Duration,
}

impl PoolOptions {
    /// A pool of `frames` unlogged pages that waits ten seconds for a frame.
    pub fn new(frames: usize) -> Self {
        Self {
            frames,
            frames_max: frames,
            log: None,
            poison: Poison::new(),
            exhausted_wait: Duration::from_secs(10),
        }
    }
}
