//! A key-value store on pagestone: what an engine gets from the facade.
//!
//! Invariant: what was acknowledged is there after any crash, and nothing is there that was not put.
//!
//! ```
//! use kvstore::{KvStore, StoreResult};
//!
//! # fn main() -> StoreResult<()> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let dir = dir.path().join("kvstore-data");
//! let store = KvStore::open(&dir)?;
//! assert!(!store.put("apple", "red")?.replaced);
//! assert!(store.put("apple", "green")?.replaced);
//! store.put("banana", "yellow")?;
//!
//! assert_eq!(store.get("apple")?.as_deref(), Some(&b"green"[..]));
//! for entry in store.scan_prefix("b").rev() {
//!     let (key, value) = entry?;
//!     assert_eq!((key.as_slice(), value.as_slice()), (&b"banana"[..], &b"yellow"[..]));
//! }
//! assert!(store.del("apple")?);
//! store.close()?; // reports what failed; dropping the store would lose nothing either
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!   kv_store.rs  KvStore: open, put, get, readers, del, scans, sync, checkpoint, stats, compact, close
//!   batch.rs     KvBatch: all or nothing
//!   entries.rs   Entries: what a scan gives, from both ends
//!   options.rs   KvStoreOptions
//!   stats.rs     KvStats
//!   main.rs, command/   the command `kvstore`
//! ```
#![forbid(unsafe_code)]

mod batch;
mod entries;
mod kv_store;
mod options;
mod stats;

pub use batch::KvBatch;
pub use entries::Entries;
pub use kv_store::KvStore;
pub use options::KvStoreOptions;
pub use pagestone::btree::{BatchDone, Put, TreeError, ValueReader};
pub use pagestone::page_format::Lsn;
pub use pagestone::store::{
    CompactReport, Durability, OpenReport, RecoveryProgress, RecoveryStep, StoreError, StoreResult,
    VerifyReport,
};
pub use stats::KvStats;
