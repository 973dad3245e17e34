//! Nodes are filled from their right siblings.
//!
//! Invariant: as for a merge: one group with parent, left and right latched, in which every key is covered by one node before and after.
//! The fence between the two moves in both and in their parent at once.
//!
//! ```text
//!            parent                            parent                           parent
//!           …  s  …                           …  t  …                           …  …
//!       ┌──────┐┌───────┐    shift      ┌──────────┐┌───┐      absorb     ┌─────────────┐
//!       │ left ││ right │   ───────►    │ left + r ││ight│    ───────►    │ left + right │        a page is free
//!       └──────┘└───────┘               └──────────┘└───┘                 └─────────────┘
//! ```
//!
//! A node is filled as far as it goes, unless it is nearly full already: a bulk load's nodes stay as they are. Unlike a merge after a
//! removal (B4) this leaves no room for inserts: the next one into such a node divides it. That is the bargain of who compacts.

use std::ops::RangeInclusive;

use pagestone_mini_txn::Reserve;
use pagestone_page_format::PageId;
use pagestone_sync::atomic::Ordering;

use super::Next;
use crate::believe::{check_whole, rehearse_changes};
use crate::descend::{Hold, Node, Seek};
use crate::error::Interrupt;
use crate::merge::{fence_between, merge_log_bytes};
use crate::node::{AbsorbRight, InsertSeparator, MarkObsolete, RemoveSeparator, Shift, TrimLeft};
use crate::retry::{Attempt, optimistically};
use crate::split::{bug, view};
use crate::{BTree, TreeResult};

/// How full nodes are made, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// As full as they can be, everywhere: for trees that are mostly read from then on.
    Whole,
    /// Up to so many hundredths of their page, and only where so many siblings in a row have a page to spare that way: the fewer, the
    /// more is free and the less it takes. Leaves room for inserts.
    UpTo {
        /// Of the page, at most 100.
        hundredths: u8,
        /// From 2 on. So many pages are looked at together, from among few frames.
        siblings: u8,
    },
}

/// A node with less than this part of its page free is not filled any further.
const NEARLY_FULL: usize = 32;
/// Looks at one place that others keep changing, before it is passed over.
const TRIES: usize = 4;

/// Attempts at one look. Each that misses brings a page, but where others throw pages out as fast, of the many that a run of siblings is one
/// may always be missing.
const ATTEMPTS: u32 = 64;

/// How often one place was looked at.
#[derive(Debug, Default)]
struct Patience(u32);

impl Patience {
    /// One more attempt; past [`ATTEMPTS`] of them the place is passed over.
    fn of(&mut self, attempt: Attempt) -> Attempt {
        self.0 += 1;
        if self.0 > ATTEMPTS { Attempt::Latched } else { attempt }
    }
}

/// What one step of [`BTree::pack`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// Where to go on; nothing at the end of the level.
    pub next: Option<Vec<u8>>,
    /// Nodes that were passed, or absorbed.
    pub looked: u64,
    /// Pages that became free: none or one.
    pub freed: u64,
    /// Bytes of the log that it took; none if nothing was changed.
    pub log_bytes: u64,
}

/// The part of the pool's frames that siblings of one run may be.
const POOL_PART: usize = 8;

/// A pair of siblings, as it was looked at.
struct Pair<'t> {
    parent: Node<'t>,
    left: Node<'t>,
    right: Node<'t>,
    fence: Vec<u8>,
    what: What,
}

/// What to do with a pair.
#[derive(Clone, PartialEq, Eq)]
enum What {
    Absorb,
    Shift(Shift),
}

enum Look<'t> {
    /// Nothing to do before there; so many nodes were looked at.
    GoOn(Next, u64),
    Do(Box<Pair<'t>>),
}

impl BTree {
    /// One step of filling the nodes of `level`, 0 for the leaves, in key order: at the first pair of siblings at or behind `from` for which
    /// there is something to do under one parent, or on past some siblings or to the next parent. To be called again with what it gives, from the empty key
    /// on, until that is nothing; then for the level above.
    ///
    /// Errors: those of reading pages and of beginning a mini-transaction. The tree is whole, and what was done stays done.
    pub fn pack(&self, level: u8, from: &[u8], fill: Fill) -> TreeResult<Packed> {
        for _ in 0..TRIES {
            let mut patience = Patience::default();
            let looked = optimistically(self.env(), |attempt| {
                Ok(match self.look_at_pair(patience.of(attempt), level, from, fill)? {
                    Look::GoOn(next, looked) => Err((next, looked)),
                    Look::Do(pair) => Ok((pair.what, pair.right.id())),
                })
            })?;
            let (what, right) = match looked {
                Ok(found) => found,
                Err((next, looked)) => return Ok(Packed { next, looked, ..Packed::default() }),
            };
            if let Some(packed) = self.pack_pair(level, from, fill, (&what, right))? {
                return Ok(packed);
            }
        }
        Ok(Packed { next: self.behind(level, from)?, looked: 1, ..Packed::default() })
    }

    /// Lets the root take the place of its only child, as often as it has but one.
    pub fn shrink_root(&self) -> TreeResult<()> {
        loop {
            let height = self.height()?;
            self.merge_root(height)?;
            if self.height()? == height {
                return Ok(());
            }
        }
    }

    fn look_at_pair<'t>(
        &'t self,
        attempt: Attempt,
        level: u8,
        from: &[u8],
        fill: Fill,
    ) -> Result<Look<'t>, Interrupt> {
        if attempt == Attempt::Latched {
            // Much is going on here, so the node will be looked at again by who does it.
            let node = self.descend_to(level, Hold::Shared, Seek::Key(from), |_, _| Ok(()))?;
            return Ok(Look::GoOn(upper_of(&node)?, 1));
        }
        let parent =
            self.descend_to(level.saturating_add(1), Hold::Optimistic, Seek::Key(from), |_, _| Ok(()))?;
        if parent.level() <= level {
            return Ok(Look::GoOn(None, 1)); // the root has no sibling
        }
        let count = parent.believe(parent.view().count())?;
        let (first, _) = parent.believe(parent.view().child_for(from))?;
        let page = parent.page().len();
        let mut most = page;
        if let Fill::UpTo { hundredths, siblings } = fill {
            most = page * usize::from(hundredths.min(100)) / 100;
            // All of them are looked at in one attempt, and a miss takes it again: so no more than stay in the pool meanwhile.
            let run = usize::from(siblings).min(self.env().pool().capacity() / POOL_PART).max(2);
            if !self.has_page_to_spare(&parent, first..=count.min(first + run - 1), most)? {
                return self.past(&parent, first, first + run / 2, count);
            }
        }
        let mut index = first;
        let mut left = self.child_at(&parent, index)?;
        while index < count {
            let right = self.child_at(&parent, index + 1)?;
            let fence = fence_between(&parent, index, &left, &right)?;
            let what = what_to_do(&left, &right, most);
            left.validate()?;
            right.validate()?;
            if let Some(what) = what? {
                return Ok(Look::Do(Box::new(Pair { parent, left, right, fence, what })));
            }
            if index - first >= LOOKS {
                parent.validate()?;
                return Ok(Look::GoOn(Some(fence), (index - first) as u64 + 1));
            }
            (index, left) = (index + 1, right);
        }
        let next = upper_of(&parent)?;
        Ok(Look::GoOn(next, (index - first) as u64 + 1))
    }

    /// Whether a run of siblings, filled up to `most` bytes, would be one page fewer.
    fn has_page_to_spare(
        &self,
        parent: &Node<'_>,
        run: RangeInclusive<usize>,
        most: usize,
    ) -> Result<bool, Interrupt> {
        let (mut used, mut room) = (0, 0);
        for index in run {
            let node = self.child_at(parent, index)?;
            used += node.believe(node.view().used_bytes())?;
            node.validate()?;
            room += most;
        }
        Ok(used + most <= room)
    }

    /// On to the child with the index `next`.
    fn past<'t>(
        &'t self,
        parent: &Node<'t>,
        first: usize,
        next: usize,
        count: usize,
    ) -> Result<Look<'t>, Interrupt> {
        if next > count {
            return Ok(Look::GoOn(upper_of(parent)?, (count - first) as u64 + 1));
        }
        let mut fence = Vec::new();
        parent.believe(parent.view().append_key(next - 1, &mut fence))?;
        parent.validate()?;
        Ok(Look::GoOn(Some(fence), (next - first) as u64))
    }

    /// Does it, in a group, if it is still to be done.
    fn pack_pair(
        &self,
        level: u8,
        from: &[u8],
        fill: Fill,
        (what, right): (&What, PageId),
    ) -> TreeResult<Option<Packed>> {
        let goes = [(right, 1)];
        let frees = if *what == What::Absorb { &goes[..] } else { &[] };
        let log_bytes = merge_log_bytes(self.env().pool().page_size());
        let mut txn = self.env().begin(Reserve { log_bytes, pins: 3, frees, ..Reserve::default() })?;
        let mut patience = Patience::default();
        let latched = optimistically(self.env(), |attempt| {
            let Look::Do(pair) = self.look_at_pair(patience.of(attempt), level, from, fill)? else {
                return Ok(None);
            };
            if pair.what != *what || pair.right.id() != right {
                return Ok(None);
            }
            let Pair { parent, left, right, fence, .. } = *pair;
            let (parent, left) = (parent.into_exclusive()?, left.into_exclusive()?);
            Ok(Some((parent, left, right.into_exclusive()?, fence)))
        })?;
        let Some((parent, left, right, fence)) = latched else { return Ok(None) };
        let (parent, left, right) = (txn.latch(parent), txn.latch(left), txn.latch(right));
        check_whole(&txn, parent)?;
        check_whole(&txn, left)?;
        check_whole(&txn, right)?;
        let remove = RemoveSeparator { key: &fence };
        match what {
            What::Absorb => {
                rehearse_changes(&txn, parent, &[&remove])?;
                let absorb = AbsorbRight::of(view(&txn, right)).map_err(bug(&txn, right))?;
                txn.free(txn.id(right), 1)?;
                txn.change(left, &absorb)?;
                txn.change(right, &MarkObsolete)?;
                txn.change(parent, &remove)?;
                let log_bytes = txn.commit()?.log_bytes;
                self.counters().merges.fetch_add(1, Ordering::Relaxed);
                Ok(Some(Packed { next: Some(from.to_vec()), looked: 1, freed: 1, log_bytes }))
            }
            What::Shift(shift) => {
                let insert = InsertSeparator { key: &shift.separator, child: txn.id(right) };
                if rehearse_changes(&txn, parent, &[&remove, &insert]).is_err() {
                    // A whole parent without room for a longer separator: the pair stays as it is.
                    return Ok(Some(Packed { next: Some(fence), looked: 1, ..Packed::default() }));
                }
                let absorb = AbsorbRight::first_of(view(&txn, right), txn.id(right), shift);
                let absorb = absorb.map_err(bug(&txn, right))?;
                txn.change(left, &absorb)?;
                txn.change(right, &TrimLeft { lower: &shift.separator })?;
                txn.change(parent, &remove)?;
                txn.change(parent, &insert)?;
                let log_bytes = txn.commit()?.log_bytes;
                Ok(Some(Packed { next: Some(shift.separator.clone()), looked: 1, freed: 0, log_bytes }))
            }
        }
    }

    /// Behind the node of `level` that covers `from`.
    fn behind(&self, level: u8, from: &[u8]) -> TreeResult<Next> {
        optimistically(self.env(), |attempt| {
            let node = self.descend_to(level, attempt.reading(), Seek::Key(from), |_, _| Ok(()))?;
            upper_of(&node)
        })
    }
}

/// Pairs that one step looks at, at most.
const LOOKS: usize = 8;

fn upper_of(node: &Node<'_>) -> Result<Next, Interrupt> {
    let mut upper = Vec::new();
    let finite = node.believe(node.view().upper_fence(&mut upper))?;
    node.validate()?;
    Ok(finite.then_some(upper))
}

/// What makes the left one as full as `most` bytes.
fn what_to_do(left: &Node<'_>, right: &Node<'_>, most: usize) -> Result<Option<What>, Interrupt> {
    let (view, beside) = (left.view(), right.view());
    if left.believe(view.bytes_with(&beside))?.is_some_and(|bytes| bytes <= most) {
        return Ok(Some(What::Absorb));
    }
    let (page, used) = (left.page().len(), left.believe(view.used_bytes())?);
    if most.saturating_sub(used) <= page / NEARLY_FULL {
        return Ok(None);
    }
    let bytes = if most == page { usize::MAX } else { left.believe(beside.whole_bytes_in(most - used))? };
    Ok(left.believe(view.shift_from(&beside, bytes))?.map(What::Shift))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Otherwise the background looks at a run of siblings as long as others throw one of them out, and closing waits for it.
    #[test]
    fn a_place_is_looked_at_so_often_and_no_more() {
        let mut patience = Patience::default();
        for _ in 0..ATTEMPTS {
            assert_eq!(patience.of(Attempt::Optimistic), Attempt::Optimistic);
        }
        assert_eq!(patience.of(Attempt::Optimistic), Attempt::Latched);
        assert_eq!(Patience::default().of(Attempt::Latched), Attempt::Latched);
    }
}
