//! Which leaves a batch changes, and which have to be divided first.
//!
//! Invariant: a plan is a guess. It holds nothing; what it says was true of each leaf by itself when that was looked at. Nothing is
//! divided before the whole batch is known to be no larger than it may be.

use std::ops::Range;

use pagestone_buffer_pool::OptimisticPage;
use pagestone_page_format::{PageError, PageId};

use super::rehearsal::{Rehearsal, covered, frees};
use super::{Batch, Op, within};
use crate::TreeResult;
use crate::descend::Seek;
use crate::retry::optimistically;

/// A leaf and the changes that concern it, which fitted it.
pub(super) struct Planned<'a> {
    pub(super) id: PageId,
    pub(super) ops: Range<usize>,
    /// Extents that the changes free.
    pub(super) frees: Vec<(PageId, u32)>,
    /// The look at it, by which it can be taken if nobody has changed it since.
    pub(super) sample: Option<OptimisticPage<'a>>,
}

/// Changes that do not fit their leaf, and the separators at which it is to be divided.
struct Misfit<'a> {
    leaf: Planned<'a>,
    cuts: Vec<Vec<u8>>,
}

/// Leaves that the changes of a batch fit, in the order of the changes, each once: steps 2 and 3.
pub(super) fn plan<'a>(batch: &Batch<'a>) -> TreeResult<Vec<Planned<'a>>> {
    loop {
        let leaves = guess(batch)?;
        let mut ids: Vec<PageId> = leaves.iter().map(|leaf| leaf.id).collect();
        ids.sort_unstable();
        // One that was merged into another, or freed and used again, between two looks may come twice; nobody latches a page twice.
        if ids.windows(2).all(|pair| pair[0] != pair[1]) {
            return Ok(leaves);
        }
    }
}

/// Looks at every leaf once, and again where one was divided: the others are what they were, or that shows when they are
/// latched.
fn guess<'a>(batch: &Batch<'a>) -> TreeResult<Vec<Planned<'a>>> {
    let mut rehearsal = Rehearsal::new(batch.env);
    let mut leaves = Vec::new();
    let all = 0..batch.ops.len();
    let mut open = vec![all];
    while !open.is_empty() {
        let mut misfits: Vec<Misfit<'_>> = Vec::new();
        let mut found = leaves.len();
        for mut range in open.drain(..) {
            while !range.is_empty() {
                let (leaf, cuts) = look(batch, &mut rehearsal, range.clone())?;
                range.start = leaf.ops.end;
                match cuts {
                    None => {
                        found += 1;
                        leaves.push(leaf);
                    }
                    Some(cuts) => {
                        found += pieces(&batch.ops[leaf.ops.clone()], &cuts);
                        misfits.push(Misfit { leaf, cuts });
                    }
                }
                within("leaves", found, batch.max_pages)?;
            }
        }
        let looked_at = leaves.iter().chain(misfits.iter().map(|misfit| &misfit.leaf));
        let frees: Vec<_> = looked_at.flat_map(|leaf| leaf.frees.iter().copied()).collect();
        batch.check_size(&frees)?;
        for Misfit { leaf: Planned { ops, .. }, cuts } in misfits {
            for separator in &cuts {
                batch.ops[ops.start].tree.cut_leaf(separator)?;
            }
            open.push(ops);
        }
    }
    leaves.sort_unstable_by_key(|leaf| leaf.ops.start);
    Ok(leaves)
}

/// Goes down to the leaf of the first of these changes, and sees which concern it and whether they fit; if not, where it is to be
/// cut.
fn look<'a>(
    batch: &Batch<'a>,
    rehearsal: &mut Rehearsal,
    ops: Range<usize>,
) -> TreeResult<(Planned<'a>, Option<Vec<Vec<u8>>>)> {
    let first = &batch.ops[ops.start];
    let (id, sample, ops, frees) = optimistically(first.tree.env(), |attempt| {
        let leaf = first.tree.descend(attempt.reading(), Seek::Key(first.key), |_, _| Ok(()))?;
        let covered = leaf.believe(covered(leaf.view(), &batch.ops[ops.clone()]))?;
        let ops = ops.start..ops.start + covered;
        leaf.believe(rehearsal.look(leaf.page(), &batch.ops[ops.clone()]))?;
        let frees = leaf.believe(frees(leaf.view(), &batch.ops[ops.clone()]))?;
        leaf.validate()?;
        let page_id = leaf.id();
        let frees = frees.map_err(|reason| PageError::Malformed { page_id, reason })?;
        Ok((page_id, leaf.sample(), ops, frees))
    })?;
    let concern = &batch.ops[ops.clone()];
    let cuts = match rehearsal.fits(id, concern)? {
        true => None,
        false => Some(rehearsal.cuts(id, concern)?),
    };
    Ok((Planned { id, ops, frees, sample }, cuts))
}

/// Into how many pieces of a divided leaf these changes fall.
fn pieces(ops: &[Op<'_>], cuts: &[Vec<u8>]) -> usize {
    let mut cuts: Vec<&[u8]> = cuts.iter().map(Vec::as_slice).collect();
    cuts.sort_unstable();
    let piece_of = |op: &Op<'_>| cuts.partition_point(|cut| *cut <= op.key);
    ops.chunk_by(|a, b| piece_of(a) == piece_of(b)).count()
}
