//! A tree, as the users of a store see it.
//!
//! Invariant: what changes something returns once that is as durable as the store's [`Durability`](crate::Durability) says; what reads
//! waits for nothing of the kind. All else is the tree's ([`BTree`]).

use std::io::Read;
use std::ops::RangeBounds;
use std::sync::Arc;

use pagestone_btree::{BTree, Cursor, Put, Range, ValueReader};
use pagestone_page_format::{Lsn, PageError};

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
        let is_long = value.len() > self.tree.max_inline_value(key.len());
        if is_long {
            self.core().make_space()?;
        }
        let put = match self.tree.put(key, value).map_err(StoreError::from) {
            // The disk is full, and checkpoints make room in the file for extents.
            Err(StoreError::Page(PageError::NoSpace { .. })) if is_long && self.core().lacks_space() => {
                self.core().make_space()?;
                self.tree.put(key, value)?
            }
            put => put?,
        };
        self.inner.acknowledge(put.lsn)?;
        Ok(put)
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

    /// Removes the key; tells whether it was there.
    pub fn remove(&self, key: &[u8]) -> StoreResult<bool> {
        match self.tree.remove(key)? {
            None => Ok(false),
            Some(lsn) => self.inner.acknowledge(lsn).map(|()| true),
        }
    }

    /// The value of the key, if there is one.
    pub fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.tree.get(key)?)
    }

    /// Replaces the contents of `value`; tells whether the key is there.
    pub fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> StoreResult<bool> {
        Ok(self.tree.get_into(key, value)?)
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

    /// Entries of the tree, counted by a scan.
    pub fn len(&self) -> StoreResult<u64> {
        Ok(self.tree.len()?)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> StoreResult<bool> {
        Ok(self.tree.is_empty()?)
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
