//! The named trees that somebody uses.
//!
//! Invariant: while a tree is in use there is one [`BTree`] of it, of which all handles are clones; so marking it as dropped reaches
//! them all. It keeps none of them in use, and no more entries than twice the trees that are, and a few.

use std::collections::HashMap;

use pagestone_btree::{BTree, WeakTree};

use super::entry::{Entry, bad};
use crate::StoreResult;

/// Entries that are kept without a look at who is still in use.
const FEW: usize = 16;

#[derive(Debug, Default)]
pub(super) struct OpenTrees {
    /// By tree id, which no rename changes.
    trees: HashMap<u32, WeakTree>,
    /// How many there may be before those that nobody uses are forgotten.
    room: usize,
}

impl OpenTrees {
    /// The tree of this entry, opened beside `list` if nobody uses it yet.
    pub(super) fn get(&mut self, list: &BTree, entry: Entry) -> StoreResult<BTree> {
        match self.trees.get(&entry.tree).and_then(WeakTree::upgrade) {
            Some(tree) if tree.root_id() == entry.root => Ok(tree),
            Some(tree) => {
                Err(bad("page id of the root of a tree in use", tree.root_id().get(), entry.root.get()))
            }
            None => {
                let tree = list.beside(entry.tree, entry.root)?;
                self.add(&tree);
                Ok(tree)
            }
        }
    }

    /// Takes note of a tree that was made a moment ago.
    pub(super) fn add(&mut self, tree: &BTree) {
        if self.trees.len() >= self.room {
            self.trees.retain(|_, tree| tree.upgrade().is_some());
            self.room = 2 * self.trees.len() + FEW;
        }
        self.trees.insert(tree.tree_id(), tree.downgrade());
    }

    /// Tells all who use the tree that it was dropped.
    pub(super) fn mark_dropped(&mut self, tree: u32) {
        if let Some(tree) = self.trees.remove(&tree).and_then(|tree| tree.upgrade()) {
            tree.mark_dropped();
        }
    }
}
