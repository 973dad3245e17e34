//! Cursors: both directions, on private copies of leaves.
//!
//! Invariant: every key that is present throughout a scan is given exactly once, in order. A cursor stands between two keys of
//! a leaf that it has copied and validated; past either end of the copy it goes down again, by the fence, so that splits, merges
//! and evictions meanwhile can neither hide a key nor show it twice. No latch is held while user code runs.

use pagestone_sync::atomic::{AtomicU64, Ordering};

use pagestone_allocator::ReadGuard;
use pagestone_page_format::{OutOfBounds, PageId, SpeculativePage};
use pagestone_sync::Arc;

use crate::descend::Seek;
use crate::error::malformed;
use crate::node::NodeView;
use crate::read::ReferenceAt;
use crate::retry::optimistically;
use crate::{BTree, TreeError, TreeResult};

/// A position between two entries of a tree.
///
/// It lends what it gives until the next call. Values of all lengths are given whole; the steps that give keys alone read none.
/// While a cursor stands in a leaf that refers to long values, the space of long values that are removed or replaced is not
/// used again, so keep it no longer than it takes. After an error every step is [`TreeError::CursorFailed`], until a seek that
/// succeeds (E11).
#[derive(Debug)]
pub struct Cursor {
    tree: BTree,
    leaf: Option<LeafCopy>,
    /// The next entry in the copy.
    slot: usize,
    failed: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A leaf as it was at one instant.
#[derive(Debug)]
struct LeafCopy {
    words: Box<[AtomicU64]>,
    page_id: PageId,
    count: usize,
    /// Keeps the extents that the copy refers to, if it refers to any.
    guard: Option<Arc<ReadGuard>>,
}

impl LeafCopy {
    fn view(&self) -> NodeView<'_> {
        NodeView::new(SpeculativePage::new(&self.words))
    }

    fn believe<T>(&self, read: Result<T, OutOfBounds>) -> TreeResult<T> {
        read.map_err(malformed(self.page_id))
    }

    /// Replaces the contents of `key` by the key of a slot.
    fn key(&self, slot: usize, key: &mut Vec<u8>) -> TreeResult<()> {
        key.clear();
        self.believe(self.view().append_key(slot, key))
    }

    /// Replaces the contents of `value` by the value of a slot, which may stand elsewhere.
    fn value(&self, tree: &BTree, slot: usize, value: &mut Vec<u8>) -> TreeResult<()> {
        value.clear();
        let flags = self.believe(self.view().append_flagged(slot, value))?;
        let Some(guard) = self.guard.clone().filter(|_| flags != 0) else { return Ok(()) };
        let chunks = tree.chunks(value, ReferenceAt { leaf: self.page_id, guard })?;
        value.clear();
        chunks.append_to(value)
    }

    fn upper_fence(&self) -> TreeResult<Option<Vec<u8>>> {
        let mut fence = Vec::new();
        let finite = self.believe(self.view().upper_fence(&mut fence))?;
        Ok(finite.then_some(fence))
    }

    fn lower_fence(&self) -> TreeResult<Vec<u8>> {
        let mut fence = Vec::new();
        self.believe(self.view().lower_fence(&mut fence))?;
        Ok(fence)
    }

    /// The first slot whose key is not below `key`.
    fn lower_bound(&self, key: &[u8]) -> TreeResult<usize> {
        self.believe(self.view().lower_bound(key))
    }
}

impl BTree {
    /// A cursor before the first entry.
    pub fn cursor(&self) -> Cursor {
        Cursor { tree: self.clone(), leaf: None, slot: 0, failed: false, key: Vec::new(), value: Vec::new() }
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

fn own((key, value): (&[u8], &[u8])) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

impl Cursor {
    /// Goes to before the first key that is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> TreeResult<()> {
        self.load(Seek::Key(key))?;
        self.place(key)
    }

    /// Goes to before the first entry.
    pub fn seek_first(&mut self) -> TreeResult<()> {
        self.seek(b"")
    }

    /// Goes to behind the last entry.
    pub fn seek_last(&mut self) -> TreeResult<()> {
        self.load(Seek::Last)?;
        self.slot = self.leaf.as_ref().map_or(0, |leaf| leaf.count);
        Ok(())
    }

    /// Gives the entry behind the position and steps over it; nothing behind the last.
    #[expect(clippy::should_implement_trait, reason = "it lends; an iterator owns")]
    pub fn next(&mut self) -> TreeResult<Option<(&[u8], &[u8])>> {
        self.start()?;
        while self.slot >= self.loaded().count {
            if !self.load_right()? {
                return Ok(None);
            }
        }
        self.slot += 1;
        self.lend(self.slot - 1).map(Some)
    }

    /// As [`Cursor::next`], without the value: a long one is not read.
    pub fn next_key(&mut self) -> TreeResult<Option<&[u8]>> {
        self.start()?;
        while self.slot >= self.loaded().count {
            if !self.load_right()? {
                return Ok(None);
            }
        }
        self.slot += 1;
        self.lend_key(self.slot - 1).map(Some)
    }

    /// Gives the entry before the position and steps back over it; nothing before the first.
    pub fn prev(&mut self) -> TreeResult<Option<(&[u8], &[u8])>> {
        self.start()?;
        while self.slot == 0 {
            if !self.load_left()? {
                return Ok(None);
            }
        }
        self.slot -= 1;
        self.lend(self.slot).map(Some)
    }

    /// As [`Cursor::prev`], without the value: a long one is not read.
    pub fn prev_key(&mut self) -> TreeResult<Option<&[u8]>> {
        self.start()?;
        while self.slot == 0 {
            if !self.load_left()? {
                return Ok(None);
            }
        }
        self.slot -= 1;
        self.lend_key(self.slot).map(Some)
    }

    /// Adds the entries of the rest of this leaf and goes to the next one; false at the end.
    fn step_leaf(&mut self, entries: &mut u64) -> TreeResult<bool> {
        self.start()?;
        *entries += (self.loaded().count - self.slot) as u64;
        self.slot = self.loaded().count;
        self.load_right()
    }

    fn start(&mut self) -> TreeResult<()> {
        self.tree.env().check_kept()?;
        if self.failed {
            return Err(TreeError::CursorFailed);
        }
        if self.leaf.is_none() {
            self.seek_first()?;
        }
        Ok(())
    }

    fn loaded(&self) -> &LeafCopy {
        self.leaf.as_ref().expect("a started cursor has a leaf")
    }

    fn lend(&mut self, slot: usize) -> TreeResult<(&[u8], &[u8])> {
        let leaf = self.leaf.as_ref().expect("a started cursor has a leaf");
        let entry =
            leaf.key(slot, &mut self.key).and_then(|()| leaf.value(&self.tree, slot, &mut self.value));
        entry.inspect_err(|_| self.failed = true)?;
        Ok((&self.key, &self.value))
    }

    fn lend_key(&mut self, slot: usize) -> TreeResult<&[u8]> {
        let leaf = self.leaf.as_ref().expect("a started cursor has a leaf");
        leaf.key(slot, &mut self.key).inspect_err(|_| self.failed = true)?;
        Ok(&self.key)
    }

    fn load_right(&mut self) -> TreeResult<bool> {
        let fence = self.loaded().upper_fence().inspect_err(|_| self.failed = true)?;
        let Some(fence) = fence else {
            return Ok(false);
        };
        self.load(Seek::Key(&fence))?;
        self.place(&fence)?;
        Ok(true)
    }

    fn load_left(&mut self) -> TreeResult<bool> {
        let fence = self.loaded().lower_fence().inspect_err(|_| self.failed = true)?;
        if fence.is_empty() {
            return Ok(false); // nothing sorts before the empty key
        }
        self.load(Seek::Before(&fence))?;
        self.place(&fence)?;
        Ok(true)
    }

    /// Stands before the first key of the copy that is not below `key`.
    fn place(&mut self, key: &[u8]) -> TreeResult<()> {
        self.slot = self.loaded().lower_bound(key).inspect_err(|_| self.failed = true)?;
        Ok(())
    }

    fn load(&mut self, seek: Seek<'_>) -> TreeResult<()> {
        let tree = &self.tree;
        let mut words = match self.leaf.take() {
            Some(leaf) => leaf.words,
            None => (0..tree.env().pool().page_size().words()).map(|_| AtomicU64::new(0)).collect(),
        };
        let loaded = optimistically(tree.env(), |attempt| {
            let leaf = tree.descend(attempt.reading(), seek, |_, _| Ok(()))?;
            let page = leaf.page();
            for (index, word) in words.iter_mut().enumerate() {
                word.store(leaf.believe(page.word(index))?, Ordering::Relaxed);
            }
            let copy = NodeView::new(SpeculativePage::new(&words));
            // The guard first, then the proof that the references still stood when it was there (L8).
            let guard = leaf.believe(copy.has_references())?.then(|| tree.guard());
            leaf.validate()?;
            Ok((leaf.id(), guard))
        });
        let (page_id, guard) = loaded.inspect_err(|_| self.failed = true)?;
        let mut leaf = LeafCopy { words, page_id, count: 0, guard };
        let count = leaf.believe(leaf.view().count());
        leaf.count = count.inspect_err(|_| self.failed = true)?;
        self.leaf = Some(leaf);
        self.failed = false;
        Ok(())
    }
}
