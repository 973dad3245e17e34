//! Changes that come together.

use pagestone::btree::BatchDone;
use pagestone::store::{Batch, StoreResult, Tree};

/// Puts and removals that are made together: all of them or, after an error or a crash, none.
///
/// It is in memory until [`KvBatch::commit`]; dropping it changes nothing.
///
/// ```
/// # fn main() -> kvstore::StoreResult<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = kvstore::KvStore::open(dir.path().join("kvstore-data"))?;
/// store.put("from", "100")?;
/// let mut batch = store.batch();
/// batch.del("from")?;
/// batch.put("to", "100")?;
/// assert_eq!(store.get("to")?, None);
/// let done = batch.commit()?;
/// assert_eq!((done.inserted, done.removed), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct KvBatch {
    batch: Batch,
    tree: Tree,
}

impl KvBatch {
    pub(crate) fn new(batch: Batch, tree: Tree) -> Self {
        Self { batch, tree }
    }

    /// Adds: insert the key or replace its value, of any length that a put takes; it is in memory, whole, until the commit. Of several
    /// changes of one key the last one counts.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> StoreResult<()> {
        self.batch.put(&self.tree, key.as_ref(), value.as_ref())
    }

    /// Adds: remove the key if it is there.
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> StoreResult<()> {
        self.batch.remove(&self.tree, key.as_ref())
    }

    /// Bytes of the keys and values in it.
    pub fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Makes the changes, all at once, and empties the batch; durable as a put is.
    ///
    /// Errors, with nothing changed and the batch as it was: a key or a value that is too long, more than the pool or the log takes at
    /// once, a full disk.
    pub fn commit(&mut self) -> StoreResult<BatchDone> {
        self.batch.commit()
    }
}
