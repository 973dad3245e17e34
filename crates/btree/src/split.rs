//! Put into a leaf that has no room.
//!
//! Invariant: a split, its separator, its allocations and the insert that caused it are one group, so that no reader and no
//! crash sees a half of it. The numbered steps:
//!
//! ```text
//!   1  go down to the leaf; count the nodes from the lowest one that has room for a separator whatever its length (or the root)
//!   2  begin with what splitting so many can need: log bytes, one page id a node and one more for the root, frames
//!   3  go down again and latch them, as they were looked at; if there are more by now: let go, begin again; if one makes no sense,
//!      that is an error, and nothing was changed
//!   4  split top down: each node's parent has room by then; go on in the half that covers the key
//!   5  insert, commit
//! ```

use pagestone_buffer_pool::ExclusivePage;
use pagestone_mini_txn::{MiniTxn, PageHandle, Reserve};
use pagestone_page_format::{OutOfBounds, PageError, PageResult, PageSize};

use crate::believe::{check_whole, rehearse};
use crate::descend::{Hold, Node, Seek};
use crate::error::Interrupt;
use crate::node::{CutNode, FormatNode, InsertSeparator, NodeView, SplitPoint, choose_split, max_key_len};
use crate::overflow::Swap;
use crate::retry::optimistically;
use crate::write::{NewCell, Put, PutOp, Stands};
use crate::{BTree, TreeResult};

/// Log bytes that splitting `levels` nodes at once can take: the cells of each, those of both halves if it is the root's, and
/// their keys with framing.
pub fn split_log_bytes(size: PageSize, levels: usize) -> usize {
    (levels + 1) * (size.get() * 3 / 2 + 4 * max_key_len(size) + 512)
}

/// What nodes are split for.
#[derive(Clone, Copy)]
pub(crate) enum Cause<'k> {
    /// An entry that its leaf has no room for.
    Put { key: &'k [u8], value_len: usize },
    /// Room for many: the leaf is divided here, though either half may be empty. One that is, or that changed so that a half
    /// would not fit its page, stays as it is.
    Cut { separator: &'k [u8] },
}

impl<'k> Cause<'k> {
    /// The way down.
    fn key(self) -> &'k [u8] {
        match self {
            Self::Put { key, .. } => key,
            Self::Cut { separator } => separator,
        }
    }

    fn has_room(self, node: NodeView<'_>) -> Result<bool, OutOfBounds> {
        match self {
            Self::Put { key, value_len } => node.has_room_for(key, value_len),
            Self::Cut { separator } if node.level()? == 0 => Ok(node.cut_at(separator)?.is_none()),
            Self::Cut { separator } => node.has_room_for(separator, 0),
        }
    }

    /// Where to split a node that has no room.
    fn point(self, node: NodeView<'_>) -> Result<SplitPoint, OutOfBounds> {
        match self {
            Self::Put { key, value_len } => choose_split(node, key, value_len),
            Self::Cut { separator } if node.level()? == 0 => node.cut_at(separator)?.ok_or(OutOfBounds),
            Self::Cut { separator } => choose_split(node, separator, 0),
        }
    }
}

impl BTree {
    pub(crate) fn put_with_split<'t>(
        &'t self,
        key: &[u8],
        cell: NewCell<'_>,
        swap: &mut Swap<'t>,
    ) -> TreeResult<Result<Put, Stands>> {
        let more = Reserve { frees: swap.frees(), extents: swap.extents(), ..Reserve::default() };
        let cause = Cause::Put { key, value_len: cell.value.len() };
        let (mut txn, chain) = self.latch_chain(cause, more)?;
        let leaf = *chain.last().expect("a chain ends with its leaf");
        let node = view(&txn, leaf);
        let surprise = node.find(key).and_then(|slot| swap.surprise(node, slot)).map_err(bug(&txn, leaf))?;
        if let Some(found) = surprise {
            return Ok(Err(Stands { found, leaf: txn.id(leaf) }));
        }
        swap.apply(&mut txn)?;
        let replaced = self.split_and_put(&mut txn, chain, key, cell)?;
        Ok(Ok(Put { replaced, lsn: txn.commit()?.lsn }))
    }

    /// Divides the leaf that covers the separator there, in a group of its own. Nobody sees a difference.
    pub(crate) fn cut_leaf(&self, separator: &[u8]) -> TreeResult<()> {
        let cause = Cause::Cut { separator };
        let (mut txn, chain) = self.latch_chain(cause, Reserve::default())?;
        self.split_down(&mut txn, chain, cause)?;
        txn.commit()?;
        Ok(())
    }

    /// Steps 1 to 3, with `more` reserved for what else stands in the group.
    pub(crate) fn latch_chain(
        &self,
        cause: Cause<'_>,
        more: Reserve<'_>,
    ) -> TreeResult<(MiniTxn<'_>, Vec<PageHandle>)> {
        loop {
            let levels = self.chain_len(cause)?;
            let mut txn = self.env().begin(self.reserve_for_split(levels, more))?;
            let chain = optimistically(self.env(), |attempt| {
                let chain = self.find_chain(attempt.writing(), cause)?;
                chain.into_iter().map(|node| node.into_exclusive().map_err(Interrupt::from)).collect()
            });
            let chain: Vec<ExclusivePage<'_>> = chain?;
            if chain.len() > levels {
                continue; // more has filled up meanwhile than was reserved for
            }
            let chain: Vec<PageHandle> = chain.into_iter().map(|page| txn.latch(page)).collect();
            check_chain(&txn, &chain, cause)?;
            return Ok((txn, chain));
        }
    }

    /// How many nodes it changes.
    pub(crate) fn chain_len(&self, cause: Cause<'_>) -> TreeResult<usize> {
        optimistically(self.env(), |attempt| Ok(self.find_chain(attempt.reading(), cause)?.len()))
    }

    /// What splitting so many nodes can need, and `more`.
    pub(crate) fn reserve_for_split<'r>(&self, levels: usize, more: Reserve<'r>) -> Reserve<'r> {
        Reserve {
            log_bytes: split_log_bytes(self.env().pool().page_size(), levels) + more.log_bytes,
            new_pages: levels + 1 + more.new_pages,
            pins: levels + more.pins,
            frees: more.frees,
            extents: more.extents,
        }
    }

    /// The nodes to change, top down: the lowest one with room, or the root, and all below it; the last one is the leaf.
    pub(crate) fn find_chain<'t>(&'t self, hold: Hold, cause: Cause<'_>) -> Result<Vec<Node<'t>>, Interrupt> {
        let mut chain: Vec<Node<'t>> = Vec::new();
        let mut take = |node: Node<'t>| {
            // What is above a node with room stays as it is.
            if node.believe(cause.has_room(node.view()))? {
                chain.clear();
            }
            chain.push(node);
            Ok::<(), Interrupt>(())
        };
        let leaf = self.descend(hold, Seek::Key(cause.key()), |node, _child| take(node))?;
        take(leaf)?;
        Ok(chain)
    }

    /// Steps 4 and 5. Nothing fails here but by a bug of ours.
    pub(crate) fn split_and_put<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        chain: Vec<PageHandle>,
        key: &[u8],
        cell: NewCell<'_>,
    ) -> PageResult<bool> {
        let leaf = self.split_down(txn, chain, Cause::Put { key, value_len: cell.value.len() })?;
        let op = PutOp::choose(view(txn, leaf), key, cell).map_err(bug(txn, leaf))?;
        let op = op.ok_or(PageError::Malformed {
            page_id: txn.id(leaf),
            reason: "a half of a split leaf has no room for the entry that caused it",
        })?;
        txn.change(leaf, &op)?;
        Ok(op.replaces())
    }

    /// Step 4; gives the leaf that covers the key.
    fn split_down<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        chain: Vec<PageHandle>,
        cause: Cause<'_>,
    ) -> PageResult<PageHandle> {
        let mut parent = None;
        for mut node in chain {
            if !cause.has_room(view(txn, node)).map_err(bug(txn, node))? {
                let point = cause.point(view(txn, node)).map_err(bug(txn, node))?;
                node = match parent {
                    Some(parent) => self.split_node(txn, parent, node, &point, cause.key())?,
                    None => self.split_root(txn, node, &point, cause.key())?,
                };
            }
            parent = Some(node);
        }
        Ok(parent.expect("a chain ends with its leaf"))
    }

    /// Moves the upper half of `node` into a new page to its right; gives the half that covers `key`.
    fn split_node<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        parent: PageHandle,
        node: PageHandle,
        point: &SplitPoint,
        key: &[u8],
    ) -> PageResult<PageHandle> {
        let old = view(txn, node);
        let upper_half = FormatNode::right_half(old, point).map_err(bug(txn, node))?;
        let right = txn.allocate()?;
        let right_id = txn.id(right);
        txn.change(right, &upper_half)?;
        txn.change(node, &CutNode::new(point, right_id))?;
        txn.change(parent, &InsertSeparator { key: &point.separator, child: right_id })?;
        self.count_split();
        Ok(side(point, key, node, right))
    }

    /// Moves both halves of the root into new pages; the root keeps its id and is their parent now (L11).
    fn split_root<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        root: PageHandle,
        point: &SplitPoint,
        key: &[u8],
    ) -> PageResult<PageHandle> {
        let old = view(txn, root);
        let (left, right) = (txn.allocate()?, txn.allocate()?);
        let (left_id, right_id) = (txn.id(left), txn.id(right));
        let upper_half = FormatNode::right_half(old, point).map_err(bug(txn, root))?;
        let lower_half = FormatNode::left_half(old, point, right_id).map_err(bug(txn, root))?;
        let new_root = FormatNode::root_over(old, left_id, point, right_id).map_err(bug(txn, root))?;
        txn.change(right, &upper_half)?;
        txn.change(left, &lower_half)?;
        txn.change(root, &new_root)?;
        self.count_split();
        Ok(side(point, key, left, right))
    }
}

/// Whether the nodes can be split as [`BTree::find_chain`] has found: those that are, are whole, and the one with room takes a
/// separator.
pub(crate) fn check_chain(txn: &MiniTxn<'_>, chain: &[PageHandle], cause: Cause<'_>) -> PageResult<()> {
    for (index, node) in chain.iter().enumerate() {
        let (id, node_view) = (txn.id(*node), view(txn, *node));
        if !cause.has_room(node_view).map_err(bug(txn, *node))? {
            check_whole(txn, *node)?;
        } else if index + 1 < chain.len() && node_view.find(cause.key()).map_err(bug(txn, *node))?.is_none() {
            // Any separator will do, and any child: it has room for the longest.
            rehearse(txn, *node, [InsertSeparator { key: cause.key(), child: id }])?;
        }
    }
    Ok(())
}

pub(crate) fn view<'t>(txn: &MiniTxn<'t>, node: PageHandle) -> NodeView<'t> {
    NodeView::new(txn.page(node))
}

fn side(point: &SplitPoint, key: &[u8], left: PageHandle, right: PageHandle) -> PageHandle {
    if key < point.separator.as_slice() { left } else { right }
}

pub(crate) fn bug(txn: &MiniTxn<'_>, node: PageHandle) -> impl FnOnce(OutOfBounds) -> PageError + use<> {
    let id = txn.id(node);
    move |error| error.malformed(id)
}
