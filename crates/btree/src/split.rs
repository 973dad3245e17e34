//! Put into a leaf that has no room.
//!
//! Invariant: a split, its separator, its allocations and the insert that caused it are one group, so that no reader and no
//! crash sees a half of it. The numbered steps:
//!
//! ```text
//!   1  begin with what the highest tree could need: log bytes, one page id a level and two for the root, frames
//!   2  go down to the leaf; find the lowest node above it that has room for a separator whatever its length (or the root)
//!   3  latch from there down, as it was looked at; whatever changed meanwhile: let go, begin again
//!   4  split top down: each node's parent has room by then; go on in the half that covers the key
//!   5  insert, commit
//! ```

use pagestone_buffer_pool::ExclusivePage;
use pagestone_mini_txn::{MiniTxn, PageHandle, Reserve};
use pagestone_page_format::{OutOfBounds, PageError, PageResult};

use crate::descend::{Node, Seek};
use crate::error::Interrupt;
use crate::node::{CutNode, FormatNode, InsertSeparator, NodeView, SplitPoint, choose_split};
use crate::retry::{Attempt, optimistically};
use crate::write::{Put, PutOp};
use crate::{BTree, TreeResult};

impl BTree {
    pub(crate) fn put_with_split(&self, key: &[u8], value: &[u8]) -> TreeResult<Put> {
        loop {
            let height = self.height()? as usize;
            let mut txn = self.env().begin(Reserve {
                log_bytes: (height + 1) * self.log_bytes_per_split(),
                new_pages: height + 1,
                pins: height,
            })?;
            let chain = optimistically(self.env(), |attempt| self.latch_chain(attempt, key, value.len()))?;
            if chain.len() > height {
                continue; // the tree grew meanwhile by more than was reserved for
            }
            let chain = chain.into_iter().map(|page| txn.latch(page)).collect();
            let replaced = self.split_and_put(&mut txn, chain, key, value)?;
            return Ok(Put { replaced, lsn: txn.commit()?.lsn });
        }
    }

    /// The cells of one node, those of both halves if it is the root, and its keys with their framing.
    fn log_bytes_per_split(&self) -> usize {
        self.env().pool().page_size().get() * 3 / 2 + 4 * self.max_key_len() + 512
    }

    /// Steps 2 and 3: the nodes to change, latched, top down; the last one is the leaf.
    fn latch_chain<'t>(
        &'t self,
        attempt: Attempt,
        key: &[u8],
        value_len: usize,
    ) -> Result<Vec<ExclusivePage<'t>>, Interrupt> {
        let mut chain: Vec<Node<'t>> = Vec::new();
        let mut take = |node: Node<'t>| {
            // What is above a node with room stays as it is.
            if node.believe(node.view().has_room_for(key, value_len))? {
                chain.clear();
            }
            chain.push(node);
            Ok::<(), Interrupt>(())
        };
        let leaf = self.descend(attempt.writing(), Seek::Key(key), |node, _child| take(node))?;
        take(leaf)?;
        chain.into_iter().map(|node| node.into_exclusive().map_err(Interrupt::from)).collect()
    }

    /// Steps 4 and 5. Nothing fails here but by a bug of ours.
    fn split_and_put<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        chain: Vec<PageHandle>,
        key: &[u8],
        value: &[u8],
    ) -> PageResult<bool> {
        let mut parent = None;
        for mut node in chain {
            let room = view(txn, node).has_room_for(key, value.len()).map_err(bug(txn, node))?;
            if !room {
                node = match parent {
                    Some(parent) => self.split_node(txn, parent, node, key, value.len())?,
                    None => self.split_root(txn, node, key, value.len())?,
                };
            }
            parent = Some(node);
        }
        let leaf = parent.expect("a chain ends with its leaf");
        let op = PutOp::choose(view(txn, leaf), key, value).map_err(bug(txn, leaf))?;
        let op = op.ok_or(PageError::Malformed {
            page_id: txn.id(leaf),
            reason: "a half of a split leaf has no room for the entry that caused it",
        })?;
        txn.change(leaf, &op)?;
        Ok(op.replaces())
    }

    /// Moves the upper half of `node` into a new page to its right; gives the half that covers `key`.
    fn split_node<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        parent: PageHandle,
        node: PageHandle,
        key: &[u8],
        value_len: usize,
    ) -> PageResult<PageHandle> {
        let old = view(txn, node);
        let point = choose_split(old, key, value_len).map_err(bug(txn, node))?;
        let upper_half = FormatNode::right_half(old, &point).map_err(bug(txn, node))?;
        let right = txn.allocate()?;
        let right_id = txn.id(right);
        txn.change(right, &upper_half)?;
        txn.change(node, &CutNode::new(&point, right_id))?;
        txn.change(parent, &InsertSeparator { key: &point.separator, child: right_id })?;
        self.count_split();
        Ok(side(&point, key, node, right))
    }

    /// Moves both halves of the root into new pages; the root keeps its id and is their parent now (L11).
    fn split_root<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        root: PageHandle,
        key: &[u8],
        value_len: usize,
    ) -> PageResult<PageHandle> {
        let old = view(txn, root);
        let point = choose_split(old, key, value_len).map_err(bug(txn, root))?;
        let (left, right) = (txn.allocate()?, txn.allocate()?);
        let (left_id, right_id) = (txn.id(left), txn.id(right));
        let upper_half = FormatNode::right_half(old, &point).map_err(bug(txn, root))?;
        let lower_half = FormatNode::left_half(old, &point, right_id).map_err(bug(txn, root))?;
        let new_root = FormatNode::root_over(old, left_id, &point, right_id).map_err(bug(txn, root))?;
        txn.change(right, &upper_half)?;
        txn.change(left, &lower_half)?;
        txn.change(root, &new_root)?;
        self.count_split();
        Ok(side(&point, key, left, right))
    }
}

fn view<'t>(txn: &MiniTxn<'t>, node: PageHandle) -> NodeView<'t> {
    NodeView::new(txn.page(node))
}

fn side(point: &SplitPoint, key: &[u8], left: PageHandle, right: PageHandle) -> PageHandle {
    if key < point.separator.as_slice() { left } else { right }
}

fn bug(txn: &MiniTxn<'_>, node: PageHandle) -> impl FnOnce(OutOfBounds) -> PageError + use<> {
    let id = txn.id(node);
    move |error| error.malformed(id)
}
