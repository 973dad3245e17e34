//! Write batches: changes of one tree or several that come together.
//!
//! Invariant: nothing of a batch is in the store before `commit`, all of it afterwards, or, if that was an error, nothing. A crash
//! leaves all of it or nothing too. What readers see meanwhile: `pagestone_btree`'s `batch/mod.rs`.

use std::ops::Range;
use std::sync::Arc;

use pagestone_btree::{BatchChange, BatchDone, BatchOp, TreeError, apply_batch};

use crate::{Store, StoreResult, Tree};

/// Changes to be made together, in the order in which they were given: of several of one key in one tree the last one counts.
///
/// It is in memory until [`Batch::commit`]; dropping it makes no change. While it lives the store stays locked.
///
/// Values have any length that a put takes, up to 4 GiB; but all of them are in memory, whole, until the batch is committed. One that
/// is to be read piece by piece is for [`Tree::put_reader`].
///
/// ```
/// use pagestone_store::{Options, Store};
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let dir = dir.path().join("store");
/// let store = Store::open(&dir, Options::default())?;
/// let tree = store.default_tree();
/// tree.put(b"old", b"value")?;
/// let mut batch = store.batch();
/// batch.put(&tree, b"new", b"value")?;
/// batch.remove(&tree, b"old")?;
/// let done = batch.commit()?; // Strict: durable when it returns
/// assert_eq!((done.inserted, done.replaced, done.removed), (1, 0, 1));
/// assert!(batch.is_empty() && !tree.contains_key(b"old")?);
/// # Ok::<(), pagestone_store::StoreError>(())
/// ```
#[derive(Clone)]
pub struct Batch {
    store: Store,
    trees: Vec<Tree>,
    ops: Vec<Op>,
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
}

#[derive(Clone)]
struct Op {
    /// Index of its tree.
    tree: usize,
    key: Range<usize>,
    /// None: the key is removed.
    value: Option<Range<usize>>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Sizes and no bytes of the user's.
        f.debug_struct("Batch")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch { store: self.clone(), trees: Vec::new(), ops: Vec::new(), bytes: Vec::new() }
    }
}

impl Batch {
    /// Adds: insert or replace. Error: `ForeignTree` if it is another store's, and the batch is as it was.
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> StoreResult<()> {
        self.push(tree, key, Some(value))
    }

    /// Adds: remove the key if it is there. Error: `ForeignTree` if it is another store's, and the batch is as it was.
    pub fn remove(&mut self, tree: &Tree, key: &[u8]) -> StoreResult<()> {
        self.push(tree, key, None)
    }

    fn push(&mut self, tree: &Tree, key: &[u8], value: Option<&[u8]>) -> StoreResult<()> {
        if !Arc::ptr_eq(tree.inner(), self.store.inner()) {
            return Err(TreeError::ForeignTree { tree_id: tree.btree().tree_id() }.into());
        }
        // Most often the one before. Few trees have anything in one batch.
        let known = self.trees.iter().rposition(|known| known.id() == tree.id());
        let tree = known.unwrap_or_else(|| {
            self.trees.push(tree.clone());
            self.trees.len() - 1
        });
        let key = self.keep(key);
        let value = value.map(|value| self.keep(value));
        self.ops.push(Op { tree, key, value });
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Changes added since it was made, cleared or committed, those of one key each counted.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of their keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets them, and keeps the memory for others.
    pub fn clear(&mut self) {
        self.trees.clear();
        self.ops.clear();
        self.bytes.clear();
    }

    fn lend(&self, op: &Op) -> BatchOp<'_> {
        let change = match &op.value {
            Some(value) => BatchChange::Put(&self.bytes[value.clone()]),
            None => BatchChange::Remove,
        };
        BatchOp { tree: self.trees[op.tree].btree(), key: &self.bytes[op.key.clone()], change }
    }

    /// Makes the changes, all at once, and empties the batch. With [`Durability::Strict`](crate::Durability::Strict) they are durable
    /// when this returns; `done.lsn` tells how far the log has to be for that.
    ///
    /// Values that do not fit a quarter of a page are written to extents first, and all wait for one sync of the data file; of the
    /// log each takes a few dozen bytes.
    ///
    /// Errors, with nothing changed, no space taken and the batch as it was: `BatchTooLarge` if it changes more leaves than a
    /// quarter of the frames that the pool has, takes and frees extents under more pages of the space map than that, or takes more
    /// log than the largest group, a quarter of the log's budget and 4 MiB at most; `KeyTooLong`; those of a put. If the log fails
    /// while it is waited for, the changes are visible, and whether they are there after the next opening is not known: all of them
    /// or none.
    pub fn commit(&mut self) -> StoreResult<BatchDone> {
        let ops: Vec<BatchOp<'_>> = self.ops.iter().map(|op| self.lend(op)).collect();
        if ops.iter().any(BatchOp::puts_long_value) {
            self.store.inner().core.make_space()?;
        }
        let done = apply_batch(self.store.env(), &ops)?;
        if let Some(lsn) = done.lsn {
            self.store.inner().acknowledge(lsn)?;
        }
        self.clear();
        Ok(done)
    }
}
