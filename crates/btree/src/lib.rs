//! A concurrent B+tree over a buffer pool, changed by mini-transactions.
//!
//! Invariant: a reader that validates has come down a path that stood there as of one instant, in a tree whose root keeps its
//! page id for life (L11); every structure change (split, separator, allocation and the insert that caused it) is one group of
//! the log.
//!
//! ```text
//!   tree.rs     BTree: what it is, how it is made and opened
//!   retry.rs    optimistically: the one loop that owns every retry
//!   walk.rs     the steps of the way down, wherever pages stand: of a pool, or in plain memory
//!   descend.rs  the one way down, latch mode as a parameter
//!   read.rs     get and its kin                write.rs   put and remove when the leaf has room
//!   update.rs   insert, update_with, compare_and_swap: changes on condition of what stands there
//!   multi_get/  many lookups whose waits overlap
//!   split.rs    put when it has not            merge.rs   what removals leave behind
//!   believe.rs  whether nodes are what a change of structure takes for granted
//!   cursor.rs   both directions, on private copies of leaves    leaf_copy.rs  such a copy, which lends
//!   key_buffer.rs  keys put together    copy_shelf.rs  memory for copies, from cursor to cursor
//!   read_ahead.rs  what a scan asks the pool for ahead of itself
//!   check/      every node from the root to the leaves, for `verify`
//!   remove_range.rs  many entries, in bounded groups
//!   listing.rs  entries that change together with the tree that they list
//!   drain.rs    the pages of a dropped tree, freed in bounded groups
//!   compact/    a tree into fewer pages, and into lower ones
//!   bulk/       a whole tree from entries in key order, past the pool
//!   batch/      many changes, over several trees, in one group
//!   node/       one page: layout, search, page operations
//!   overflow/   values that are too long for a leaf, in extents, streamed in and out
//!   metrics.rs  how often steps were taken again
//!   error.rs    TreeError; Interrupt, which never leaves the retry loop
//! ```
//!
//! Latch order: levels top down, left to right within a level, then space-map pages. After Leis et al., *Optimistic Lock
//! Coupling*, and Bayer and Unterauer, *Prefix B-trees*, TODS 1977; separators by Graefe, *Modern B-Tree Techniques*, 2011.
#![forbid(unsafe_code)]

mod batch;
mod believe;
mod bulk;
mod check;
mod compact;
mod copy_shelf;
mod cursor;
mod descend;
mod drain;
mod error;
mod key_buffer;
mod leaf_copy;
mod listing;
mod merge;
mod metrics;
mod multi_get;
mod node;
mod overflow;
mod range;
mod read;
mod read_ahead;
mod remove_range;
mod retry;
mod split;
mod tree;
mod update;
mod walk;
mod write;

pub use batch::{BatchChange, BatchDone, BatchOp, apply_batch};
pub use bulk::BulkLoaded;
pub use check::{CheckVisitor, PageUse, ReachedPage, TreeFinding, TreeProblem, TreeReport, TreeShape};
pub use compact::{Fill, Packed, Relocated, ValueMoved};
pub use cursor::Cursor;
pub use drain::Drained;
pub use error::{Interrupt, TreeError, TreeResult};
pub use node::{max_inline_value, max_key_len, redo_range};
pub use overflow::{MAX_VALUE_LEN, ValueReader};
pub use range::Range;
pub use remove_range::RemovalRecord;
pub use split::split_log_bytes;
pub use tree::{BTree, MIN_TREE_FRAMES, TREE_BASE_ID, TreeStats, WeakTree};
pub use update::{CompareAndSwap, Updated};
pub use walk::{HeldPage, PageSource, Roots, Sampled, look_up_in};
pub use write::Put;
