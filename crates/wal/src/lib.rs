//! Write-ahead log with group commit and a torn tail told from corruption.
//!
//! Invariant: what was acknowledged is replayed, whole groups in the order of their LSNs and nothing else, after any power
//! cut; and where that is impossible because the medium changed what was durable, the log says so and changes nothing.
//!
//! ```text
//!   Wal::open (alone) or Recovery::open ──► replay, recover ──► start_alone, start ──► Wal
//!   GroupBuilder ──► Wal::reserve ──► Wal::append ──► Wal::commit, wait_durable
//!
//!   group.rs, record.rs   what is written: groups of records                    pure
//!   block.rs              what it is cut into: blocks of 4 KiB                  pure
//!   buffer.rs             two buffers, laid out as the blocks will lie          pure
//!   segment.rs            where blocks are on disk
//!   append.rs             room first, then a copy that cannot fail
//!   progress.rs           groups whose pages are not stamped yet
//!   prepaid.rs            room that is reserved ahead, without the mutex
//!   pressure.rs           who writes faster than checkpoints free the log is slowed down
//!   commit.rs             leader and waiters
//!   background.rs         a leader by the clock, for relaxed commits
//!   supply.rs, reset.rs   the next segments; giving back all of them
//!   probe.rs              which durable write is fastest here
//!   recover/              read, decide where the log ends, bring pages up to date, settle, begin anew
//!   master.rs, alone.rs   where recovery begins, for who has no superblock; a log that keeps that itself
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

mod alone;
mod append;
mod background;
mod block;
mod buffer;
mod callback;
mod commit;
mod error;
mod group;
mod master;
mod metrics;
#[cfg(loom)]
pub mod model;
mod options;
mod prepaid;
mod pressure;
mod probe;
mod progress;
mod record;
mod recover;
mod reset;
mod segment;
mod stats;
mod supply;
mod varint;
mod wal;

pub use append::{Appended, LogSpace};
pub use background::BackgroundLeader;
pub use error::{WalError, WalResult};
pub use group::{Group, GroupBuilder, Records};
pub use master::MasterRecord;
pub use options::{CommitMode, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, WalOptions, WalStart};
pub use pagestone_direct_io::DurableBy;
pub use progress::InProgress;
pub use record::{Record, RecordKind};
pub use recover::{Recovery, RecoveryReport, ReplayReport};
pub use stats::WalStats;
pub use wal::Wal;
