//! The storage substrate beneath a database: every layer of pagestone under one name.
//!
//! Invariant: this crate holds no code. Each layer is a feature and a crate, and means here what it means alone.
//!
//! ```text
//!   feature      module                 what it is
//!   store        pagestone::store       open, recover, checkpoint, trees: what most engines start from
//!   btree        pagestone::btree       a concurrent B+tree over a pool, a log and an allocator
//!   mini_txn     pagestone::mini_txn    groups of page changes, atomic across pages and across a crash
//!   pool         pagestone::pool        a buffer pool as fast as memory and larger than memory
//!   wal          pagestone::wal         a write-ahead log with group commit
//!   alloc        pagestone::alloc       page ids and the space map
//!   mapped       pagestone::mapped      a crash-consistent pager over a memory map
//!   direct_io    pagestone::direct_io   files, direct I/O, durability
//!   latch        pagestone::latch       an optimistic, shared and exclusive latch on one word
//!   swip         pagestone::swip        the 64-bit self-validating page reference
//!   page_format  pagestone::page_format pages, checksums, the contracts between the layers
//!   metrics      (none)                 counters and histograms in all of them
//! ```
//!
//! All of them are on unless `default-features = false`; `all` is every layer without `metrics`.
//!
//! ```
//! use pagestone::prelude::*;
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let dir = dir.path().join("store");
//! let store = Store::open(&dir, Options::default())?;
//! let tree = store.default_tree();
//! tree.put(b"stone", b"granite")?;
//! assert_eq!(tree.get(b"stone")?.as_deref(), Some(&b"granite"[..]));
//! store.close()?;
//! # Ok::<(), StoreError>(())
//! ```
//!
//! Whoever wants less takes less. A file of checksummed pages:
//!
//! ```
//! use pagestone::{DEFAULT_PAGE_SIZE, Lsn, PageFile, PageId};
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let path = dir.path().join("data.pages");
//! let file = PageFile::open(&path, DEFAULT_PAGE_SIZE)?;      // made if there is none; past the system's cache where that can be
//! let mut page = file.allocate_page(PageId::new(0));         // a buffer
//! page.payload_mut()[..5].copy_from_slice(b"hello");
//! page.set_lsn(Lsn::new(1));
//! file.write_page(&mut page)?;                               // stamped, written into slot 0
//! file.sync()?;
//!
//! let page = file.read_page(PageId::new(0))?;                // read and verified
//! assert_eq!((&page.payload()[..5], page.lsn()), (&b"hello"[..], Lsn::new(1)));
//! # Ok::<(), pagestone::PageError>(())
//! ```
//!
//! A pool over such a file, which keeps the pages that are used in memory:
//!
//! ```
//! use pagestone::{BufferPool, DEFAULT_PAGE_SIZE, PageId};
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let path = dir.path().join("data.pages");
//! let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 64)?; // 64 frames
//! let page = pool.new_page(PageId::new(0))?;                  // pinned
//! page.write()?.payload_mut()[..5].copy_from_slice(b"hello");
//! drop(page);
//! pool.checkpoint()?;                                         // written and synced
//!
//! let page = pool.fetch(PageId::new(0))?;
//! assert_eq!(&page.read()?.payload()[..5], b"hello");
//! # Ok::<(), pagestone::PageError>(())
//! ```
//!
//! And an allocator of page ids beside it, over the same file:
//!
//! ```
//! use std::sync::Arc;
//! use pagestone::{BufferPool, DEFAULT_PAGE_SIZE, PageAllocator, PageFile};
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let path = dir.path().join("data.pages");
//! let file = Arc::new(PageFile::open(&path, DEFAULT_PAGE_SIZE)?);
//! let ids = PageAllocator::new(Arc::clone(&file))?;           // owns page 0
//! let pool = BufferPool::new(Arc::clone(&file), 64);
//!
//! let id = ids.allocate()?;
//! pool.new_page(id)?.write()?.payload_mut()[..5].copy_from_slice(b"hello");
//! pool.checkpoint()?;                                         // the page is durable,
//! ids.sync()?;                                                // and that its id is in use
//!
//! pool.discard(id)?;                                          // out of the pool before its id is somebody else's
//! ids.free(id)?;
//! ids.sync()?;                                                // from now on it may be
//! assert!(!ids.is_allocated(id)?);
//! # Ok::<(), pagestone::PageError>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
pub use pagestone_allocator as alloc;
#[cfg(feature = "btree")]
pub use pagestone_btree as btree;
#[cfg(feature = "pool")]
pub use pagestone_buffer_pool as pool;
#[cfg(feature = "direct_io")]
pub use pagestone_direct_io as direct_io;
#[cfg(feature = "latch")]
pub use pagestone_hybrid_latch as latch;
#[cfg(feature = "mapped")]
pub use pagestone_mapped_pages as mapped;
#[cfg(feature = "mini_txn")]
pub use pagestone_mini_txn as mini_txn;
#[cfg(feature = "page_format")]
pub use pagestone_page_format as page_format;
#[cfg(feature = "store")]
pub use pagestone_store as store;
#[cfg(feature = "swip")]
pub use pagestone_swip as swip;
#[cfg(feature = "wal")]
pub use pagestone_wal as wal;

#[cfg(feature = "alloc")]
pub use pagestone_allocator::{LoggedAllocator, PageAllocator};
#[cfg(feature = "btree")]
pub use pagestone_btree::{
    BTree, BatchChange, BatchDone, BatchOp, BulkLoaded, CompareAndSwap, Cursor, Put, Range, TreeError,
    TreeResult, TreeShape, Updated,
};
#[cfg(feature = "pool")]
pub use pagestone_buffer_pool::{BufferPool, PageGuard, PageMut, PageRef, PoolOptions, PoolStats};
#[cfg(feature = "direct_io")]
pub use pagestone_direct_io::{DirectIo, PageFile, PageFileOptions};
#[cfg(feature = "latch")]
pub use pagestone_hybrid_latch::HybridLatch;
#[cfg(feature = "mini_txn")]
pub use pagestone_mini_txn::{LateLog, LoggedPool, MasterRecord, MiniTxn};
#[cfg(feature = "page_format")]
pub use pagestone_page_format::{
    ChecksumKind, Crc32c, DEFAULT_PAGE_SIZE, Lsn, MAX_PAGE_SIZE, MIN_PAGE_SIZE, MemoryStore,
    PAGE_HEADER_SIZE, Page, PageError, PageId, PageOp, PageResult, PageSize, PageStore, WriteAhead, crc32c,
};
#[cfg(feature = "store")]
pub use pagestone_store::{
    Background, Batch, Durability, Finding, OpenReport, Options, Problem, RecoveryProgress, RecoveryStep,
    Store, StoreError, StoreResult, StoreStats, Tree, TreeInfo, VerifyReport,
};
#[cfg(feature = "swip")]
pub use pagestone_swip::{AtomicSwipWord, SwipState, SwipWord};
#[cfg(feature = "wal")]
pub use pagestone_wal::{Wal, WalError, WalOptions, WalResult};

/// What most programs need of the layers that are on: `use pagestone::prelude::*;`
pub mod prelude {
    #[cfg(feature = "btree")]
    pub use pagestone_btree::{CompareAndSwap, Cursor, Put, Updated};
    #[cfg(feature = "page_format")]
    pub use pagestone_page_format::{Lsn, PageError, PageId, PageResult, PageSize, PageStore};
    #[cfg(feature = "store")]
    pub use pagestone_store::{Batch, Durability, Options, Store, StoreError, StoreResult, Tree};
}

/// The examples of `docs/API.md` and of the README are doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/API.md")]
pub struct ApiExamples;

/// As above.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct ReadmeExamples;
