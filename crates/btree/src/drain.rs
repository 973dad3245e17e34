//! The pages of a dropped tree go back to the allocator, in groups of bounded size.
//!
//! Invariant: each group leaves a whole tree, with fewer entries; so whoever begins again after a crash goes on where the crash
//! came, and nobody who looks meanwhile finds anything wrong. The last group takes the root and the tree's entry in the list of trees.
//!
//! ```text
//!   1  down the right edge to the last leaf, and up again to the lowest node with more than one child: it keeps, what is below goes,
//!      and the right edge below the child before is the new end
//!
//!          root                root                    root                     -          and its entry in the list
//!         /    \              /    \                   /
//!        A      B            A      B  keeps          A  end        ...
//!       / \    / \          / \    /                 / \
//!      1   2  3   4        1   2  3  end            1   2  end
//!                 goes                (then B and 3 go)
//!
//!   2  begin with what freeing that can need          3  the same way again, latched as it was looked at; else begin again
//!   4  take the separators out of what keeps, end each level, mark what goes as obsolete, free its ids; commit
//! ```
//!
//! Operations that were under way when the tree was marked as dropped find that out when they come to a leaf, or before they tell an
//! error: so none takes what is gone already for what was never there.

use pagestone_buffer_pool::ExclusivePage;
use pagestone_mini_txn::{MiniTxn, PageHandle, Reserve};
use pagestone_page_format::{Lsn, OutOfBounds, PageError, PageId, PageResult};

use crate::believe::{check_whole, rehearse};
use crate::descend::{Hold, Node, Seek};
use crate::error::{Interrupt, TreeError};
use crate::node::{EndLevel, MarkObsolete, NodeView, RemoveCell, RemoveSeparator};
use crate::overflow::references;
use crate::retry::optimistically;
use crate::split::{bug, view};
use crate::{BTree, TreeResult};

/// Leaves of one parent that go in one group: few enough for the least pool, enough that groups are not all framing.
const LEAVES_PER_GROUP: usize = 4;
/// Runs from which on no further leaf joins a group: one of long values alone may have more.
pub(crate) const FREES_PER_GROUP: usize = 32;
/// Log bytes of the operations on one page beside the key in them.
const FRAMING: usize = 128;

/// What one group of [`BTree::drain`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Pages that were freed.
    pub pages: u64,
    /// Whether that was all: the root is gone, and the entry.
    pub done: bool,
    /// Durable once the log is durable up to here.
    pub lsn: Lsn,
}

/// The right edge of a tree, as it was looked at.
struct Edge<'t> {
    /// The lowest node with more than one child; none if everything goes.
    keeps: Option<Node<'t>>,
    /// How many of its last children go.
    children: usize,
    /// Those children and all that is below them.
    goes: Vec<Node<'t>>,
    /// The child before them, and the right edge below it.
    ends: Vec<Node<'t>>,
    /// What is freed: ids of pages, and runs of what their entries refer to.
    frees: Vec<(PageId, u32)>,
}

/// It, latched.
struct LatchedEdge<'t> {
    keeps: Option<ExclusivePage<'t>>,
    children: usize,
    goes: Vec<ExclusivePage<'t>>,
    ends: Vec<ExclusivePage<'t>>,
    /// The leaf of the list with the tree's entry, if everything goes.
    entry: Option<ExclusivePage<'t>>,
}

impl BTree {
    /// Frees some pages of this tree, which nobody uses but operations that were under way when it was marked as dropped. The group
    /// that frees the last of them removes `key` from `list`, where it stands for this tree.
    ///
    /// To be called until [`Drained::done`], by one caller at a time. Errors, with nothing freed: what reading a page of the tree
    /// gave, or that it is none; those of beginning a mini-transaction; `WrongNode` if the key is not in the list; `Page` with
    /// `AllocationState`, which poisons the handle if it comes late, for a page that is free already.
    pub fn drain(&self, list: &BTree, key: &[u8]) -> TreeResult<Drained> {
        loop {
            let (frees, goes, ends) = optimistically(self.env(), |_| {
                let edge = self.right_edge()?;
                Ok((edge.frees, edge.goes.len(), edge.ends.len()))
            })?;
            let pins = goes + ends + 1; // and what keeps, or the leaf with the entry
            let log_bytes = pins * (self.max_key_len() + FRAMING) + key.len();
            let mut txn =
                self.env().begin(Reserve { log_bytes, pins, frees: &frees, ..Reserve::default() })?;
            let edge = optimistically(self.env(), |_| {
                let edge = self.right_edge()?;
                if edge.frees == frees && edge.ends.len() == ends {
                    self.latch_edge(edge, list, key).map(Some)
                } else {
                    Ok(None)
                }
            })?;
            if let Some(edge) = edge {
                let done = edge.keeps.is_none();
                cut(&mut txn, edge, &frees, key)?;
                let lsn = txn.commit()?.lsn;
                if done {
                    list.merge_around(key)?; // as after a removal
                }
                return Ok(Drained { pages: goes as u64, done, lsn });
            }
        }
    }

    /// Step 1.
    fn right_edge(&self) -> Result<Edge<'_>, Interrupt> {
        let mut path: Vec<Node<'_>> = Vec::new();
        let leaf = self.descend(Hold::Optimistic, Seek::Last, |node, _child| {
            path.push(node);
            Ok(())
        })?;
        let mut frees = Vec::new();
        append_frees(&leaf, &mut frees)?;
        let (mut goes, mut ends) = (vec![leaf], Vec::new());
        let (mut keeps, mut children) = (None, 0);
        while let Some(parent) = path.pop() {
            let separators = parent.believe(parent.view().count())?;
            if separators == 0 {
                append_frees(&parent, &mut frees)?;
                goes.push(parent);
                continue;
            }
            children = 1;
            let most = if parent.level() == 1 { separators.min(LEAVES_PER_GROUP) } else { 1 };
            while children < most && frees.len() < FREES_PER_GROUP {
                let leaf = self.child_at(&parent, separators - children)?;
                append_frees(&leaf, &mut frees)?;
                goes.push(leaf);
                children += 1;
            }
            ends.push(self.child_at(&parent, separators - children)?);
            keeps = Some(parent);
            break;
        }
        while let Some(end) = ends.last()
            && end.level() > 0
        {
            let last = end.believe(end.view().count())?;
            ends.push(self.child_at(end, last)?);
        }
        refuse_twice(goes.iter().chain(&ends))?;
        Ok(Edge { keeps, children, goes, ends, frees })
    }

    /// Step 3: each node at the version at which it was looked at, or none.
    fn latch_edge<'t>(
        &'t self,
        edge: Edge<'t>,
        list: &'t BTree,
        key: &[u8],
    ) -> Result<LatchedEdge<'t>, Interrupt> {
        let entry = match edge.keeps {
            Some(_) => None,
            None => Some(list.leaf_with(key)?),
        };
        let exclusive = |node: Node<'t>| node.into_exclusive();
        Ok(LatchedEdge {
            keeps: edge.keeps.map(exclusive).transpose()?,
            children: edge.children,
            goes: edge.goes.into_iter().map(exclusive).collect::<Result<_, _>>()?,
            ends: edge.ends.into_iter().map(exclusive).collect::<Result<_, _>>()?,
            entry: entry.map(exclusive).transpose()?,
        })
    }

    /// The leaf that has this key.
    fn leaf_with(&self, key: &[u8]) -> Result<Node<'_>, Interrupt> {
        let leaf = self.descend(Hold::Optimistic, Seek::Key(key), |_, _| Ok(()))?;
        if leaf.believe(leaf.view().find(key))?.is_some() {
            return Ok(leaf);
        }
        Err(leaf.refuse(TreeError::WrongNode {
            page_id: leaf.id(),
            reason: "the list of trees has no entry of a tree that is being dropped",
            expected: 1,
            found: 0,
        }))
    }
}

/// Step 4.
fn cut<'t>(
    txn: &mut MiniTxn<'t>,
    edge: LatchedEdge<'t>,
    frees: &[(PageId, u32)],
    key: &[u8],
) -> PageResult<()> {
    let keeps = edge.keeps.map(|page| txn.latch(page));
    let ends: Vec<PageHandle> = edge.ends.into_iter().map(|page| txn.latch(page)).collect();
    let goes: Vec<PageHandle> = edge.goes.into_iter().map(|page| txn.latch(page)).collect();
    let entry = edge.entry.map(|page| txn.latch(page));
    // First what can fail: bytes that make no sense, and a file that lies about its pages. Nothing was changed then.
    let mut separators = Vec::new();
    if let Some(keeps) = keeps {
        separators = last_separators(view(txn, keeps), edge.children).map_err(bug(txn, keeps))?;
        rehearse(txn, keeps, separators.iter().map(|key| RemoveSeparator { key }))?;
    }
    ends.iter().try_for_each(|end| check_whole(txn, *end))?;
    if let Some(entry) = entry {
        rehearse(txn, entry, [RemoveCell { key }])?;
    }
    txn.free_extents(frees)?;
    if let Some(keeps) = keeps {
        separators.iter().try_for_each(|key| txn.change(keeps, &RemoveSeparator { key }))?;
    }
    ends.into_iter().try_for_each(|end| txn.change(end, &EndLevel))?;
    goes.into_iter().try_for_each(|node| txn.change(node, &MarkObsolete))?;
    if let Some(entry) = entry {
        txn.change(entry, &RemoveCell { key })?;
    }
    Ok(())
}

/// So many, the last one first.
fn last_separators(node: NodeView<'_>, many: usize) -> Result<Vec<Vec<u8>>, OutOfBounds> {
    let count = node.count()?;
    let key_of = |back: usize| {
        let mut key = Vec::new();
        node.append_key(count.checked_sub(back).ok_or(OutOfBounds)?, &mut key)?;
        Ok(key)
    };
    (1..=many).map(key_of).collect()
}

/// A node's own id, and the runs that its entries refer to.
fn append_frees(node: &Node<'_>, runs: &mut Vec<(PageId, u32)>) -> Result<(), Interrupt> {
    runs.push((node.id(), 1));
    append_references(node, runs)?;
    Ok(node.validate()?)
}

/// The runs that the entries of a leaf refer to: they go with it.
fn append_references(node: &Node<'_>, runs: &mut Vec<(PageId, u32)>) -> Result<(), Interrupt> {
    if node.level() > 0 {
        return Ok(());
    }
    for slot in 0..node.believe(node.view().count())? {
        append_reference(node, slot, runs)?;
    }
    Ok(())
}

/// The runs that an entry of a leaf refers to.
pub(crate) fn append_reference(
    leaf: &Node<'_>,
    slot: usize,
    runs: &mut Vec<(PageId, u32)>,
) -> Result<(), Interrupt> {
    match leaf.believe(references(leaf.view(), slot))? {
        Ok(more) => {
            runs.extend(more);
            Ok(())
        }
        Err(reason) => {
            let page_id = leaf.id();
            Err(leaf.refuse(PageError::Malformed { page_id, reason }.into()))
        }
    }
}

/// A file that names a page twice would have it latched twice, which never succeeds.
fn refuse_twice<'n, 't: 'n>(nodes: impl Iterator<Item = &'n Node<'t>>) -> Result<(), Interrupt> {
    let mut ids = Vec::new();
    for node in nodes {
        if ids.contains(&node.id()) {
            return Err(node.refuse(TreeError::WrongNode {
                page_id: node.id(),
                reason: "a page that is named twice",
                expected: 1,
                found: 2,
            }));
        }
        ids.push(node.id());
    }
    Ok(())
}
