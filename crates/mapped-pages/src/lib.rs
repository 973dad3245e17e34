//! A crash-consistent pager over a memory map: pages are slices of the file, and which of them are in use survives every crash.
//!
//! Invariant: what the last commit left is what the next opening finds, though any mapped page may reach the disk at any instant (C10):
//! metadata is never mapped, and what counts of it is never written over.
//!
//! ```text
//!   pager.rs       Pager<PAGE_SIZE>, PageId, ProtectedPageId      the page size in the type
//!   dyn_pager.rs   DynPager, DynPageId                            the page size of the file
//!   protected.rs   DynProtectedPageWriter                         pages that are old or new, whole, after every crash
//!   allocator.rs   PageAllocator, BulkPageAllocator, PageHandle   for code that works with any of them
//!   iter.rs        iterators over what is allocated
//!   options.rs     MappedOptions: create, open, read_only         what is believed, and when a file has its name
//!   read_only.rs   ReadOnly                                       a pager that cannot write
//!   shared.rs      SharedPager                                    a pager for many threads
//!   sub_pages/     SubPageAllocator, SubPageId                    pages in pieces
//!   ───────────────────────────────────────────────────────────────────────────────────────────────
//!   space.rs       which pages are free          maps.rs      the pages in memory
//!   metadata.rs    commits, and opening          words.rs     what they change
//!   root.rs, block.rs, directory.rs, patch.rs, superblock.rs  bytes on disk
//!   layout.rs      where they stand
//! ```
//!
//! The two copies with ascending sequence numbers are as old as shadow paging (Lorie, *Physical integrity in a large segmented
//! database*, TODS 1977); that a commit is one write, as in LMDB, needs roots that check themselves (Chu, *MDB: A memory-mapped database*,
//! 2011). Files of this kind usually take the older copy without a word when the newer one does not check: see
//! [`MappedOptions::accept_older`] for why this one does so only after a cut that it can show.
#![forbid(unsafe_code)]

mod allocator;
mod block;
mod directory;
mod dyn_pager;
mod error;
mod iter;
mod layout;
mod maps;
mod metadata;
mod metrics;
mod options;
mod pager;
mod patch;
mod protected;
mod read_only;
mod root;
mod shared;
mod space;
mod sub_pages;
mod superblock;
mod words;

pub use allocator::{BulkPageAllocator, PageAllocator, PageHandle};
pub use dyn_pager::{DynPageId, DynPager};
pub use error::{MappedPageError, MappedResult};
pub use iter::{
    AllocatedPageIter, AllocatedProtectedPageIter, DynAllocatedPageIter, DynAllocatedProtectedPageIter,
};
pub use options::MappedOptions;
pub use pager::{PageId, Pager, ProtectedPageId, ProtectedPageWriter};
pub use pagestone_direct_io::MappedPage;
pub use protected::{DynProtectedPageId, DynProtectedPageWriter};
pub use read_only::ReadOnly;
pub use shared::SharedPager;
pub use sub_pages::{SubPageAllocator, SubPageId};

/// The examples of the README are doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeExamples;
