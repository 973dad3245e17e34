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
#![forbid(unsafe_code)]

mod logged_pool;
mod map;
mod redo;
mod txn;

pub use logged_pool::LoggedPool;
pub use redo::{Redo, RedoCounts};
pub use txn::{Committed, MiniTxn, PageHandle, Reserve};
