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
pub use pagestone_allocator::PageAllocator;
#[cfg(feature = "btree")]
pub use pagestone_btree::{
    BTree, BatchChange, BatchDone, BatchOp, Cursor, Put, Range, TreeError, TreeResult,
};
#[cfg(feature = "pool")]
pub use pagestone_buffer_pool::{BufferPool, PoolOptions, PoolStats};
#[cfg(feature = "direct_io")]
pub use pagestone_direct_io::{DirectIo, PageFile, PageFileOptions};
#[cfg(feature = "latch")]
pub use pagestone_hybrid_latch::HybridLatch;
#[cfg(feature = "mini_txn")]
pub use pagestone_mini_txn::{LoggedPool, MiniTxn};
#[cfg(feature = "page_format")]
pub use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, Page, PageError, PageId, PageOp, PageResult, PageSize, PageStore,
    WriteAhead,
};
#[cfg(feature = "store")]
pub use pagestone_store::{
    Background, Batch, Durability, Finding, OpenReport, Options, Problem, Store, StoreError, StoreResult,
    StoreStats, Tree, TreeInfo, VerifyReport,
};
#[cfg(feature = "swip")]
pub use pagestone_swip::{AtomicSwipWord, SwipState, SwipWord};
#[cfg(feature = "wal")]
pub use pagestone_wal::{Wal, WalError, WalOptions, WalResult};

/// What most programs need of the layers that are on: `use pagestone::prelude::*;`
pub mod prelude {
    #[cfg(feature = "btree")]
    pub use pagestone_btree::{Cursor, Put};
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
