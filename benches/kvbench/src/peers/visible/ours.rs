//! pagestone, with everything in its pool.

use std::path::Path;

use pagestone::store::{Durability, Options, Store, Tree};

use super::{EachRow, Rows, Visible};
use crate::BenchResult;
use crate::peers::Each;

/// A store with one tree.
pub(crate) struct Ours {
    store: Store,
    tree: Tree,
}

impl Ours {
    /// A new one, with a pool of so many bytes.
    pub(crate) fn create(dir: &Path, pool_bytes: usize) -> BenchResult<Self> {
        let options = Options { pool_bytes, durability: Durability::RELAXED, ..Options::default() };
        let store = Store::open(dir, options)?;
        Ok(Self { tree: store.default_tree(), store })
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Pages that were not resident so far.
    pub(crate) fn misses(&self) -> BenchResult<u64> {
        Ok(self.store.stats()?.pool.misses)
    }

    pub(crate) fn close(self) -> BenchResult<()> {
        drop(self.tree);
        Ok(self.store.close()?)
    }
}

impl Visible for Ours {
    fn name(&self) -> &'static str {
        "**pagestone**"
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        self.tree.put(key, value)?;
        Ok(())
    }

    fn get(&self, key: &[u8], scratch: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()> {
        let found = self.tree.get_into(key, scratch)?;
        each(found.then_some(scratch.as_slice()))
    }

    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        let mut cursor = self.tree.cursor();
        cursor.seek(from)?;
        while let Some((key, value)) = cursor.next()? {
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        for (key, value) in rows {
            self.tree.put(key, &value)?;
        }
        Ok(self.store.checkpoint()?)
    }
}
