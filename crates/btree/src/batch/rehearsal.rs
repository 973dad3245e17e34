//! Whether the changes of one leaf fit it: by its sizes if they tell, else tried on a copy.
//!
//! Invariant: the page and its copy are changed by one function, [`change_leaf`]; so what fits the copy fits the page that it was
//! taken of. Sizes alone tell of most leaves, at a small part of the price; they cannot tell of one that would be full, where it
//! matters what is replaced and which prefix the page has after each change.

use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{
    OutOfBounds, PageError, PageId, PageOp, PageResult, PageWriter, SpeculativePage,
};
use pagestone_sync::atomic::{AtomicU64, Ordering};

use super::Op;
use crate::TreeResult;
use crate::error::malformed;
use crate::node::{Covers, NodeView, RemoveCell};
use crate::overflow::{Runs, references};
use crate::write::PutOp;

/// What the changes of one leaf did.
#[derive(Default)]
pub(super) struct LeafDone {
    pub(super) inserted: usize,
    pub(super) replaced: usize,
    pub(super) removed: usize,
    /// A removal left so little that it is worth a look whether the leaf can be merged.
    pub(super) sparse: bool,
}

/// Makes the changes of one leaf, in this order: what is removed makes room for what is put. Nothing if something does not fit.
pub(super) fn change_leaf(
    leaf: NodeView<'_>,
    id: PageId,
    ops: &[Op<'_>],
    mut change: impl FnMut(&dyn PageOp) -> PageResult<()>,
) -> PageResult<Option<LeafDone>> {
    let malformed = |error: OutOfBounds| error.malformed(id);
    let mut done = LeafDone::default();
    for op in ops {
        if op.cell.is_none()
            && let Some(slot) = leaf.find(op.key).map_err(malformed)?
        {
            done.sparse |= leaf.removal_asks_for_merge(slot).map_err(malformed)?;
            change(&RemoveCell { key: op.key })?;
            done.removed += 1;
        }
    }
    for op in ops {
        let Some(cell) = op.cell else { continue };
        let Some(put) = PutOp::choose(leaf, op.key, cell).map_err(malformed)? else {
            return Ok(None);
        };
        change(&put)?;
        match put.replaces() {
            true => done.replaced += 1,
            false => done.inserted += 1,
        }
    }
    Ok(Some(done))
}

/// The keys that are put, with the lengths of what stands in their cells.
fn puts<'a>(ops: &[Op<'a>]) -> impl Iterator<Item = (&'a [u8], usize)> {
    ops.iter().filter_map(|op| op.cell.map(|cell| (op.key, cell.value.len())))
}

/// How many of these changes, of which there is one at least, concern this leaf, which the first one does.
pub(super) fn covered(leaf: NodeView<'_>, ops: &[Op<'_>]) -> Result<usize, OutOfBounds> {
    for (index, op) in ops.iter().enumerate().skip(1) {
        if op.tree.root_id() != ops[0].tree.root_id() || leaf.covers(op.key)? != Covers::Inside {
            return Ok(index);
        }
    }
    Ok(ops.len())
}

/// The extents that these changes free: what the cells refer to that they replace or take out. Or what is wrong with a reference.
pub(super) fn frees(leaf: NodeView<'_>, ops: &[Op<'_>]) -> Result<Runs, OutOfBounds> {
    let mut frees = Vec::new();
    for op in ops {
        let Some(slot) = leaf.find(op.key)? else { continue };
        if leaf.flags(slot)? == 0 {
            continue;
        }
        match references(leaf, slot)? {
            Ok(runs) => frees.extend(runs),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(frees))
}

/// Whether this is the leaf that all these changes concern; there is one at least.
pub(super) fn is_leaf_of(page: NodeView<'_>, ops: &[Op<'_>]) -> Result<bool, OutOfBounds> {
    let (first, last) = (&ops[0], &ops[ops.len() - 1]);
    Ok(page.is_node()?
        && page.level()? == 0
        && page.tree_id()? == first.tree.tree_id()
        && page.covers(first.key)? == Covers::Inside
        && page.covers(last.key)? == Covers::Inside)
}

/// A copy of a leaf, and another to change; used for one leaf after the other.
pub(super) struct Rehearsal {
    leaf: Box<[AtomicU64]>,
    scratch: Box<[AtomicU64]>,
    /// The changes are sure to fit: nothing was copied.
    sure: bool,
}

impl Rehearsal {
    pub(super) fn new(env: &LoggedPool) -> Self {
        let blank = || (0..env.pool().page_size().words()).map(|_| AtomicU64::new(0)).collect();
        Self { leaf: blank(), scratch: blank(), sure: false }
    }

    /// Looks at a leaf, which the caller validates or holds. Copies it if whether it takes these changes has to be tried.
    pub(super) fn look(&mut self, page: SpeculativePage<'_>, ops: &[Op<'_>]) -> Result<(), OutOfBounds> {
        self.sure = NodeView::new(page).is_sure_to_take(puts(ops))?;
        if !self.sure {
            for (index, word) in self.leaf.iter().enumerate() {
                word.store(page.word(index)?, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Whether the leaf that was looked at, which is the page `id`, has room for these changes, all of them.
    pub(super) fn fits(&self, id: PageId, ops: &[Op<'_>]) -> TreeResult<bool> {
        if self.sure {
            return Ok(true);
        }
        for (word, copy) in self.leaf.iter().zip(&self.scratch) {
            copy.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let writer = PageWriter::new(&self.scratch);
        let view = NodeView::new(writer.read());
        Ok(change_leaf(view, id, ops, |op| op.apply(&writer))?.is_some())
    }

    /// Where to divide that leaf so that these changes, which do not fit, do. A leaf that contradicts itself is an error: it might
    /// be divided and have no more room for ever.
    pub(super) fn cuts(&self, id: PageId, ops: &[Op<'_>]) -> TreeResult<Vec<Vec<u8>>> {
        let leaf = NodeView::new(SpeculativePage::new(&self.leaf));
        if leaf.check().is_err() {
            let reason = "a leaf without room for a batch is not whole";
            return Err(PageError::Malformed { page_id: id, reason }.into());
        }
        let cuts = leaf.cuts(puts(ops)).map_err(malformed(id))?;
        if cuts.is_empty() {
            let reason = "a leaf has no room for what its sizes leave room for";
            return Err(PageError::Malformed { page_id: id, reason }.into());
        }
        Ok(cuts)
    }
}
