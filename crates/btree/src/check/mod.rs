//! The whole tree, looked at node by node.
//!
//! Invariant: what is reported was so, as of one instant: a node is judged beside the parent that led to it, and two neighbours
//! beside the parents that order them, on private copies that were all valid at that instant. So a change that runs beside the
//! walk is never reported as damage, and no latch is held from one node to the next.
//!
//! ```text
//!   walk.rs   by key, as a cursor goes: down to the leaf of a key, judge what is new on the way, go on at its upper fence
//!   path.rs   the way down as copies; a child is believed if it is what its parent promises
//! ```
//!
//! It goes by key because a page id says nothing about where a concurrent split or merge has moved what it held. It needs one
//! copy of a node a level and no recursion; what was reached is remembered by the visitor. A child that is not what its parent
//! promises is skipped with all that hangs below it, by its bounds in the parent, so a hostile file sends the walk past each link
//! of each page once at most, and the walk ends after as many steps as the file has pages, twice over.

mod path;
mod shape;
mod walk;

use pagestone_page_format::{PageError, PageId};
use pagestone_swip::SwipWord;

use crate::descend::Hold;
use crate::retry::optimistically;
use crate::walk::HeldPage;
use crate::{BTree, TreeError, TreeResult};
use path::Path;
pub use shape::TreeShape;
use walk::Walk;

/// What a tree uses a page for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageUse {
    /// A node, so many levels above the leaves.
    Node {
        /// 0 for a leaf.
        level: u8,
    },
    /// A part of a value that is too long for its leaf.
    Value,
}

/// A page that a tree refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReachedPage {
    /// The page.
    pub page_id: PageId,
    /// The node that refers to it; none for the root.
    pub parent: Option<PageId>,
    /// What it is, or should be.
    pub usage: PageUse,
}

/// What is wrong with a page of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TreeProblem {
    /// It cannot be read, or its bytes are not those that were written.
    Unreadable,
    /// It is no node, or one that was merged away.
    NotANode,
    /// It is a node of another tree.
    OtherTree,
    /// It stands on another level than its parent says.
    Level,
    /// Its fences are not the bounds that its parent gives it.
    Fences,
    /// Something else refers to it too.
    Shared,
    /// It contradicts itself: order, lengths, sums, links.
    Malformed,
    /// Its right sibling is not the next node of its level.
    Sibling,
    /// A cell has flags that this build does not know.
    UnknownFlags,
    /// The tree has more links than the file has pages.
    Endless,
}

impl std::fmt::Display for TreeProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::NotANode => "not a node",
            Self::OtherTree => "a node of another tree",
            Self::Level => "wrong level",
            Self::Fences => "wrong fences",
            Self::Shared => "referred to twice",
            Self::Malformed => "malformed",
            Self::Sibling => "wrong right sibling",
            Self::UnknownFlags => "unknown flags",
            Self::Endless => "endless",
        })
    }
}

/// One thing that is wrong. Shows ids and sizes, never keys or values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFinding {
    /// The page that is wrong.
    pub page_id: PageId,
    /// What is wrong with it.
    pub problem: TreeProblem,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Who is told what the walk finds; keeps account of the pages.
pub trait CheckVisitor {
    /// A page that the tree refers to, when the walk arrives there. Gives whether nothing had referred to it before: beside
    /// merges the walk may come to a node again, which is no damage by itself.
    fn page(&mut self, page: ReachedPage) -> bool;

    /// Whether [`CheckVisitor::page`] was told of this page.
    fn is_reached(&self, page_id: PageId) -> bool;

    /// Something that is wrong. The walk goes on behind it.
    fn finding(&mut self, finding: TreeFinding);
}

/// What a walk saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeReport {
    /// Levels, the leaves' among them.
    pub height: u32,
    /// Inner nodes.
    pub nodes: u64,
    /// Leaves.
    pub leaves: u64,
    /// Entries.
    pub entries: u64,
    /// Pages of values.
    pub value_pages: u64,
    /// Bytes of the leaves' pages that are in use, headers and fences among them.
    pub leaf_bytes: u64,
    /// Bytes of the inner nodes' pages that are in use.
    pub node_bytes: u64,
    /// Bytes of keys that are not stored, because all keys of their node begin with them.
    pub prefix_bytes_saved: u64,
    /// Inner nodes that could not be looked below, each a finding: what hangs there was not reached.
    pub not_looked_below: u64,
}

impl BTree {
    /// Looks at every node of the tree beside readers and writers, and tells `visitor` of each page and of whatever is wrong:
    /// bytes that cannot be believed, levels that do not fall by one, fences that are not the parent's separators, keys out of
    /// order or outside the fences, a sibling chain that is not the order of the parents' children.
    ///
    /// Memory: one page a level. Errors are about the handle, never about a page: `Closed`, `Poisoned`, `BufferPoolExhausted`.
    pub fn check(&self, visitor: &mut dyn CheckVisitor) -> TreeResult<TreeReport> {
        Walk::new(self, visitor).run()
    }

    /// Whether this page is in the tree now: the root, or the node that a descent for its own lower fence arrives at. A page
    /// that cannot be read, or is no node of this tree, is not; pages of values are not looked for.
    pub fn holds_page(&self, page_id: PageId) -> TreeResult<bool> {
        if page_id == self.root_id() {
            return Ok(true);
        }
        let (mut path, mut wanted) = (Path::new(self.env().pool().page_size()), page_id);
        let held = optimistically(self.env(), |attempt| {
            let page = self.take(Hold::Optimistic, SwipWord::new(page_id)?)?;
            path.clear();
            path.push(&page)?;
            page.validate()?;
            let Some((level, lower)) = path.whoami(self.tree_id()) else { return Ok(false) };
            let stopped = self.look(attempt.reading(), &lower, level, &mut path, &mut wanted)?;
            Ok(stopped.is_none() && path.last_id() == page_id)
        });
        match held {
            Err(TreeError::Page(error)) if !is_of_the_handle(&error) => Ok(false),
            held => held,
        }
    }
}

/// Whether an error says nothing about the page that was asked for.
fn is_of_the_handle(error: &PageError) -> bool {
    matches!(
        error,
        PageError::Closed
            | PageError::Poisoned { .. }
            | PageError::BufferPoolExhausted { .. }
            | PageError::NoSpace { .. }
    )
}
