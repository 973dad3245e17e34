//! Cursors: both directions, on private copies of leaves.
//!
//! Invariant: every key that is present throughout a scan is given exactly once, in order. A cursor stands between two keys of
//! a leaf that it has copied and validated; past either end of the copy it goes down again, by the fence, so that splits, merges
//! and evictions meanwhile can neither hide a key nor show it twice. No latch is held while user code runs.

use pagestone_buffer_pool::{PageMark, Restart};
use pagestone_page_format::OutOfBounds;

use crate::descend::{Hold, Seek};
use crate::error::Interrupt;
use crate::leaf_copy::LeafCopy;
use crate::read_ahead::ReadAhead;
use crate::retry::optimistically;
use crate::walk::{self, HeldPage, Node};
use crate::{BTree, TreeError, TreeResult};

/// From no position is a step taken at once.
const NONE: (usize, usize) = (usize::MAX, 0);

/// Steps after a seek before the leaf beside is expected: who wants a few entries of a leaf only does not wait for another one.
const FEW: usize = 4;

/// A position between two entries of a tree.
///
/// It lends what it gives until the next call. Values of all lengths are given whole; the steps that give keys alone read none.
/// While a cursor stands in a leaf that refers to long values, the space of long values that are removed or replaced is not
/// used again, so keep it no longer than it takes. After an error every step is [`TreeError::CursorFailed`], until a seek that
/// succeeds (E11).
#[derive(Debug)]
pub struct Cursor {
    tree: BTree,
    stands: Stands,
    leaf: LeafCopy,
    /// The next entry in the copy.
    slot: usize,
    /// The positions in the copy from which a step is taken at once: back from those past the first, on from those before the second.
    /// At all others there is something to be seen to ([`Cursor::step_to_right`], [`Cursor::step_to_left`]).
    at_once: (usize, usize),
    /// Where the leaf hangs, if that was seen.
    parent: Option<Parent>,
    /// The fence that is stepped over.
    fence: Vec<u8>,
    ahead: ReadAhead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Before the first entry; no leaf was copied.
    AtStart,
    InLeaf,
    /// Nowhere since an error.
    Nowhere,
}

/// The node above the leaf, as it was when the leaf was found in it: while it is unchanged its children are where they were.
#[derive(Debug, Clone, Copy)]
struct Parent {
    mark: PageMark,
    /// Which of its children the leaf is.
    index: usize,
}

impl Parent {
    /// The place right or left of this one, if there is one left of it.
    fn beside(self, forward: bool) -> Option<Self> {
        let index = if forward { Some(self.index + 1) } else { self.index.checked_sub(1) };
        index.map(|index| Self { index, ..self })
    }
}

impl BTree {
    /// A cursor before the first entry.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            tree: self.clone(),
            stands: Stands::AtStart,
            leaf: LeafCopy::empty(),
            slot: 0,
            at_once: NONE,
            parent: None,
            fence: Vec::new(),
            ahead: ReadAhead::new(),
        }
    }

    /// Entries of the tree, counted by a scan.
    pub fn len(&self) -> TreeResult<u64> {
        let mut cursor = self.cursor();
        let mut entries = 0;
        while cursor.step_leaf(&mut entries)? {}
        Ok(entries)
    }

    /// The entry with the least key, if there is any.
    pub fn first(&self) -> TreeResult<Option<(Vec<u8>, Vec<u8>)>> {
        Ok(self.cursor().next()?.map(own))
    }

    /// The entry with the greatest key, if there is any.
    pub fn last(&self) -> TreeResult<Option<(Vec<u8>, Vec<u8>)>> {
        let mut cursor = self.cursor();
        cursor.seek_last()?;
        Ok(cursor.prev()?.map(own))
    }

    /// Whether the tree has no entry.
    pub fn is_empty(&self) -> TreeResult<bool> {
        Ok(self.cursor().next_key()?.is_none())
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.leaf.give_back(&self.tree);
    }
}

fn own((key, value): (&[u8], &[u8])) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

impl Cursor {
    /// Goes to before the first key that is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> TreeResult<()> {
        self.ahead.stop();
        self.load(Seek::Key(key))
    }

    /// Goes to before the first entry.
    pub fn seek_first(&mut self) -> TreeResult<()> {
        self.seek(b"")
    }

    /// Goes to behind the last entry.
    pub fn seek_last(&mut self) -> TreeResult<()> {
        self.ahead.stop();
        self.load(Seek::Last)
    }

    /// Gives the entry behind the position and steps over it; nothing behind the last.
    #[expect(clippy::should_implement_trait, reason = "it lends; an iterator owns")]
    #[inline]
    pub fn next(&mut self) -> TreeResult<Option<(&[u8], &[u8])>> {
        if !self.advance()? {
            return Ok(None);
        }
        self.lend(self.slot - 1).map(Some)
    }

    /// As [`Cursor::next`], without the value: a long one is not read.
    #[inline]
    pub fn next_key(&mut self) -> TreeResult<Option<&[u8]>> {
        if !self.advance()? {
            return Ok(None);
        }
        self.lend_key(self.slot - 1).map(Some)
    }

    /// Gives the entry before the position and steps back over it; nothing before the first.
    #[inline]
    pub fn prev(&mut self) -> TreeResult<Option<(&[u8], &[u8])>> {
        if !self.go_back()? {
            return Ok(None);
        }
        self.lend(self.slot).map(Some)
    }

    /// As [`Cursor::prev`], without the value: a long one is not read.
    #[inline]
    pub fn prev_key(&mut self) -> TreeResult<Option<&[u8]>> {
        if !self.go_back()? {
            return Ok(None);
        }
        self.lend_key(self.slot).map(Some)
    }

    /// Adds the entries of the rest of this leaf and goes to the next one; false at the end.
    fn step_leaf(&mut self, entries: &mut u64) -> TreeResult<bool> {
        self.start()?;
        *entries += (self.leaf.count() - self.slot) as u64;
        self.slot = self.leaf.count();
        self.load_right()
    }

    /// Steps over the next entry; false if there is none.
    #[inline(always)]
    fn advance(&mut self) -> TreeResult<bool> {
        if self.slot < self.at_once.1 && self.tree.env().is_kept() {
            self.slot += 1;
            return Ok(true);
        }
        self.step_to_right()
    }

    #[inline(always)]
    fn go_back(&mut self) -> TreeResult<bool> {
        if self.slot > self.at_once.0 && self.tree.env().is_kept() {
            self.slot -= 1;
            return Ok(true);
        }
        self.step_to_left()
    }

    #[cold]
    fn step_to_right(&mut self) -> TreeResult<bool> {
        self.start()?;
        while self.slot >= self.leaf.count() {
            if !self.load_right()? {
                return Ok(false);
            }
        }
        if self.at_once.1 < self.leaf.count() {
            self.at_once.1 = self.leaf.count();
            self.expect_beside(true);
        }
        self.slot += 1;
        Ok(true)
    }

    #[cold]
    fn step_to_left(&mut self) -> TreeResult<bool> {
        self.start()?;
        while self.slot == 0 {
            if !self.load_left()? {
                return Ok(false);
            }
        }
        if self.at_once.0 > 0 {
            self.at_once.0 = 0;
            self.expect_beside(false);
        }
        self.slot -= 1;
        Ok(true)
    }

    fn start(&mut self) -> TreeResult<()> {
        self.tree.env().check_kept()?;
        match self.stands {
            Stands::InLeaf => Ok(()),
            Stands::AtStart => self.seek_first(),
            Stands::Nowhere => Err(TreeError::CursorFailed),
        }
    }

    #[inline(always)]
    fn lend(&mut self, slot: usize) -> TreeResult<(&[u8], &[u8])> {
        self.leaf
            .entry(&self.tree, slot)
            .inspect_err(|_| (self.stands, self.at_once) = (Stands::Nowhere, NONE))
    }

    #[inline(always)]
    fn lend_key(&mut self, slot: usize) -> TreeResult<&[u8]> {
        self.leaf.key(slot).inspect_err(|_| (self.stands, self.at_once) = (Stands::Nowhere, NONE))
    }

    #[cold]
    fn load_right(&mut self) -> TreeResult<bool> {
        let Some(fence) = self.leaf.upper_fence() else { return Ok(false) };
        self.fence.clear();
        self.fence.extend_from_slice(fence);
        let fence = std::mem::take(&mut self.fence);
        let loaded = self.load_beside(Seek::Key(&fence));
        self.fence = fence;
        loaded.map(|()| true)
    }

    #[cold]
    fn load_left(&mut self) -> TreeResult<bool> {
        let fence = self.leaf.lower_fence();
        if fence.is_empty() {
            return Ok(false); // nothing sorts before the empty key
        }
        self.fence.clear();
        self.fence.extend_from_slice(fence);
        let fence = std::mem::take(&mut self.fence);
        let loaded = self.load_beside(Seek::Before(&fence));
        self.fence = fence;
        loaded.map(|()| true)
    }

    /// Copies the leaf that hangs beside this one, if the node above is as it was; else goes down to it.
    fn load_beside(&mut self, seek: Seek<'_>) -> TreeResult<()> {
        let forward = matches!(seek, Seek::Key(_));
        let beside = self.parent.and_then(|parent| parent.beside(forward));
        if let Some(beside) = beside {
            match self.copy_child(beside, seek) {
                Ok(()) => {
                    self.ahead.reached_leaf(&self.tree, forward);
                    return Ok(());
                }
                Err(Interrupt::Restart(Restart::Fault(_))) => {
                    self.ahead.missed(&self.tree, beside.mark, beside.index, forward);
                }
                // Errors too: the loop that owns every retry believes them or not.
                Err(_) => {}
            }
        }
        self.load(seek)?;
        self.ahead.reached_leaf(&self.tree, forward);
        Ok(())
    }

    /// Copies the leaf that hangs there, if the node is as it was.
    fn copy_child(&mut self, at: Parent, seek: Seek<'_>) -> Result<(), Interrupt> {
        let tree = &self.tree;
        tree.env().check_open()?;
        let node = tree.env().pool().revisit(at.mark).ok_or(Restart::Conflict)?;
        let node = Node::arrive(node, tree.tree_id(), Some(1))?;
        let swip = node.loaded().child_at(at.index).ok_or(Restart::Conflict)?;
        let leaf = walk::follow(tree.sampled(), tree.tree_id(), &node, (at.index, swip), seek)?;
        tree.env().check_kept()?;
        let forward = matches!(seek, Seek::Key(_));
        expect(tree, &node, at.beside(forward));
        self.slot = leaf.believe(slot_of(&leaf, seek))?;
        self.at_once = NONE; // until it is copied
        self.leaf.fill(tree, &leaf, !forward)?;
        self.at_once = (0, self.leaf.count());
        self.parent = Some(at);
        Ok(())
    }

    /// The leaf beside this one will be read soon.
    fn expect_beside(&self, forward: bool) {
        let tree = &self.tree;
        if let Some(parent) = self.parent
            && let Some(node) = tree.env().pool().revisit(parent.mark)
            && let Ok(node) = Node::arrive(node, tree.tree_id(), Some(1))
        {
            expect(tree, &node, parent.beside(forward));
        }
    }

    /// Goes down to the leaf, copies it, and stands where `seek` says.
    fn load(&mut self, seek: Seek<'_>) -> TreeResult<()> {
        (self.stands, self.at_once) = (Stands::Nowhere, NONE);
        let (tree, copy) = (&self.tree, &mut self.leaf);
        let (slot, parent) = optimistically(tree.env(), |attempt| match attempt.reading() {
            Hold::Optimistic => {
                let mut parent = None;
                let leaf = walk::descend(tree.sampled(), tree.roots(), 0, seek, |node, child| {
                    if child.level() == 0 {
                        child.page().prefetch_all();
                        let (index, _) = node.believe(walk::choose(node.loaded(), seek))?;
                        parent = Some(Parent { mark: node.held().mark(), index });
                        node.validate()?;
                    }
                    Ok(())
                })?;
                tree.env().check_kept()?;
                Ok((copy_to(copy, tree, &leaf, seek)?, parent))
            }
            hold => {
                let leaf = tree.descend(hold, seek, |_, _| Ok(()))?;
                Ok((copy_to(copy, tree, &leaf, seek)?, None))
            }
        })?;
        (self.slot, self.parent) = (slot, parent);
        self.at_once = (slot.saturating_sub(FEW), copy.count().min(slot + FEW));
        self.stands = Stands::InLeaf;
        Ok(())
    }
}

/// Asks the processor for a leaf that will be copied soon, if there is one at this place and it is in memory.
fn expect<'t>(tree: &'t BTree, node: &Node<'t, impl HeldPage<'t>>, at: Option<Parent>) {
    if let Some(swip) = at.and_then(|at| node.loaded().child_at(at.index)) {
        tree.env().pool().expect(swip, |page| page.prefetch_all());
    }
}

/// Copies the leaf; gives where `seek` stands in it.
fn copy_to<'t>(
    copy: &mut LeafCopy,
    tree: &'t BTree,
    leaf: &Node<'t, impl HeldPage<'t>>,
    seek: Seek<'_>,
) -> Result<usize, Interrupt> {
    let slot = leaf.believe(slot_of(leaf, seek))?;
    copy.fill(tree, leaf, false)?;
    Ok(slot)
}

/// Where `seek` stands in its leaf.
fn slot_of<'p>(leaf: &Node<'p, impl HeldPage<'p>>, seek: Seek<'_>) -> Result<usize, OutOfBounds> {
    match seek {
        Seek::Key(key) | Seek::Before(key) => Ok(leaf.loaded().search(key)?.slot),
        Seek::Last => leaf.view().count(),
    }
}
