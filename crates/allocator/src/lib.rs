//! Page ids: which are free, who may use them, and the map pages on which that is written down.
//!
//! Invariant: an id that was handed out and not given back is handed out to nobody else, in this process and after any
//! crash; and an id is handed out again only after the group that freed it is in the log.
//!
//! ```text
//!   page_allocator/  PageAllocator: over a store of pages, durable by itself
//!   logged.rs       LoggedAllocator: under the log; reserve, release; one mutex, never held across I/O
//!    ├ reservation.rs  ids for one mini-transaction: take, commit, or forfeit on drop
//!    ├ extent_reservation.rs  runs for bytes that are written past the pool: extend, trim, commit, or forfeit on drop
//!    ├ release.rs      ids that one mini-transaction frees: add, commit, or forget on drop
//!    ├ readers.rs      ReadGuard: who may still be reading an extent
//!    ├ quarantine.rs   freed ids that are no extents yet: held by readers, passed by no checkpoint
//!    ├ replayed.rs     ReplayedFrees: what a replayed log freed, for the quarantine
//!    ├ extents.rs      sets of ids as runs, by place and by size class
//!    ├ regions.rs      which regions are known, and the one that is being loaded or formatted
//!    ├ below.rs        ids below a bound, for whoever makes the file shorter
//!    ├ tail.rs         the end of the file, cut once no recovery needs it; regions dropped
//!    ├ request.rs      what can be asked, and the steps to it
//!    └ state.rs        all of that behind the mutex, and the step that a request needs next
//!   map_source.rs   MapSource: the I/O that the caller does for the allocator
//!   space_map/      a map page and the operations on it: FormatMap, SetRegions, SetBits, ClearBits
//!    └ region_bits.rs  a private copy of one map page's bits
//!   bit_runs.rs     runs of bits in words
//! ```
//!
//! The ids of a file are divided into regions of [`region_bits`] ids. The first id of a region is its map page, with one
//! bit for each id of the region, its own among them; so page 0 is a map page and ids begin at 1. Under the log, map pages
//! are pages like any other: mini-transactions change them, and a crash takes allocation and use of a page together or not
//! at all. What this crate keeps in memory is rebuilt from them region by region, as regions are needed.
//!
//! [`PageAllocator`] is for whoever has a store of pages and no log: it keeps its own maps, in two generations, and is durable when it
//! is asked to be. The two know nothing of each other's files; they share the extents.
#![forbid(unsafe_code)]

mod below;
mod bit_runs;
mod extent_reservation;
mod extents;
#[cfg(test)]
mod file_in_memory;
mod logged;
mod map_source;
mod metrics;
#[cfg(test)]
mod model;
mod page_allocator;
mod quarantine;
#[cfg(test)]
mod races;
mod readers;
mod region_bits;
mod regions;
mod release;
mod replayed;
mod request;
mod reservation;
mod space_map;
mod state;
mod tail;

pub use extent_reservation::ExtentReservation;
pub use logged::LoggedAllocator;
pub use map_source::MapSource;
pub use page_allocator::PageAllocator;
pub use readers::ReadGuard;
pub use region_bits::RegionBits;
pub use release::Release;
pub use replayed::ReplayedFrees;
pub use reservation::Reservation;
pub use space_map::{
    ClearBits, FormatMap, SetBits, SetRegions, check_allocated, map_page_of, redo_range, region_bits,
    region_of,
};
