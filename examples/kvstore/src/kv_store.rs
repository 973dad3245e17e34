//! The store: pagestone's [`Store`] and its default [`Tree`], under the names of a key-value store.
//!
//! Invariant: it holds no state of its own, so that everything it promises is what the store promises.

use std::io::Read;
use std::ops::RangeBounds;
use std::path::Path;

use pagestone::btree::{Put, ValueReader};
use pagestone::store::{CompactReport, OpenReport, RecoveryProgress, Store, StoreResult, Tree, VerifyReport};

use crate::{Entries, KvBatch, KvStats, KvStoreOptions};

/// Slots of the superblock where the counters over the store's life are kept.
const EVICTIONS_SLOT: usize = 0;
const SPLITS_SLOT: usize = 1;

/// A key-value store in a directory of its own. All of its calls take `&self`, from as many threads as there are.
///
/// Keys and values are bytes; keys are ordered as unsigned bytes. See [`Tree::max_key_len`] and [`Tree::max_value_len`] for
/// how long they may be.
#[derive(Debug)]
pub struct KvStore {
    store: Store,
    tree: Tree,
    evictions_before: u64,
    splits_before: u64,
}

impl KvStore {
    /// Opens the store in `dir` with the default options: makes it if there is none, recovers it if it was not closed.
    ///
    /// Errors, with nothing changed on disk: another handle has it open, or `dir` holds something else, or a broken store.
    pub fn open(dir: impl AsRef<Path>) -> StoreResult<Self> {
        Self::open_with(dir, &KvStoreOptions::default())
    }

    /// Opens the store in `dir`.
    ///
    /// ```
    /// use kvstore::{Durability, KvStore, KvStoreOptions};
    ///
    /// # fn main() -> kvstore::StoreResult<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let dir = dir.path().join("kvstore-data");
    /// // Writes return at once; `sync` makes what was written durable.
    /// let options = KvStoreOptions { durability: Durability::RELAXED, ..KvStoreOptions::default() };
    /// let store = KvStore::open_with(&dir, &options)?;
    /// for number in 0..1000_u32 {
    ///     store.put(number.to_be_bytes(), "value")?;
    /// }
    /// store.sync()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_with(dir: impl AsRef<Path>, options: &KvStoreOptions) -> StoreResult<Self> {
        Self::open_with_progress(dir, options, |_| {})
    }

    /// As [`KvStore::open_with`]; `progress` is called when a step of recovery begins, and with every mebibyte of log.
    pub fn open_with_progress(
        dir: impl AsRef<Path>,
        options: &KvStoreOptions,
        progress: impl FnMut(RecoveryProgress),
    ) -> StoreResult<Self> {
        let store = Store::open_with_progress(dir, options.into(), progress)?;
        Ok(Self {
            tree: store.default_tree(),
            evictions_before: store.user_meta(EVICTIONS_SLOT)?,
            splits_before: store.user_meta(SPLITS_SLOT)?,
            store,
        })
    }

    /// Inserts the key or replaces its value; tells which, and the LSN up to which the log must be durable for this write to
    /// be.
    ///
    /// Errors: a key or a value that is too long, a full disk; neither changes anything.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> StoreResult<Put> {
        self.tree.put(key.as_ref(), value.as_ref())
    }

    /// The value of the key, if there is one, whole in memory.
    pub fn get(&self, key: impl AsRef<[u8]>) -> StoreResult<Option<Vec<u8>>> {
        self.tree.get(key.as_ref())
    }

    /// As [`KvStore::put`], with a value of up to 4 GiB that is read piece by piece: at most a mebibyte of it is in memory at once. Of
    /// a known length exactly so many bytes are taken; else all that come.
    ///
    /// Errors, with nothing changed: as for `put`, and what the reader says, `Tree(Source)`.
    pub fn put_reader(&self, key: impl AsRef<[u8]>, len: Option<u64>, value: impl Read) -> StoreResult<Put> {
        self.tree.put_reader(key.as_ref(), len, value)
    }

    /// The value of the key, if there is one, to be read piece by piece: as it is now, whatever becomes of the key meanwhile.
    ///
    /// ```
    /// # use std::io::Read;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let store = kvstore::KvStore::open(dir.path().join("kvstore-data"))?;
    /// store.put_reader("long", None, std::io::repeat(7).take(5_000_000))?;
    /// let mut value = store.get_reader("long")?.ok_or("it is there")?;
    /// let mut some = [0; 5];
    /// value.read_exact(&mut some)?; // verified before it is given out
    /// assert_eq!((value.len(), some), (5_000_000, [7; 5]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_reader(&self, key: impl AsRef<[u8]>) -> StoreResult<Option<ValueReader>> {
        self.tree.get_reader(key.as_ref())
    }

    /// Removes the key; tells whether it was there.
    pub fn del(&self, key: impl AsRef<[u8]>) -> StoreResult<bool> {
        self.tree.remove(key.as_ref())
    }

    /// An empty batch: changes that come together.
    pub fn batch(&self) -> KvBatch {
        KvBatch::new(self.store.batch(), self.tree.clone())
    }

    /// All entries.
    pub fn scan_all(&self) -> Entries {
        self.scan_prefix("")
    }

    /// Entries whose keys lie within `bounds`.
    ///
    /// ```
    /// # fn main() -> kvstore::StoreResult<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = kvstore::KvStore::open(dir.path().join("kvstore-data"))?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(key, "")?;
    /// }
    /// let keys: Result<Vec<_>, _> = store.scan_range("a".."c").map(|entry| entry.map(|(key, _)| key)).collect();
    /// assert_eq!(keys?, [b"a", b"b"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan_range<K: AsRef<[u8]>>(&self, bounds: impl RangeBounds<K>) -> Entries {
        Entries::new(self.tree.range(bounds))
    }

    /// Entries whose keys begin with `prefix`.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Entries {
        Entries::new(self.tree.prefix(prefix.as_ref()))
    }

    /// Entries of the store, counted by a scan.
    pub fn count(&self) -> StoreResult<u64> {
        self.tree.len()
    }

    /// Waits until everything written so far is durable.
    pub fn sync(&self) -> StoreResult<()> {
        self.store.sync()
    }

    /// Writes out what is dirty, so that the next opening replays less. Writers go on meanwhile.
    pub fn checkpoint(&self) -> StoreResult<()> {
        self.store.checkpoint()
    }

    /// What the store has done and what it holds.
    pub fn stats(&self) -> StoreResult<KvStats> {
        let store = self.store.stats()?;
        Ok(KvStats {
            evictions: self.evictions_before.saturating_add(store.pool.evictions),
            splits: self.splits_before.saturating_add(store.tree.splits),
            store,
        })
    }

    /// Everything that is counted and measured, in Prometheus' text format.
    pub fn prometheus(&self) -> StoreResult<String> {
        self.store.prometheus()
    }

    /// What is measured beside what is counted, by name.
    pub fn measurements(&self) -> Vec<(String, u64)> {
        self.store.measurements()
    }

    /// Looks at every page of the store, beside readers and writers; what is wrong is in the report.
    pub fn verify(&self) -> StoreResult<VerifyReport> {
        self.store.verify()
    }

    /// Makes the data file as short as what it holds allows, beside readers and writers; the report says what that came to. It logs about
    /// as much as it moves.
    ///
    /// ```
    /// # fn main() -> kvstore::StoreResult<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = kvstore::KvStore::open(dir.path().join("kvstore-data"))?;
    /// for number in 0..1000_u32 {
    ///     store.put(number.to_be_bytes(), [7; 100])?;
    /// }
    /// for number in 0..990_u32 {
    ///     store.del(number.to_be_bytes())?;
    /// }
    /// let report = store.compact()?;
    /// assert!(report.bytes_after < report.bytes_before);
    /// # Ok(())
    /// # }
    /// ```
    pub fn compact(&self) -> StoreResult<CompactReport> {
        self.store.compact()
    }

    /// What opening found and did.
    pub fn open_report(&self) -> &OpenReport {
        self.store.open_report()
    }

    /// The tree beneath, for what this library does not show: cursors, waiting for a single write to be durable, limits.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes everything durable, makes a checkpoint and ends the handle: every later call gives `Closed`. Reports what
    /// failed. The directory stays locked until the store is dropped.
    ///
    /// A store that is dropped or killed without it loses nothing that was acknowledged; [`KvStats`] forget what was counted
    /// since it was opened.
    pub fn close(&self) -> StoreResult<()> {
        let counters = self.keep_counters();
        self.store.close().and(counters)
    }

    fn keep_counters(&self) -> StoreResult<()> {
        let stats = self.stats()?;
        for (slot, before, now) in [
            (EVICTIONS_SLOT, self.evictions_before, stats.evictions),
            (SPLITS_SLOT, self.splits_before, stats.splits),
        ] {
            if now != before {
                self.store.set_user_meta(slot, now)?;
            }
        }
        Ok(())
    }
}
