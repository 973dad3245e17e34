//! Double-write: a page that a power cut tears in its place stands whole somewhere else.
//!
//! Invariant: at any instant a page that may be torn in its place has its newest copy, whole and durable, in a region that is not
//! written over.
//!
//! ```text
//!   doublewrite   [ header | copy | copy | copy ][ header | copy ] free [ header | copy | copy ] ...     slots of one page
//!
//!   write_many    1  a region: free slots in a row                     regions.rs; several for a long batch
//!                 2  header and copies, in one write; sync             a failed sync is final
//!                 3  the same bytes in the pages' places               a failed write keeps the region
//!   sync          what had ended before it began is free again
//!
//!   opening       1  every whole header of this store is read          recover.rs
//!                 2  a page that fails its check gets the newest copy that verifies; what stands in its place whole and may
//!                    not be durable is written again
//!                 3  the data file is synced; only then is a region taken
//! ```
//!
//! Why regions are cut to what is written: with a small pool most batches are small, and a region of fixed size would be used up by
//! a single page. So the file is an array of slots, a region is a header and as many slots as it has pages, and a batch needs a
//! sync of the data file only when all slots are taken: at 4 KiB after 2048 of them. Batches of several threads write regions of
//! their own at once and share the syncs ([`crate::SharedSync`]).
//!
//! A region that is free keeps its bytes. Recovery may find them and gives back an old copy only where it can do no harm: every
//! header says from which sequence on regions are needed, and the caller gives the LSN from which its log repeats every change.
//!
//! After InnoDB's doublewrite buffer. Where the file writes whole pages atomically all this is not needed:
//! [`crate::PageFile::with_atomic_writes`].

mod header;
mod recover;
mod regions;
mod store;

pub use recover::{DoubleWriteFile, Restored};
pub use store::{DoubleWrite, DoubleWriteStats};

use header::MAX_COPIES;
use pagestone_page_format::PageSize;

/// The longest file, in bytes, unless that is less than [`SLOTS_MIN`] slots.
const FILE_BYTES: u64 = 8 << 20;
/// The fewest slots that the longest file has.
const SLOTS_MIN: u64 = 64;
/// So many of the largest regions have room at least.
const REGIONS_MIN: u64 = 4;

/// Slots of the longest file.
fn slots_max(size: PageSize) -> u64 {
    (FILE_BYTES / size.get() as u64).max(SLOTS_MIN)
}

/// Pages of the largest region.
fn region_pages_max(size: PageSize) -> usize {
    ((slots_max(size) / REGIONS_MIN) as usize - 1).min(MAX_COPIES)
}
