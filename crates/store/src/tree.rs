//! A tree, as the users of a store see it.
//!
//! Invariant: what changes something returns once that is as durable as the store's [`Durability`](crate::Durability) says; what reads
//! waits for nothing of the kind. All else is the tree's ([`BTree`]).

use std::io::Read;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use pagestone_btree::{
    BTree, BulkLoaded, CompareAndSwap, Cursor, Put, Range, TreeResult, TreeShape, Updated, ValueReader,
};
use pagestone_page_format::{Lsn, PageError};

use crate::catalog::Room;
use crate::checkpoint::Core;
use crate::store::Inner;
use crate::{StoreError, StoreResult};

/// A tree of a store, with the store's durability. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tree {
    inner: Arc<Inner>,
    tree: BTree,
}

impl Tree {
    pub(crate) fn new(inner: Arc<Inner>, tree: BTree) -> Self {
        Self { inner, tree }
    }

    fn core(&self) -> &Core {
        &self.inner.core
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn btree(&self) -> &BTree {
        &self.tree
    }

    /// The tree's number, which is never another's; renames do not change it.
    pub fn id(&self) -> u32 {
        self.tree.tree_id()
    }

    /// Inserts or replaces; tells which. Values have up to 4 GiB; those that do not fit a quarter of a page stand in extents of
    /// their own and take whole pages.
    pub fn put(&self, key: &[u8], value: &[u8]) -> StoreResult<Put> {
        let put = self.with_space(self.is_long(key, value), || self.tree.put(key, value))?;
        self.inner.acknowledge(put.lsn)?;
        Ok(put)
    }

    /// Puts an entry whose key is not there.
    ///
    /// Errors, with the tree unchanged: `Tree(KeyExists)` if it is; those of [`Tree::put`].
    pub fn insert(&self, key: &[u8], value: &[u8]) -> StoreResult<Put> {
        let put = self.with_space(self.is_long(key, value), || self.tree.insert(key, value))?;
        self.inner.acknowledge(put.lsn)?;
        Ok(put)
    }

    /// Gives the key the value that `update` makes of its value, at one instant; `None` stands for no entry.
    ///
    /// `update` runs on a copy, with no latch held, so it may use this tree and any other; it runs again if another writer was
    /// faster. Values are read whole, long ones too. Errors, with the tree unchanged: those of [`Tree::put`].
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.default_tree();
    /// let one_more = |count: Option<&[u8]>| Some(vec![count.map_or(0, |count| count[0]) + 1]);
    /// tree.update_with(b"visits", one_more)?;
    /// assert_eq!(tree.update_with(b"visits", one_more)?.value, Some(vec![2]));
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn update_with(
        &self,
        key: &[u8],
        mut update: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> StoreResult<Updated> {
        // How long the new value will be is not known before.
        let updated = self.with_space(true, || self.tree.update_with(key, &mut update))?;
        updated.lsn.map_or(Ok(()), |lsn| self.inner.acknowledge(lsn))?;
        Ok(updated)
    }

    /// Gives the key the value `new` if its value is `expected`, at one instant; `None` stands for no entry.
    ///
    /// ```
    /// # use pagestone_store::{CompareAndSwap, Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.default_tree();
    /// assert!(matches!(tree.compare_and_swap(b"leader", None, Some(b"a"))?, CompareAndSwap::Done { .. }));
    /// let lost = tree.compare_and_swap(b"leader", None, Some(b"b"))?;
    /// assert_eq!(lost, CompareAndSwap::Differs { current: Some(b"a".to_vec()) });
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    ///
    /// Long values are read whole to be compared. Errors, with the tree unchanged: those of [`Tree::put`].
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> StoreResult<CompareAndSwap> {
        let is_long = new.is_some_and(|new| self.is_long(key, new));
        let done = self.with_space(is_long, || self.tree.compare_and_swap(key, expected, new))?;
        if let CompareAndSwap::Done { lsn: Some(lsn) } = done {
            self.inner.acknowledge(lsn)?;
        }
        Ok(done)
    }

    fn is_long(&self, key: &[u8], value: &[u8]) -> bool {
        value.len() > self.tree.max_inline_value(key.len())
    }

    /// Makes a change that may put a long value, for which there may be room once checkpoints have passed.
    fn with_space<T>(&self, is_long: bool, mut change: impl FnMut() -> TreeResult<T>) -> StoreResult<T> {
        if is_long {
            self.core().make_space()?;
        }
        match change().map_err(StoreError::from) {
            // The disk is full, and checkpoints make room in the file for extents.
            Err(StoreError::Page(PageError::NoSpace { .. })) if is_long && self.core().lacks_space() => {
                self.core().make_space()?;
                Ok(change()?)
            }
            done => done,
        }
    }

    /// As [`Tree::put`], with a value that is read piece by piece, so that at most a mebibyte of it is in memory at once. Of a
    /// known length exactly so many bytes are taken; else all that come.
    ///
    /// Errors, with the tree unchanged and nothing of the value kept: `Tree(Source)` for what the reader says, and if it ends
    /// before the announced length; `Tree(ValueTooLong)`; those of `put`. After `NoSpace` another call, with another reader, may find
    /// room that was freed a moment ago.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # use std::io::Read;
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.default_tree();
    /// tree.put_reader(b"long", None, std::io::repeat(7).take(10_000_000))?;
    /// let mut value = tree.get_reader(b"long")?.expect("it is there");
    /// assert_eq!(value.len(), 10_000_000);
    /// let mut some = [0; 5];
    /// value.read_exact(&mut some).expect("it is as it was written");
    /// assert_eq!(some, [7; 5]);
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn put_reader(&self, key: &[u8], len: Option<u64>, value: impl Read) -> StoreResult<Put> {
        self.core().make_space()?;
        let put = self.tree.put_reader(key, len, value)?;
        self.inner.acknowledge(put.lsn)?;
        Ok(put)
    }

    /// Fills an empty tree with entries in key order, each key once: the fastest way to fill one, and with full pages. Others see no
    /// entry before all are there; a crash or an error leaves the tree empty, and no page behind.
    ///
    /// Pages are written once, in large writes past the pool and the log.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.tree("squares")?;
    /// let loaded = tree.bulk_load((0..10_000u32).map(|n| (n.to_be_bytes(), (u64::from(n) * u64::from(n)).to_le_bytes())))?;
    /// assert_eq!((loaded.entries, tree.len()?), (10_000, 10_000));
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    ///
    /// Errors, with the tree empty as before: `Tree(NotSorted)`; `Tree(NotEmpty)`, also if somebody put an entry meanwhile;
    /// `Tree(BatchTooLarge)` past some millions of pages, or where free space is in many thousand pieces; those of [`Tree::put`].
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> StoreResult<BulkLoaded> {
        self.core().make_space()?;
        let loaded = match self.inner.helpers() {
            Some(threads) => self.tree.bulk_load_by(&threads, entries)?,
            None => self.tree.bulk_load(entries)?,
        };
        loaded.lsn.map_or(Ok(()), |lsn| self.inner.acknowledge(lsn))?;
        Ok(loaded)
    }

    /// Removes the key; tells whether it was there.
    pub fn remove(&self, key: &[u8]) -> StoreResult<bool> {
        match self.tree.remove(key)? {
            None => Ok(false),
            Some(lsn) => self.inner.acknowledge(lsn).map(|()| true),
        }
    }

    /// Removes the entries whose keys lie within the bounds; gives how many they were.
    ///
    /// Others see them go leaf by leaf, in key order, and may put keys behind that, which stay. Once it is under way all of them go:
    /// what a crash interrupts, the next opening finishes before it gives out a handle. A range within one leaf goes at one instant.
    ///
    /// Errors: those of [`Tree::remove`], also of a part of the range; then what is left of it stays.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.default_tree();
    /// for day in ["2024-12-30", "2025-01-01", "2025-01-02"] {
    ///     tree.put(day.as_bytes(), b"")?;
    /// }
    /// assert_eq!(tree.remove_range(.."2025")?, 1);
    /// assert_eq!(tree.len()?, 2);
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn remove_range<K: AsRef<[u8]>>(&self, bounds: impl RangeBounds<K>) -> StoreResult<u64> {
        // One past a bound that is meant the other way round.
        let behind = |key: &K| [key.as_ref(), &[0]].concat();
        let from = match bounds.start_bound() {
            Bound::Included(key) => key.as_ref().to_vec(),
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => Vec::new(),
        };
        let to = match bounds.end_bound() {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(key.as_ref().to_vec()),
            Bound::Unbounded => None,
        };
        let core = self.core();
        // Those who wait for room are slowed down before, and get it from the threads of the background or from `tick`.
        let room = Room { ease: &|| Ok(()), empty: &|| core.empty_log() };
        let (entries, lsn) = core.catalog.remove_range(&core.env, &room, &self.tree, from, to)?;
        lsn.map_or(Ok(()), |lsn| self.inner.acknowledge(lsn))?;
        Ok(entries)
    }

    /// The value of the key, if there is one.
    pub fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.tree.get(key)?)
    }

    /// Replaces the contents of `value`; tells whether the key is there.
    pub fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> StoreResult<bool> {
        Ok(self.tree.get_into(key, value)?)
    }

    /// What `read` makes of the value of the key, if there is one. It runs on a copy, with no latch held, and once.
    pub fn get_with<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> StoreResult<Option<T>> {
        Ok(self.tree.get_with(key, read)?)
    }

    /// The values of these keys, in their order: `None` where there is no entry. Any number of them, in any order, also twice.
    ///
    /// Up to 64 lookups are under way at once in this thread, so that what they wait for, memory or disk, overlaps. Each answer is of
    /// one instant, as that of [`Tree::get`]; together they are of several.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.default_tree();
    /// tree.put(b"granite", b"hard")?;
    /// assert_eq!(tree.multi_get(&["granite", "gneiss"])?, [Some(b"hard".to_vec()), None]);
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> StoreResult<Vec<Option<Vec<u8>>>> {
        Ok(self.tree.multi_get(keys)?)
    }

    /// As [`Tree::multi_get`], without memory for each value: `answer` is called once for each key, with its index, in no order that is
    /// promised. It runs on a copy, with no latch held. After an error some were answered.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        answer: impl FnMut(usize, Option<&[u8]>),
    ) -> StoreResult<()> {
        Ok(self.tree.multi_get_with(keys, answer)?)
    }

    /// The value of the key, if there is one, to be read piece by piece: as it is now, whatever becomes of the key meanwhile.
    pub fn get_reader(&self, key: &[u8]) -> StoreResult<Option<ValueReader>> {
        Ok(self.tree.get_reader(key)?)
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &[u8]) -> StoreResult<bool> {
        Ok(self.tree.contains_key(key)?)
    }

    /// A cursor before the first entry.
    pub fn cursor(&self) -> Cursor {
        self.tree.cursor()
    }

    /// Entries whose keys lie within the bounds, from both ends.
    pub fn range<K: AsRef<[u8]>>(&self, bounds: impl RangeBounds<K>) -> Range {
        self.tree.range(bounds)
    }

    /// Entries whose keys begin with `prefix`, from both ends.
    pub fn prefix(&self, prefix: &[u8]) -> Range {
        self.tree.prefix(prefix)
    }

    /// The entry with the least key, if there is any.
    pub fn first(&self) -> StoreResult<Option<(Vec<u8>, Vec<u8>)>> {
        Ok(self.tree.first()?)
    }

    /// The entry with the greatest key, if there is any.
    pub fn last(&self) -> StoreResult<Option<(Vec<u8>, Vec<u8>)>> {
        Ok(self.tree.last()?)
    }

    /// Entries of the tree, counted by a scan.
    pub fn len(&self) -> StoreResult<u64> {
        Ok(self.tree.len()?)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> StoreResult<bool> {
        Ok(self.tree.is_empty()?)
    }

    /// What the tree is made of: height, pages by kind, how full they are, what shared prefixes save. Reads every node of it.
    pub fn shape(&self) -> StoreResult<TreeShape> {
        Ok(self.tree.shape()?)
    }

    /// The longest key, in bytes.
    pub fn max_key_len(&self) -> usize {
        self.tree.max_key_len()
    }

    /// The longest value, in bytes: 4 GiB.
    pub fn max_value_len(&self) -> u64 {
        self.tree.max_value_len()
    }

    /// The longest value that stands beside a key of this length in its leaf, in bytes; longer ones stand in extents.
    pub fn max_inline_value(&self, key_len: usize) -> usize {
        self.tree.max_inline_value(key_len)
    }

    /// Waits until a write that gave this LSN is durable.
    pub fn wait_durable(&self, lsn: Lsn) -> StoreResult<()> {
        Ok(self.core().env.log().wait_durable(lsn)?)
    }

    /// Whether a write that gave this LSN is durable.
    pub fn is_durable(&self, lsn: Lsn) -> bool {
        self.core().env.log().is_lsn_durable(lsn)
    }
}
