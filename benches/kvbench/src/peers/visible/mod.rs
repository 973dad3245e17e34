//! Stores whose puts are atomic and seen at once, and reach the disk some time: each in its fastest mode that promises so much.
//!
//! ```text
//!   pagestone             Durability::RELAXED
//!   RwLock<BTreeMap>      no disk at all
//!   LMDB                  NO_SYNC and WRITE_MAP
//!   redb                  Durability::None, and one durable commit between two turns: only that frees pages
//!   fjall, sled           without a sync
//! ```

#[cfg(feature = "peers")]
#[path = "all.rs"]
mod chosen;
#[cfg(not(feature = "peers"))]
#[path = "none.rs"]
mod chosen;
mod map;
mod ours;

use std::path::Path;

use crate::BenchResult;

pub(crate) use self::map::Map;
pub(crate) use self::ours::Ours;
use super::Each;

/// What a store's cache gets for each byte of keys and values: room for all, and for what it keeps beside them.
const CACHE_FACTOR: u64 = 3;

/// One of them.
pub(crate) trait Visible: Sync {
    fn name(&self) -> &'static str;

    /// Where its files are, in the directory of all: where they are cached by the system too, and nothing maps them.
    fn files(&self) -> Option<&'static str> {
        None
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()>;

    /// Looks a key up; `each` is given what was found, lent where the store lends it, else by way of `scratch`.
    fn get(&self, key: &[u8], scratch: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()>;

    /// Gives the rows from this key on, in order, until `each` has enough.
    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()>;

    /// Puts rows that come in the order of their keys.
    fn fill(&self, rows: Rows<'_>) -> BenchResult<()>;

    /// What is due after a turn and is no part of it.
    fn settle(&self) -> BenchResult<()> {
        Ok(())
    }
}

/// Who is given each row, and says whether to go on.
pub(crate) type EachRow<'e> = &'e mut dyn FnMut(&[u8], &[u8]) -> BenchResult<bool>;
/// Rows to fill a store with.
pub(crate) type Rows<'r> = &'r mut dyn Iterator<Item = (&'r [u8], Vec<u8>)>;

/// The other stores, each in a directory of its own in this one; `bytes` is what keys and values take together.
pub(crate) fn create(dir: &Path, bytes: u64) -> BenchResult<Vec<Box<dyn Visible>>> {
    chosen::create(dir, bytes * CACHE_FACTOR + (64 << 20), None)
}

/// The same with so many bytes of memory each, but for what the system caches of their files. fjall has half of it for what it has not
/// written yet.
pub(crate) fn create_bounded(dir: &Path, bytes: u64) -> BenchResult<Vec<Box<dyn Visible>>> {
    chosen::create(dir, bytes, Some(bytes / 4))
}
