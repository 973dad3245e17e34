//! What a log is opened with.

use std::time::Duration;

use pagestone_direct_io::{DirectIo, DurableBy};
use pagestone_page_format::{Lsn, Poison, StoreUuid};

use crate::block::{BLOCK, PAYLOAD};
use crate::error::{WalError, WalResult};
use crate::group::{MAX_BUFFER, MAX_GROUP};

/// The smallest segment, in bytes: small enough for tests.
pub const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// The largest segment, in bytes.
pub const MAX_SEGMENT_BYTES: u64 = 4 << 30;

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum CommitMode {
    /// When it is durable: every write waits.
    #[default]
    Strict,
    /// When it is appended: it becomes durable at the next [`crate::Wal::flush`], or within a bounded interval where a
    /// [`crate::BackgroundLeader`] is at work.
    Relaxed,
}

/// How a log is laid out and how much of everything it may use.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Bytes of a segment file: a multiple of 4096 from [`MIN_SEGMENT_BYTES`] to [`MAX_SEGMENT_BYTES`]. Segments that
    /// are there keep the size that they have. Default 64 MiB.
    pub segment_bytes: u64,
    /// The budget: bytes that the log may span between the keep LSN and its end. At least two segments. Default 1 GiB.
    /// The files may take two segments more.
    pub log_bytes: u64,
    /// Bytes of each of the two buffers: a multiple of 4096 from 8 KiB to 8 MiB. A group is at most a block smaller.
    /// Default 4 MiB.
    pub buffer_bytes: usize,
    /// Whether to go past the system's cache.
    pub direct: DirectIo,
    /// By which of the system's calls batches are made durable. `None` tries all of them when the log is opened for writing, for some
    /// milliseconds, and keeps the fastest; then which calls are made depends on the clock. Default `None`.
    /// [`crate::WalStats::durable_by`] tells the choice.
    pub durable_by: Option<DurableBy>,
    /// Whether replay reads the next chunk in a thread of its own. Off by default: then no thread is started, and the order
    /// of all reads follows from the calls.
    pub read_ahead: bool,
    /// Whether [`crate::Wal::commit`] waits. Default [`CommitMode::Strict`].
    pub commit: CommitMode,
    /// How long [`crate::Wal::reserve`] waits for room that only others can make before it gives
    /// [`WalError::LogFull`]. Default 10 s.
    pub full_wait: Duration,
    /// How long [`crate::Wal::reserve`] delays a writer where the budget is all but used up; in proportion from three quarters
    /// on. Zero where nobody could free the log meanwhile. Default 10 ms.
    pub delay_max: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            log_bytes: 1 << 30,
            buffer_bytes: 4 << 20,
            direct: DirectIo::Prefer,
            durable_by: None,
            read_ahead: false,
            commit: CommitMode::Strict,
            full_wait: Duration::from_secs(10),
            delay_max: Duration::from_millis(10),
        }
    }
}

impl WalOptions {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> WalResult<()> {
        let reason = if !self.segment_bytes.is_multiple_of(BLOCK as u64)
            || !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes)
        {
            "segment_bytes is no multiple of 4096 from 64 KiB to 4 GiB"
        } else if self.log_bytes < 2 * self.segment_bytes {
            "log_bytes is less than two segments"
        } else if !self.buffer_bytes.is_multiple_of(BLOCK)
            || !(2 * BLOCK..=MAX_BUFFER).contains(&self.buffer_bytes)
        {
            "buffer_bytes is no multiple of 4096 from 8 KiB to 8 MiB"
        } else {
            return Ok(());
        };
        Err(WalError::InvalidOptions { reason })
    }

    /// Bytes of the largest group: it fits a buffer behind a block that is partly filled, and a quarter of the budget.
    pub fn max_group_bytes(&self) -> usize {
        let buffer = (self.buffer_bytes / BLOCK).saturating_sub(1) * PAYLOAD;
        let budget = usize::try_from(self.log_bytes / 4).unwrap_or(usize::MAX) / BLOCK * PAYLOAD;
        buffer.min(budget).min(MAX_GROUP)
    }

    /// Segments that may be on disk.
    pub(crate) fn max_segments(&self) -> usize {
        usize::try_from(self.log_bytes / self.segment_bytes + 2).unwrap_or(usize::MAX)
    }
}

/// Where recovery starts: what the newest valid superblock copy says.
#[derive(Clone, Debug)]
pub struct WalStart {
    /// The store.
    pub uuid: StoreUuid,
    /// The superblock's generation: that of the last opening for writing.
    pub generation: u64,
    /// Replay from here: start or end of a group, or [`Lsn::ZERO`] for a log from its beginning.
    pub checkpoint: Lsn,
    /// The older superblock copy's checkpoint: segments from here on are kept (L6).
    pub keep_from: Lsn,
    /// The newest superblock copy could not be read: a generation above [`WalStart::generation`] is no mismatch.
    pub newest_copy_lost: bool,
    /// The handle's poison, shared by every layer.
    pub poison: Poison,
}
