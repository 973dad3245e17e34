//! Sorted cells in a page: one layout for tree nodes and for engines' own kinds.
//!
//! Invariants: slots are in key order, a slot's head is the first four bytes of its key, and what it says to be shared is (see below).
//! `count <= capacity`; the arrays
//! end at or before `heap_start`, the heap ends at `limit`; cells do not overlap, and `live_bytes` is the sum of their
//! lengths. A byte of the area that belongs to no array entry and no cell is zero. So equal histories give equal pages, and
//! a page leaks nothing that was removed from it.
//!
//! ```text
//!    0          base                                                                       limit       page end
//!    ├───────────┼────────┬─────────┬───────┬───────┬───────┬────────┬──────────────────────┼─────────────┤
//!    │ headers   │slotted │ hints   │ heads │ slots │ links │ free   │ cells, with garbage  │  reserved   │
//!    │ of others │header  │ 16 × u32│ u32   │ u64   │ u64   │ (zero) │ (zero) between them  │  suffix     │
//!    └───────────┴────────┴─────────┴───────┴───────┴───────┴────────┴──────────────────────┴─────────────┘
//!                          └ if any  └─ each with room for `capacity` ┘└ heap_start
//!
//!                0         1         2         3         4         5         6         7
//!           ┌───────────────────┬───────────────────┬─────────┬─────────┬───────────────────┐
//!    base   │       count       │     capacity      │  fixed  │per slot │  hints  │    0    │
//!           ├───────────────────┴───────────────────┼─────────┴─────────┴─────────┴─────────┤
//!      +8   │              heap_start               │              live_bytes               │
//!           ├───────────────────────────────────────┼───────────────────────────────────────┤
//!     +16   │                 limit                 │                   0                   │
//!           └───────────────────────────────────────┴───────────────────────────────────────┘
//!
//!    slot   │ offset 21 bits │ key length 14 │ value length 16 │ shared 10 │ flags 3 │   from bit 0 up
//! ```
//!
//! Heads stand together and directly behind the header, so that a search touches adjacent lines and compares integers; it
//! looks at a key only where a head is that of the key it looks for. They are the poor man's normalised keys of Graefe and Larson, *B-tree indexes
//! and CPU caches*, ICDE 2001. Where an area has hints, they are the first heads of words of heads, evenly spaced (see
//! `arrays.rs`): a search counts those that are below and goes on in one seventeenth of the heads. They say nothing that the heads do not say, and are
//! written anew with each change of them. Links are the page's swips: `fixed` of them, then one per slot if `per slot` is 1. The page
//! header's swip array is kept pointing at them at every change, so that the pool masks hints without knowing more.
//!
//! A reader may look while a writer changes the page: it gets garbage or [`OutOfBounds`], in bounded
//! time, and its latch's validation tells (P1).
//!
//! ```text
//!   layout.rs    the header taken apart, the arithmetic of where things stand
//!   page.rs      SlottedPage: count, cells, links, free space
//!   search.rs    lower_bound, over the heads
//!   alike.rs     the same among slots with one head, over what their keys share
//!   writer.rs    SlottedWriter: init, insert, remove, update, truncate, copy
//!   arrays.rs    one entry more or less in heads, slots and links
//!   space.rs     room for an entry: grow the arrays, compact the heap
//!   whole.rs     write_area: all at once, into private memory
//!   check.rs     the invariants above, for `verify`
//! ```

mod alike;
mod arrays;
mod check;
mod layout;
mod page;
mod search;
mod space;
mod whole;
mod writer;

pub use layout::{HINTS, MAX_CELL_FLAGS, MAX_CELL_KEY_LEN, MAX_CELL_VALUE_LEN};
pub use layout::{MAX_SLOTS, SLOTTED_HEADER_SIZE, SlottedForm};
pub use page::{Cell, LoadedSlots, SlottedPage};
pub use search::Search;
pub use whole::write_area;
pub use writer::{NewCell, SlottedWriter};

use crate::{OutOfBounds, PageError, PageId};

/// Why a slotted page was not changed, or cannot be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlottedError {
    /// There is no room, not even after compaction. Nothing was changed.
    #[error("{needed} bytes needed, {free} free")]
    Full {
        /// Bytes that the cell and its entries in the arrays need.
        needed: usize,
        /// Bytes that compaction would leave free.
        free: usize,
    },
    /// A slot, a link or a length that this page does not have room to name. Nothing was changed.
    #[error("no such slot, link or length")]
    OutOfRange,
    /// The bytes are no slotted page.
    #[error("the slotted page is malformed")]
    Malformed,
}

impl From<OutOfBounds> for SlottedError {
    fn from(_: OutOfBounds) -> Self {
        Self::Malformed
    }
}

impl SlottedError {
    /// The error for a page that nobody else was changing.
    pub fn of_page(self, page_id: PageId) -> PageError {
        let reason = match self {
            Self::Full { .. } => "a change does not fit the slotted page",
            Self::OutOfRange => "a change names a slot that the slotted page does not have",
            Self::Malformed => "the slotted page contradicts itself",
        };
        PageError::Malformed { page_id, reason }
    }
}
