//! What the log tells of itself. Kept whether or not the feature `metrics` is on.

use pagestone_direct_io::DurableBy;
use pagestone_page_format::Lsn;

/// Counts since the log was opened, and how full it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct WalStats {
    /// By which of the system's calls batches are made durable.
    pub durable_by: DurableBy,
    /// Groups appended.
    pub groups: u64,
    /// Bytes of those groups, their headers included, blocks' headers not.
    pub group_bytes: u64,
    /// Batches made durable.
    pub batches: u64,
    /// Bytes written to the device, rewritten blocks counted each time.
    pub bytes_written: u64,
    /// Writes of batches.
    pub writes: u64,
    /// Syncs of batches: one for each segment that a batch has blocks in, or one for each write that is durable by itself.
    pub syncs: u64,
    /// Payload bytes of blocks that were closed before they were full.
    pub padding: u64,
    /// Segments made of zeros.
    pub segments_created: u64,
    /// Segments used again.
    pub segments_recycled: u64,
    /// Times that a reservation had to wait.
    pub reserve_waits: u64,
    /// Times that a reservation was delayed because more than three quarters of the budget were used.
    pub delays: u64,
    /// What those delays were asked to be, in microseconds; some ended sooner.
    pub delay_us: u64,
    /// Segments that are ready, the current one included.
    pub segments: u64,
    /// End of the last appended group.
    pub end_lsn: Lsn,
    /// Everything before is durable.
    pub durable_lsn: Lsn,
    /// What [`crate::Wal::recycle_below`] was told last.
    pub keep_lsn: Lsn,
    /// Bytes from the keep LSN to the end.
    pub used: u64,
    /// The most that was, since the log was opened.
    pub used_max: u64,
    /// Bytes that the log may span.
    pub budget: u64,
}
