//! What a tree is made of, by the walk that checks it.
//!
//! Invariant: the figures are of the nodes that the walk came to; beside writers each is of its own instant.

use super::{CheckVisitor, ReachedPage, TreeFinding, TreeReport};
use crate::{BTree, TreeResult};

/// What a tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeShape {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Levels, the leaves' among them; a lookup visits as many pages.
    pub height: u32,
    /// Entries.
    pub entries: u64,
    /// Pages of leaves.
    pub leaves: u64,
    /// Pages of inner nodes.
    pub nodes: u64,
    /// Pages of long values.
    pub value_pages: u64,
    /// Bytes of the leaves that are in use, headers and fences among them.
    pub leaf_bytes: u64,
    /// Bytes of the inner nodes that are in use.
    pub node_bytes: u64,
    /// Bytes of keys that are not stored, because all keys of their node begin with them.
    pub prefix_bytes_saved: u64,
    /// Things that are wrong; [`BTree::check`] says what, and what hangs there may be missing in the figures.
    pub problems: u64,
}

impl TreeShape {
    /// How full the leaves are, 0 to 1.
    pub fn leaf_fill(&self) -> f64 {
        fill(self.leaf_bytes, self.leaves * self.page_bytes)
    }

    /// How full the inner nodes are, 0 to 1.
    pub fn node_fill(&self) -> f64 {
        fill(self.node_bytes, self.nodes * self.page_bytes)
    }

    /// Pages of all kinds.
    pub fn pages(&self) -> u64 {
        self.leaves + self.nodes + self.value_pages
    }
}

fn fill(bytes: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { bytes as f64 / of as f64 }
}

/// Counts what is wrong.
#[derive(Default)]
struct Problems(u64);

impl CheckVisitor for Problems {
    fn page(&mut self, _: ReachedPage) -> bool {
        true
    }

    fn is_reached(&self, _: pagestone_page_format::PageId) -> bool {
        true
    }

    fn finding(&mut self, _: TreeFinding) {
        self.0 += 1;
    }
}

impl BTree {
    /// What the tree is made of: height, pages by kind, how full they are, what prefixes save. Reads every node, beside readers and
    /// writers; no page of a value.
    ///
    /// Errors are about the handle: `Closed`, `Poisoned`, `BufferPoolExhausted`.
    pub fn shape(&self) -> TreeResult<TreeShape> {
        let mut problems = Problems::default();
        let TreeReport {
            height,
            nodes,
            leaves,
            entries,
            value_pages,
            leaf_bytes,
            node_bytes,
            prefix_bytes_saved,
            not_looked_below: _,
        } = self.check(&mut problems)?;
        let page_bytes = self.env().pool().page_size().get() as u64;
        let problems = problems.0;
        Ok(TreeShape {
            page_bytes,
            height,
            entries,
            leaves,
            nodes,
            value_pages,
            leaf_bytes,
            node_bytes,
            prefix_bytes_saved,
            problems,
        })
    }
}
