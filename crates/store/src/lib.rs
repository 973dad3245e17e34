//! A crash-safe store: open, recover, checkpoint, trees, close.
//!
//! Invariant: after any crash, what is opened again is the effect of a prefix, in LSN order, of what was written, and holds
//! everything that was acknowledged (R1, R2). A page of the data file that a power cut tore is restored, unless
//! [`TornWrites::Off`] was asked for.
//!
//! ```text
//!   dir/data      [ superblock A ][ superblock B ][ page 0: space map ][ page 1: root ][ page 2: catalog ] ...
//!   dir/log/      segments of the write-ahead log
//!   dir/doublewrite   copies of the pages that are being written
//!
//!   store.rs       Store: the handle                   tree.rs      Tree: a tree with the store's durability
//!   catalog/       trees by name: created, renamed, dropped by logged intent
//!   batch.rs       Batch: changes of several trees that come together
//!   create.rs      a new store, whole or not there at all
//!   open.rs        lock, superblock, log, torn pages, redo, next generation: numbered steps
//!   open_report.rs what that found and did, and how far it has come
//!   torn_writes.rs the file `doublewrite`, or atomic writes instead
//!   checkpoint.rs  correct beside writers (L5, L6)
//!   pace.rs        when pages are written and when a checkpoint is published
//!   tail.rs        the end of the data file, cut once nothing needs it
//!   compact.rs     the whole store into as small a file as it fits
//!   auto_compact.rs  the same by itself, in small steps
//!   background.rs  flusher, checkpointer, supplier of log segments, who takes space back; or `tick`
//!   superblock.rs  the two copies
//!   verify/        every byte of the data file reachable, free or reserved exactly once
//!   options.rs     Options                     stats.rs     StoreStats, Prometheus text
//! ```
#![forbid(unsafe_code)]

mod auto_compact;
mod background;
mod batch;
mod catalog;
mod checkpoint;
mod compact;
mod create;
mod error;
mod open;
mod open_report;
mod options;
mod pace;
mod stats;
mod store;
mod superblock;
mod tail;
mod torn_writes;
mod tree;
mod verify;

pub use batch::Batch;
pub use catalog::{MAX_TREE_NAME, TreeInfo};
pub use compact::{CompactProgress, CompactReport, CompactStep};
pub use error::{StoreError, StoreResult};
pub use open_report::{OpenReport, RecoveryProgress, RecoveryStep};
pub use options::{AutoCompact, Background, Durability, Options, TornWrites};
pub use pagestone_btree::{BulkLoaded, CompareAndSwap, TreeProblem, TreeShape, Updated};
pub use pagestone_wal::DurableBy;
pub use stats::{AutoCompactStats, StoreStats};
pub use store::Store;
pub use tree::Tree;
pub use verify::{Finding, Problem, VerifyProgress, VerifyReport, VerifyStep};
