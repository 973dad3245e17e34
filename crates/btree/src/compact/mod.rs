//! A tree into fewer pages, and into the lower ones of the file, beside readers and writers.
//!
//! Invariant: each step is one group after which the tree is whole, with the same entries; so a step may be the last one, whatever ends
//! it. A page that moved is marked obsolete by the group that gives its place to the new one, in every page that names it: who sampled it
//! before fails to validate, and nobody finds it later (B2, B3). A cursor keeps a copy and a fence and no page, so that it goes on by
//! the fence as it does after a merge.
//!
//! ```text
//!   pack.rs      nodes of a level are filled from their right siblings under the same parent, or absorb them
//!   values.rs    values in extents at the end of the file are written again further down
//!   relocate.rs  nodes at the end of the file take ids further down; the root stays (L11)
//!
//!   file   │ a │   │ b │ c │   │   │ d │ e │     pack       │ a │   │ b │   │   │   │ d │   │
//!                                                relocate   │ a │ d │ b │   │   │   │   │   │     the tail is free
//! ```
//!
//! Each call does one bounded step of a walk through a level in key order, and says where to go on. What the walk has passed and others
//! change meanwhile is left to the next compaction.

mod pack;
mod relocate;
mod values;

pub use pack::{Fill, Packed};
pub use relocate::Relocated;
pub use values::ValueMoved;

/// Where a walk goes on; nothing at the end of its level.
type Next = Option<Vec<u8>>;
