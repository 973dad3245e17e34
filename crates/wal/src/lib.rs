//! Write-ahead log with group commit and a torn tail told from corruption.
//!
//! Invariant: what was acknowledged is replayed, whole groups in the order of their LSNs and nothing else, after any power
//! cut; and where that is impossible because the medium changed what was durable, the log says so and changes nothing.
//!
//! ```text
//!   GroupBuilder ──► Wal::reserve ──► Wal::append ──► Wal::wait_durable         Wal::open ──► Recovery::replay ──► start
//!
//!   group.rs, record.rs   what is written: groups of records                    pure
//!   block.rs              what it is cut into: blocks of 4 KiB                  pure
//!   buffer.rs             two buffers, laid out as the blocks will lie          pure
//!   segment.rs            where blocks are on disk
//!   append.rs             room first, then a copy that cannot fail
//!   pressure.rs           who writes faster than checkpoints free the log is slowed down
//!   commit.rs             leader and waiters
//!   supply.rs             the next segments
//!   probe.rs              which durable write is fastest here
//!   recover/              read, decide where the log ends, settle, begin anew
//! ```
//!
//! # Where the log ends
//!
//! What lies at or past the greatest `durable_up_to` of any valid block is the tail: the last batch, whose own
//! acknowledgement nothing on disk proves yet. A hole there is a torn tail, and the log ends before it; a flipped bit
//! there looks the same and costs what was in the last batch (M3). A hole before it is [`WalError::WalCorrupt`].
//!
//! Group commit after Haubenschild et al., *Rethinking Logging, Checkpoints, and Recovery for High-Performance Storage
//! Engines*, SIGMOD 2020, and *Group Commit Self-Clocks*, arXiv 2606.18187.
#![forbid(unsafe_code)]

mod append;
mod block;
mod buffer;
mod commit;
mod error;
mod group;
mod metrics;
#[cfg(loom)]
pub mod model;
mod options;
mod pressure;
mod probe;
mod record;
mod recover;
mod segment;
mod stats;
mod supply;
mod varint;
mod wal;

pub use append::{Appended, InProgress, LogSpace};
pub use error::{WalError, WalResult};
pub use group::{Group, GroupBuilder, Records};
pub use options::{CommitMode, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, WalOptions, WalStart};
pub use pagestone_direct_io::DurableBy;
pub use record::{Record, RecordKind};
pub use recover::{Recovery, ReplayReport};
pub use stats::WalStats;
pub use wal::Wal;
