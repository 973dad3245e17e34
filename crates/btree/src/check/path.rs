//! The way from the root to a node, as private copies.
//!
//! Invariant: two nodes that follow each other in a path were both as they were copied at one instant: the child was sampled,
//! copied and validated, and its parent validated after the child was sampled (P7).

use pagestone_page_format::{OutOfBounds, PageId, PageSize, SpeculativePage};
use pagestone_swip::SwipWord;
use pagestone_sync::atomic::{AtomicU64, Ordering};

use super::{TreeFinding, TreeProblem, is_of_the_handle};
use crate::descend::{Held, Hold};
use crate::error::{Interrupt, malformed};
use crate::node::NodeView;
use crate::retry::optimistically;
use crate::walk::HeldPage;
use crate::{BTree, TreeError, TreeResult};

/// Why a way ends before the node that it was to lead to.
pub(super) enum Stop {
    /// Its last node names no child.
    Here(TreeFinding),
    /// The page that it leads to next is not what it should be.
    Next(TreeFinding),
}

/// A node as it was at one instant.
pub(super) struct NodeCopy {
    words: Box<[AtomicU64]>,
    id: PageId,
    /// Whether these very bytes were judged before; the walk sets it.
    pub(super) judged: bool,
    /// The child that the way goes on to, once it was chosen.
    child: Option<usize>,
}

impl NodeCopy {
    fn blank(size: PageSize) -> Self {
        let words = (0..size.words()).map(|_| AtomicU64::new(0)).collect();
        Self { words, id: PageId::MAX, judged: false, child: None }
    }

    /// Copies over what was here; remembers whether it was the same.
    fn copy(&mut self, page: &Held<'_>) -> Result<(), OutOfBounds> {
        let mut same = self.id == page.id();
        for (index, word) in self.words.iter().enumerate() {
            let new = page.page().word(index)?;
            same &= word.load(Ordering::Relaxed) == new;
            word.store(new, Ordering::Relaxed);
        }
        self.id = page.id();
        self.judged &= same;
        self.child = None;
        Ok(())
    }

    pub(super) fn id(&self) -> PageId {
        self.id
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        NodeView::new(SpeculativePage::new(&self.words))
    }

    pub(super) fn lower(&self) -> Result<Vec<u8>, OutOfBounds> {
        let mut fence = Vec::new();
        self.view().lower_fence(&mut fence)?;
        Ok(fence)
    }

    /// None: infinite.
    pub(super) fn upper(&self) -> Result<Option<Vec<u8>>, OutOfBounds> {
        let mut fence = Vec::new();
        Ok(self.view().upper_fence(&mut fence)?.then_some(fence))
    }

    fn key(&self, slot: usize) -> Result<Vec<u8>, OutOfBounds> {
        let mut key = Vec::new();
        self.view().append_key(slot, &mut key)?;
        Ok(key)
    }

    /// What the parent says of a child's fences: a separator, or its own fence at the ends.
    fn lower_of_child(&self, child: usize) -> Result<Vec<u8>, OutOfBounds> {
        match child.checked_sub(1) {
            Some(slot) => self.key(slot),
            None => self.lower(),
        }
    }

    fn upper_of_child(&self, child: usize) -> Result<Option<Vec<u8>>, OutOfBounds> {
        if child < self.view().count()? { self.key(child).map(Some) } else { self.upper() }
    }

    /// Where the walk goes on behind the child that was chosen here, or behind this node.
    fn end(&self) -> Result<Option<Vec<u8>>, OutOfBounds> {
        self.child.map_or_else(|| self.upper(), |child| self.upper_of_child(child))
    }
}

/// Copies from the root down; their memory is used again.
pub(super) struct Path {
    size: PageSize,
    nodes: Vec<NodeCopy>,
    len: usize,
}

impl Path {
    pub(super) fn new(size: PageSize) -> Self {
        Self { size, nodes: Vec::new(), len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn push(&mut self, page: &Held<'_>) -> Result<(), Interrupt> {
        if self.nodes.len() == self.len {
            self.nodes.push(NodeCopy::blank(self.size));
        }
        self.nodes[self.len].copy(page).map_err(|error| Interrupt::from(malformed(page.id())(error)))?;
        self.len += 1;
        Ok(())
    }

    pub(super) fn nodes(&self) -> &[NodeCopy] {
        &self.nodes[..self.len]
    }

    pub(super) fn node_mut(&mut self, depth: usize) -> &mut NodeCopy {
        &mut self.nodes[depth]
    }

    fn last(&self) -> &NodeCopy {
        self.nodes().last().expect("a path begins with its root")
    }

    pub(super) fn last_id(&self) -> PageId {
        self.last().id
    }

    /// Level and lower fence of a copy that stands alone, if it is a node of this tree.
    pub(super) fn whoami(&self, tree: u32) -> Option<(u8, Vec<u8>)> {
        let node = self.last();
        let view = node.view();
        let ours = view.is_node().ok()? && view.tree_id().ok()? == tree;
        if ours { Some((view.level().ok()?, node.lower().ok()?)) } else { None }
    }

    /// Replaces `key` by where the walk goes on; false at the end. It only ever rises: what a malformed node says is passed
    /// over for what its parent says.
    pub(super) fn advance(&self, key: &mut Vec<u8>) -> bool {
        for node in self.nodes().iter().rev() {
            match node.end() {
                Ok(None) => return false,
                Ok(Some(end)) if end > *key => {
                    *key = end;
                    return true;
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
        false
    }

    /// Judges the last copy as the root.
    fn judge_root(&self, tree: u32) -> Option<TreeFinding> {
        let node = self.last();
        let unbounded = || Ok(node.lower()?.is_empty() && node.upper()?.is_none());
        judge_kind(node, tree).or_else(|| match unbounded() {
            Ok(true) => None,
            Ok(false) => Some(finding(node.id, TreeProblem::Fences, "a root without fences", "some")),
            Err(OutOfBounds) => Some(out_of_bounds(node.id)),
        })
    }

    /// Judges the last copy as the child that the copy before it chose.
    fn judge_child(&self, tree: u32) -> Option<TreeFinding> {
        let [.., parent, node] = self.nodes() else { unreachable!("a child has its parent before it") };
        judge_kind(node, tree).or_else(|| match judge_place(parent, node) {
            Ok(finding) => finding,
            Err(OutOfBounds) => Some(out_of_bounds(node.id)),
        })
    }

    /// The child of the last copy that covers `key`.
    fn choose(&mut self, key: &[u8]) -> Result<SwipWord, TreeFinding> {
        let node = &mut self.nodes[self.len - 1];
        match node.view().child_for(key) {
            Ok((index, swip)) => {
                node.child = Some(index);
                if swip.is_null() {
                    let expected = format!("a page for child {index}");
                    return Err(finding(node.id, TreeProblem::Malformed, expected, "none"));
                }
                Ok(swip)
            }
            Err(OutOfBounds) => Err(out_of_bounds(node.id)),
        }
    }
}

/// Whether it is a node of this tree at all.
fn judge_kind(node: &NodeCopy, tree: u32) -> Option<TreeFinding> {
    let view = node.view();
    match (view.is_node(), view.tree_id()) {
        (Ok(true), Ok(found)) if found == tree => None,
        (Ok(true), Ok(found)) => {
            Some(finding(node.id, TreeProblem::OtherTree, format!("tree {tree}"), format!("tree {found}")))
        }
        (Ok(false), _) => Some(finding(node.id, TreeProblem::NotANode, "a node", "another page")),
        _ => Some(out_of_bounds(node.id)),
    }
}

/// Whether level and fences are what the parent says.
fn judge_place(parent: &NodeCopy, node: &NodeCopy) -> Result<Option<TreeFinding>, OutOfBounds> {
    let (above, level) = (parent.view().level()?, node.view().level()?);
    if level.checked_add(1) != Some(above) {
        let expected = format!("level {} below page {}", i16::from(above) - 1, parent.id);
        return Ok(Some(finding(node.id, TreeProblem::Level, expected, format!("level {level}"))));
    }
    let child = parent.child.expect("the child was chosen");
    let promised = (parent.lower_of_child(child)?, parent.upper_of_child(child)?);
    let fences = (node.lower()?, node.upper()?);
    if promised == fences {
        return Ok(None);
    }
    let show = |(lower, upper): &(Vec<u8>, Option<Vec<u8>>)| {
        let upper = upper.as_ref().map_or("no".to_owned(), |upper| upper.len().to_string());
        format!("{} and {upper}", lower.len())
    };
    let expected = format!("child {child} of page {}, fences of {} bytes", parent.id, show(&promised));
    let found = format!("other fences, of {} bytes", show(&fences));
    Ok(Some(finding(node.id, TreeProblem::Fences, expected, found)))
}

pub(super) fn finding(
    page_id: PageId,
    problem: TreeProblem,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> TreeFinding {
    TreeFinding { page_id, problem, expected: expected.into(), found: found.into() }
}

fn out_of_bounds(page_id: PageId) -> TreeFinding {
    finding(page_id, TreeProblem::Malformed, "offsets inside the page", "one that leads outside")
}

impl BTree {
    /// Copies the way to the node of level `until` that covers `key`. Gives why it could not go on, if so; the
    /// path then ends there.
    pub(super) fn copy_path(&self, key: &[u8], until: u8, path: &mut Path) -> TreeResult<Option<Stop>> {
        let mut wanted = self.root_id();
        let stopped =
            optimistically(self.env(), |attempt| self.look(attempt.reading(), key, until, path, &mut wanted));
        match stopped {
            // The retry loop has read it twice, on a way that was looked at anew: the way does lead there.
            Err(TreeError::Page(error)) if !is_of_the_handle(&error) => {
                let unreadable = finding(wanted, TreeProblem::Unreadable, "a page", error.to_string());
                Ok(Some(Stop::Next(unreadable)))
            }
            stopped => stopped,
        }
    }

    /// One attempt at it; `wanted` is the page that it asked for last.
    pub(super) fn look(
        &self,
        hold: Hold,
        key: &[u8],
        until: u8,
        path: &mut Path,
        wanted: &mut PageId,
    ) -> Result<Option<Stop>, Interrupt> {
        path.clear();
        *wanted = self.root_id();
        let mut held = self.take(hold, self.root_cell().load())?;
        path.push(&held)?;
        held.validate()?;
        if let Some(finding) = path.judge_root(self.tree_id()) {
            path.clear();
            return Ok(Some(Stop::Next(finding)));
        }
        loop {
            // It was judged as a node, so its level can be read.
            if path.last().view().level().is_ok_and(|level| level <= until) {
                return Ok(None);
            }
            let swip = match path.choose(key) {
                Ok(swip) => swip,
                Err(finding) => return Ok(Some(Stop::Here(finding))),
            };
            *wanted = swip.page_id();
            let child = match self.take(hold, swip) {
                Ok(child) => child,
                Err(restart) => {
                    held.validate()?;
                    return Err(restart.into());
                }
            };
            path.push(&child)?;
            child.validate()?;
            held.validate()?; // P7
            if let Some(finding) = path.judge_child(self.tree_id()) {
                path.len -= 1;
                return Ok(Some(Stop::Next(finding)));
            }
            held = child;
        }
    }
}
