//! One page of a tree: its layout, its search, and the operations that change it.
//!
//! Invariants. N1: the fences bound what the node may hold: `lower <= key < upper` in a leaf, `lower < separator < upper` in an
//! inner node, whose child `i` is bounded by its separators, or its fences at the ends. N2: the first `prefix_len` bytes of
//! the lower fence begin every key that is stored here, and are cut from it. N3: a key that may be here and does not begin
//! with them sorts behind every key that is. N4: [`NodeView::can_hold`] says yes exactly if the insert succeeds.
//!
//! ```text
//!    0           32          48                                                       page end
//!    ├───────────┼───────────┼───────────────────────────────────┼─────────────┼─────────────┤
//!    │ page      │ node      │ slotted area (page-format):       │ lower fence │ upper fence │
//!    │ header    │ header    │ heads, slots, links, free, cells  │             │             │
//!    └───────────┴───────────┴───────────────────────────────────┴─────────────┴─────────────┘
//!                                                                 └─ the area's reserved suffix
//!                0         1         2         3         4         5         6         7
//!           ┌───────────────────────────────────────┬─────────┬─────────┬───────────────────┐
//!     +32   │               tree id                 │  level  │  flags  │     prefix_len    │
//!           ├───────────────────┬───────────────────┼─────────┴─────────┼───────────────────┤
//!     +40   │  lower fence len  │  upper fence len  │    insert_run     │    last_insert    │
//!           └───────────────────┴───────────────────┴───────────────────┴───────────────────┘
//!
//!    links   leaf:  0 right sibling             inner:  0 right sibling, 1 leftmost child, 2 + i child right of separator i
//! ```
//!
//! Most nodes cut the prefix that their fences share. A node that would be full with that may cut more: what its lower fence
//! and its keys share (it is then *tight*). So the rightmost leaf, which has no upper fence, is filled as well as any other
//! by a load in key order. N3 is what makes that sound, and what a key that does not fit such a node causes is a split at
//! its end.
//!
//! `last_insert` is the slot of the last insert; `insert_run` counts the inserts in a row of which each came directly behind the
//! one before (or before it: then negative). A split decides by them, as InnoDB's do. After Bayer and Unterauer,
//! *Prefix B-trees*, TODS 1977, and Graefe, *Modern B-Tree Techniques*, 2011.
//!
//! ```text
//!   limits.rs   how long keys and values may be, and why a half of a split node has room
//!   header.rs   the node header taken apart
//!   view.rs     NodeView: search, children, fences
//!   cells.rs    Cells: some cells in private memory
//!   fit.rs      what fits, and with which prefix
//!   content.rs  a whole node, written to a page
//!   image.rs    a whole node, into private memory
//!   split.rs    where to split, and by which key
//!   outline.rs  where a leaf's parts stand, for who copies it
//!   build.rs    nodes from cells that come in key order
//!   shift.rs    what siblings can give each other
//!   cuts.rs     where to divide a leaf that is to take many entries
//!   ops/        the page operations, live and redo
//! ```

mod build;
mod cells;
mod content;
mod cuts;
mod fit;
mod header;
mod image;
mod limits;
mod ops;
mod outline;
mod shift;
mod split;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use build::{Closed, LevelBuilder};
pub use limits::{max_inline_value, max_key_len};
pub use ops::redo_range;
pub(crate) use ops::{AbsorbRight, CutNode, EndLevel, FormatNode, InsertCell, InsertSeparator, MarkObsolete};
pub(crate) use ops::{RemoveCell, RemoveCells, RemoveSeparator, TrimLeft, UpdateCell};
pub(crate) use ops::{SetChild, SetRightSibling};
pub(crate) use outline::Outline;
pub(crate) use shift::Shift;
pub(crate) use split::{SplitPoint, choose_split};
pub(crate) use view::{Covers, LoadedNode, NodeView, prefetch_search};
