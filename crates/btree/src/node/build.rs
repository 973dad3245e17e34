//! Nodes of one level, built from cells that come in key order: each as full as it goes.
//!
//! Invariant: the node under construction, closed before the last cell that came, fits its page; so a cell that turns out to have no
//! room, once the fence behind it is known, begins the next node.
//!
//! ```text
//!   cells that are in │ the last one │ the one that comes
//!                     ▲              ▲
//!                     fits, closed   does it fit, closed here? then it is in; else the node is closed before it
//! ```

use pagestone_page_format::PageSize;
use pagestone_swip::SwipWord;

use super::fit::{Sizes, common_prefix};
use super::ops::FormatNode;
use super::split::shortest_between;

/// A cell on its way into a node.
struct Waiting {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u8,
    child: SwipWord,
}

/// A node that is full, without its right sibling; its upper fence is the lower one of the next node.
pub(crate) struct Closed {
    pub(crate) node: FormatNode,
    pub(crate) separator: Vec<u8>,
}

/// Builds one level of a tree.
pub(crate) struct LevelBuilder {
    page_size: PageSize,
    node: FormatNode,
    /// Key of the last cell that is in, of a leaf.
    last: Vec<u8>,
    waiting: Option<Waiting>,
}

impl LevelBuilder {
    /// Of leaves.
    pub(crate) fn of_leaves(page_size: PageSize, tree: u32) -> Self {
        Self { page_size, node: FormatNode::empty_leaf(tree), last: Vec::new(), waiting: None }
    }

    /// Of the nodes of a level above the leaves, the first of which begins with `first_child`.
    pub(crate) fn of_inner(page_size: PageSize, tree: u32, level: u8, first_child: SwipWord) -> Self {
        let node = FormatNode { level, first_child, ..FormatNode::empty_leaf(tree) };
        Self { page_size, node, last: Vec::new(), waiting: None }
    }

    /// Adds a cell behind all others: an entry of a leaf, or a separator with the child right of it. Gives the node that is full by that,
    /// if one is.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], flags: u8, child: SwipWord) -> Option<Closed> {
        let mut closed = None;
        if let Some(waiting) = self.waiting.take() {
            let upper = self.separator(&waiting.key, key);
            if !self.fits(&waiting, Some(&upper)) {
                closed = Some(self.close_before(&waiting));
            }
            // Of an inner node that was closed, the waiting separator is the fence and its child the first one.
            if closed.is_none() || self.is_leaf() {
                self.take_in(waiting);
            }
        }
        self.waiting = Some(Waiting { key: key.to_vec(), value: value.to_vec(), flags, child });
        closed
    }

    /// The last node of the level, and the one before it if the last cell has no room there.
    pub(crate) fn finish(&mut self) -> (Option<Closed>, FormatNode) {
        let mut closed = None;
        if let Some(waiting) = self.waiting.take() {
            if !self.fits(&waiting, None) {
                closed = Some(self.close_before(&waiting));
            }
            if closed.is_none() || self.is_leaf() {
                self.take_in(waiting);
            }
        }
        let FormatNode { tree, .. } = self.node;
        (closed, std::mem::replace(&mut self.node, FormatNode::empty_leaf(tree)))
    }

    fn is_leaf(&self) -> bool {
        self.node.level == 0
    }

    /// The fence between two cells that come one behind the other.
    fn separator(&self, left: &[u8], right: &[u8]) -> Vec<u8> {
        if self.is_leaf() { shortest_between(left, right.to_vec()) } else { right.to_vec() }
    }

    fn take_in(&mut self, Waiting { key, value, flags, child }: Waiting) {
        self.node.cells.push(&key, &value, flags, child);
        self.last = key;
    }

    /// Closes the node before this cell, and begins the next one there.
    fn close_before(&mut self, waiting: &Waiting) -> Closed {
        let separator = self.separator(&self.last, &waiting.key);
        let FormatNode { tree, level, .. } = self.node;
        let first_child = if level == 0 { SwipWord::NULL } else { waiting.child };
        let next =
            FormatNode { level, lower: separator.clone(), first_child, ..FormatNode::empty_leaf(tree) };
        let node = FormatNode { upper: Some(separator.clone()), ..std::mem::replace(&mut self.node, next) };
        Closed { node, separator }
    }

    /// Whether the node fits its page with this cell and this upper fence. It asks as `content.rs` chooses the prefix.
    fn fits(&self, waiting: &Waiting, upper: Option<&[u8]>) -> bool {
        let FormatNode { lower, cells, .. } = &self.node;
        let sizes = Sizes {
            page_len: self.page_size.get(),
            leaf: self.is_leaf(),
            slots: cells.len() + 1,
            whole_bytes: cells.whole_bytes() + waiting.key.len() + waiting.value.len(),
            lower_len: lower.len(),
            upper_len: upper.map_or(0, <[u8]>::len),
        };
        let fences = upper.map_or(0, |upper| common_prefix(lower, upper));
        let all = common_prefix(lower, &waiting.key);
        sizes.fit(fences, false) || (all > fences && sizes.fit(all, true))
    }
}
