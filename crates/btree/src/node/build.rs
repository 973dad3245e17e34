//! Nodes of one level, built from cells that come in key order: each as full as it goes.
//!
//! Invariant: the node under construction, closed before the last cell that came, fits its page; so a cell that turns out to have no
//! room, once the fence behind it is known, begins the next node.
//!
//! ```text
//!   cells that are in │ the last one │ the one that comes
//!                     ▲              ▲
//!                     fits, closed   does it fit, closed here? then it stays; else the node is closed before it
//! ```

use pagestone_page_format::PageSize;
use pagestone_swip::SwipWord;

use super::fit::{Sizes, common_prefix};
use super::ops::FormatNode;
use super::split::shortest_len;

/// A node that is full, without its right sibling; its upper fence is the lower one of the next node.
pub(crate) struct Closed {
    pub(crate) node: FormatNode,
    pub(crate) separator: Vec<u8>,
}

/// Builds one level of a tree.
pub(crate) struct LevelBuilder {
    page_size: PageSize,
    /// Its last cell is the one that came last, and may have to leave.
    node: FormatNode,
    /// Nodes that nobody needs any more: the next ones are made in their memory.
    pub(crate) spare: Vec<FormatNode>,
}

impl LevelBuilder {
    /// Of leaves.
    pub(crate) fn of_leaves(page_size: PageSize, tree: u32) -> Self {
        Self { page_size, node: FormatNode::empty_leaf(tree), spare: Vec::new() }
    }

    /// Of the nodes of a level above the leaves, the first of which begins with `first_child`.
    pub(crate) fn of_inner(page_size: PageSize, tree: u32, level: u8, first_child: SwipWord) -> Self {
        let node = FormatNode { level, first_child, ..FormatNode::empty_leaf(tree) };
        Self { page_size, node, spare: Vec::new() }
    }

    /// Adds a cell behind all others: an entry of a leaf, or a separator with the child right of it. Gives the node that is full by that,
    /// if one is.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], flags: u8, child: SwipWord) -> Option<Closed> {
        let closed = if self.surely_fits(key.len()) { None } else { self.close_if_full(key) };
        self.node.cells.push(key, value, flags, child);
        closed
    }

    /// The last node of the level, and the one before it if the last cell has no room there.
    pub(crate) fn finish(&mut self) -> (Option<Closed>, FormatNode) {
        let closed = if self.fits(None) { None } else { Some(self.close_before_last()) };
        let FormatNode { tree, .. } = self.node;
        (closed, std::mem::replace(&mut self.node, FormatNode::empty_leaf(tree)))
    }

    /// The key of the cell that came last, if one did.
    #[inline]
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        self.node.cells.last().map(|last| last.key)
    }

    fn is_leaf(&self) -> bool {
        self.node.level == 0
    }

    /// The fence between two cells that come one behind the other.
    fn separator<'k>(&self, left: &[u8], right: &'k [u8]) -> &'k [u8] {
        if self.is_leaf() { &right[..shortest_len(left, right)] } else { right }
    }

    #[cold]
    fn close_if_full(&mut self, next: &[u8]) -> Option<Closed> {
        let last = self.node.cells.last()?;
        if self.fits(Some(self.separator(last.key, next))) { None } else { Some(self.close_before_last()) }
    }

    /// Closes the node before its last cell, which begins the next one. Of an inner node its key is the fence and its child the first one.
    fn close_before_last(&mut self) -> Closed {
        let mut next = self.blank();
        let mut upper = next.upper.take().unwrap_or_default();
        let moved = self.node.cells.pop_into(&mut next.cells);
        let first =
            next.cells.last().filter(|_| moved).expect("only a node with cells does not fit its page");
        upper.clear();
        let last_key = self.node.cells.last().map_or(&[][..], |last| last.key);
        upper.extend_from_slice(self.separator(last_key, first.key));
        if !self.is_leaf() {
            next.first_child = first.child;
            next.cells.clear();
        }
        next.lower.clone_from(&upper);
        let separator = upper.clone();
        let node = FormatNode { upper: Some(upper), ..std::mem::replace(&mut self.node, next) };
        Closed { node, separator }
    }

    /// A node of this level without cells or lower fence. Its upper fence means nothing: it is memory for another one.
    fn blank(&mut self) -> FormatNode {
        let FormatNode { tree, level, .. } = self.node;
        let Some(mut used) = self.spare.pop() else {
            let mut node = FormatNode { level, ..FormatNode::empty_leaf(tree) };
            node.cells.reserve(self.page_size.get());
            return node;
        };
        used.lower.clear();
        used.cells.clear();
        let (right_sibling, first_child) = (SwipWord::NULL, SwipWord::NULL);
        FormatNode { tree, level, right_sibling, first_child, ..used }
    }

    fn sizes(&self, upper_len: usize) -> Sizes {
        let FormatNode { lower, cells, .. } = &self.node;
        Sizes {
            page_len: self.page_size.get(),
            leaf: self.is_leaf(),
            slots: cells.len(),
            whole_bytes: cells.whole_bytes(),
            lower_len: lower.len(),
            upper_len,
        }
    }

    /// Whether the node fits its page whatever fence divides it from a key of this length, which is no longer than that key: most often
    /// that is all there is to ask.
    #[inline]
    fn surely_fits(&self, next_len: usize) -> bool {
        self.sizes(next_len).fit(0, false)
    }

    /// Whether the node fits its page with this upper fence. It asks as `content.rs` chooses the prefix.
    fn fits(&self, upper: Option<&[u8]>) -> bool {
        let Some(last) = self.node.cells.last() else { return true };
        let (lower, sizes) = (&self.node.lower, self.sizes(upper.map_or(0, <[u8]>::len)));
        let fences = upper.map_or(0, |upper| common_prefix(lower, upper));
        let all = common_prefix(lower, last.key);
        sizes.fit(fences, false) || (all > fences && sizes.fit(all, true))
    }
}
