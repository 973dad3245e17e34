//! Nodes take lower page ids.
//!
//! Invariant: a page moves in one group with all that name it: its parent, its left sibling, the space map twice. The root is named by
//! what is no page and stays where it is (L11).
//!
//! ```text
//!        parent  … 900 …                 parent  … 17 …
//!                   │                               │
//!     ┌────┐     ┌──┴──┐              ┌────┐     ┌──┴─┐     ┌┄┄┄┄┄┐
//!     │left├────►│ 900 ├──►           │left├────►│ 17 ├──►  ┆ 900 ┆ obsolete, free
//!     └────┘     └─────┘              └────┘     └────┘     └┄┄┄┄┄┘
//! ```
//!
//! The left sibling may have another parent; it is found by the lower fence.

use pagestone_mini_txn::Reserve;
use pagestone_page_format::PageId;
use pagestone_swip::SwipWord;

use crate::believe::check_whole;
use crate::descend::{Hold, Node, Seek};
use crate::error::Interrupt;
use crate::merge::merge_log_bytes;
use crate::node::{FormatNode, MarkObsolete, SetChild, SetRightSibling};
use crate::retry::{Attempt, optimistically};
use crate::split::{bug, view};
use crate::{BTree, TreeError, TreeResult};

/// Looks at one place that others keep changing, before it is passed over.
const TRIES: usize = 4;

/// What one step of [`BTree::relocate`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relocated {
    /// Where to go on; nothing at the end of the level.
    pub next: Option<Vec<u8>>,
    /// Pages that moved: none or one.
    pub moved: u64,
    /// Bytes of the log that it took.
    pub log_bytes: u64,
    /// A page was to move, and no id below the end is free.
    pub full: bool,
    /// Nodes that were passed.
    pub looked: u64,
}

/// A node that is to move, as it was looked at.
struct Place<'t> {
    parent: Node<'t>,
    index: usize,
    left: Option<Node<'t>>,
    node: Node<'t>,
    next: Option<Vec<u8>>,
    looked: u64,
}

/// Where to go on, and how many nodes were passed.
type Behind = (Option<Vec<u8>>, u64);

impl BTree {
    /// One step of moving the nodes of `level` whose ids are not below `end` to free ids that are: the first of them at or behind `from`
    /// under one parent, or on to the next parent. Only ids are taken that the allocator knows as free, the lowest first, so that the
    /// file never grows by it. To be called again with what it gives, from the empty key on. The root stays.
    ///
    /// Errors: those of reading pages and of beginning a mini-transaction. The tree is whole, and what was done stays done.
    pub fn relocate(&self, level: u8, from: &[u8], end: PageId) -> TreeResult<Relocated> {
        for _ in 0..TRIES {
            let looked = optimistically(self.env(), |attempt| {
                Ok(match self.look_for_page(attempt, level, from, end)? {
                    Err(behind) => Err(behind),
                    Ok(place) => Ok((place.node.id(), place.next, place.looked)),
                })
            })?;
            let (page, next, looked) = match looked {
                Ok(found) => found,
                Err((next, looked)) => return Ok(Relocated { next, looked, ..Relocated::default() }),
            };
            let frees = [(page, 1)];
            let log_bytes = merge_log_bytes(self.env().pool().page_size());
            let reserve = Reserve { log_bytes, new_pages: 1, pins: 3, frees: &frees, ..Reserve::default() };
            let Some(mut txn) = self.env().begin_below(end, reserve)? else {
                return Ok(Relocated { next, looked, full: true, ..Relocated::default() });
            };
            let latched = optimistically(self.env(), |attempt| {
                let Ok(place) = self.look_for_page(attempt, level, from, end)? else { return Ok(None) };
                if place.node.id() != page {
                    return Ok(None);
                }
                let Place { parent, index, left, node, next, .. } = place;
                let parent = parent.into_exclusive()?;
                let left = left.map(Node::into_exclusive).transpose()?;
                Ok(Some((parent, index, left, node.into_exclusive()?, next)))
            })?;
            let Some((parent, index, left, node, next)) = latched else { continue };
            let parent = txn.latch(parent);
            let left = left.map(|left| txn.latch(left));
            let node = txn.latch(node);
            check_whole(&txn, parent)?;
            check_whole(&txn, node)?;
            left.map_or(Ok(()), |left| check_whole(&txn, left))?;
            let copy = FormatNode::copy_of(view(&txn, node)).map_err(bug(&txn, node))?;
            txn.free(page, 1)?;
            let new = txn.allocate()?;
            let new_id = txn.id(new);
            txn.change(new, &copy)?;
            txn.change(parent, &SetChild { index, child: new_id })?;
            if let Some(left) = left {
                txn.change(left, &SetRightSibling { sibling: SwipWord::new(new_id)? })?;
            }
            txn.change(node, &MarkObsolete)?;
            let log_bytes = txn.commit()?.log_bytes;
            return Ok(Relocated { next, moved: 1, log_bytes, full: false, looked });
        }
        // Busy: passed over, with all up to the next parent's.
        Ok(Relocated { next: self.behind_parent(level, from)?, looked: 1, ..Relocated::default() })
    }

    /// The first such page, or where to go on.
    fn look_for_page<'t>(
        &'t self,
        attempt: Attempt,
        level: u8,
        from: &[u8],
        end: PageId,
    ) -> Result<Result<Place<'t>, Behind>, Interrupt> {
        let hold = if attempt == Attempt::Latched { Hold::Shared } else { Hold::Optimistic };
        let above = level.saturating_add(1);
        let parent = self.descend_to(above, hold, Seek::Key(from), |_, _| Ok(()))?;
        if parent.level() <= level {
            return Ok(Err((None, 1)));
        }
        let count = parent.believe(parent.view().count())?;
        let (first, _) = parent.believe(parent.view().child_for(from))?;
        let mut found = None;
        for index in first..=count {
            if parent.believe(parent.view().child(index))?.page_id() >= end {
                found = Some(index);
                break;
            }
        }
        let Some(index) = found.filter(|_| attempt == Attempt::Optimistic) else {
            return Ok(Err((upper_of(&parent)?, (count - first) as u64 + 1)));
        };
        let node = self.child_at(&parent, index)?;
        let next = upper_of(&node)?;
        let left = match index.checked_sub(1) {
            Some(before) => Some(self.child_at(&parent, before)?),
            None => {
                let mut lower = Vec::new();
                node.believe(node.view().lower_fence(&mut lower))?;
                node.validate()?;
                match lower.is_empty() {
                    true => None,
                    false => {
                        Some(self.descend_to(level, Hold::Optimistic, Seek::Before(&lower), |_, _| Ok(()))?)
                    }
                }
            }
        };
        if let Some(left) = &left
            && left.believe(left.view().right_sibling())?.page_id() != node.id()
        {
            left.validate()?;
            node.validate()?;
            parent.validate()?;
            return Err(left.refuse(TreeError::WrongNode {
                page_id: left.id(),
                reason: "the right sibling of a node that another one follows",
                expected: node.id().get(),
                found: left.believe(left.view().right_sibling())?.page_id().get(),
            }));
        }
        Ok(Ok(Place { parent, index, left, node, next, looked: (index - first) as u64 + 1 }))
    }

    fn behind_parent(&self, level: u8, from: &[u8]) -> TreeResult<Option<Vec<u8>>> {
        optimistically(self.env(), |attempt| {
            let above = level.saturating_add(1);
            let parent = self.descend_to(above, attempt.reading(), Seek::Key(from), |_, _| Ok(()))?;
            upper_of(&parent)
        })
    }
}

fn upper_of(node: &Node<'_>) -> Result<Option<Vec<u8>>, Interrupt> {
    let mut upper = Vec::new();
    let finite = node.believe(node.view().upper_fence(&mut upper))?;
    node.validate()?;
    Ok(finite.then_some(upper))
}
