//! Mini-transactions: groups of page changes that are atomic across pages and across a crash.
//!
//! Invariant: from the first change of a group on nothing waits and nothing fails. All that can be waited for (log bytes,
//! page ids, frames, admission) is had in [`LoggedPool::begin`], before any latch; then pages are latched, in the one order
//! (tree levels top down, left to right within a level, then space-map pages by id), changed, and committed.
//!
//! ```text
//!   begin(reserve)   waits here, and only here
//!   latch(page)      take what the operation needs
//!   change(page, op) = op.apply(page), the function that redo uses; op.encode(group)
//!   commit()         map pages; append one group -> LSN; stamp pages; drop latches
//! ```
//!
//! After InnoDB's mini-transactions. Dropping one without changes is free; dropping one with changes, or a panic in one, is a
//! bug of ours and poisons the handle: memory then holds what the log does not.
//!
//! ```text
//!   logged_pool.rs  LoggedPool: pool, log and allocator together           txn.rs      MiniTxn: begin, change, commit
//!   map.rs          the allocator's map pages, changed by groups too       redo.rs     Redo: whole groups, once a page (L7)
//!   late_log.rs     LateLog: the pool's log while redo runs                (wal)       MasterRecord: where recovery begins
//!   checkpoint.rs   rounds, durable, passed, in the one order (L5)
//! ```
//!
//! An engine with page kinds of its own gives each change a [`PageOp`](pagestone_page_format::PageOp), of a kind in
//! [`ENGINE_OP_KINDS`](pagestone_page_format::ENGINE_OP_KINDS), and recovery a range of them. `examples/layers` has a heap file that is
//! made so, in one sitting: opened, logged, recovered, checkpointed.
#![forbid(unsafe_code)]

mod checkpoint;
mod late_log;
mod logged_pool;
mod map;
mod redo;
mod txn;

pub use checkpoint::Round;
pub use late_log::LateLog;
pub use logged_pool::LoggedPool;
pub use pagestone_wal::MasterRecord;
pub use redo::{Redo, RedoCounts};
pub use txn::{Committed, MiniTxn, PageHandle, Reserve};
