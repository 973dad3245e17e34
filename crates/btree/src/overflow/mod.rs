//! Values that are too long for a leaf, in extents.
//!
//! Invariant (L12): the pages of a value are written and durable before the group that refers to them is; and they stay as they are
//! until no reader is left that came before the value was replaced (L8). A chunk is a page: it is verified before any byte of it is
//! given out.
//!
//! ```text
//!   leaf cell, flag OVERFLOW      [ length | LSN | extent | extent ... ]
//!                                                  │        └───────────────┐
//!   data file      ...│ VALUE │ VALUE │ VALUE │ ...         │ VALUE │ VALUE 00│ ...
//!
//!   reference.rs  what stands in the cell
//!   write.rs      a reader's bytes into extents, past the pool; nothing refers to them yet
//!   read.rs       ValueReader: the bytes back, a batch of pages at a time
//!   swap.rs       what a group takes and frees when it changes a cell that refers to extents
//! ```
//!
//! Neither direction holds more than a mebibyte of the value. The pages go past the pool, so a long value pushes nothing out of it;
//! they are ordinary pages with a checksum, an id and an LSN, so that what is flipped, torn, misdirected or left from an older value
//! is an error.

mod read;
mod reference;
mod swap;
mod write;

pub(crate) use read::Chunks;
pub use read::ValueReader;
pub use reference::MAX_VALUE_LEN;
pub(crate) use reference::{LEAST_REFERENCE, MAX_RUNS, OVERFLOW, Reference};
pub(crate) use swap::{Cell, Runs, Surprise, Swap, references};
pub(crate) use write::{Reserved, Source, fill, ids_of, reserve_value, write_value, write_value_to};

/// Bytes of a value that are in memory at once, in pages.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
