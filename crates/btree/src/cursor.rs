//! Cursors: both directions, on private copies of leaves.
//!
//! Invariant: every key that is present throughout a scan is given exactly once, in order. A cursor stands between two keys of
//! a leaf that it has copied and validated; past either end of the copy it goes down again, by the fence, so that splits, merges
//! and evictions meanwhile can neither hide a key nor show it twice. No latch is held while user code runs.

use pagestone_sync::atomic::{AtomicU64, Ordering};

use pagestone_page_format::{OutOfBounds, PageId, SpeculativePage};

use crate::descend::Seek;
use crate::error::malformed;
use crate::node::NodeView;
use crate::retry::optimistically;
use crate::{BTree, TreeError, TreeResult};

/// A position between two entries of a tree.
///
/// It lends what it gives until the next call. After an error every step is [`TreeError::CursorFailed`], until a seek that
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
}

impl LeafCopy {
    fn view(&self) -> NodeView<'_> {
        NodeView::new(SpeculativePage::new(&self.words))
    }

    fn believe<T>(&self, read: Result<T, OutOfBounds>) -> TreeResult<T> {
        read.map_err(malformed(self.page_id))
    }

    /// Replaces the contents of `key` and `value` by those of a slot.
    fn entry(&self, slot: usize, key: &mut Vec<u8>, value: &mut Vec<u8>) -> TreeResult<()> {
        key.clear();
        value.clear();
        self.believe(self.view().append_key(slot, key))?;
        self.believe(self.view().append_value(slot, value))
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

    /// Whether the tree has no entry.
    pub fn is_empty(&self) -> TreeResult<bool> {
        Ok(self.cursor().next()?.is_none())
    }
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
        leaf.entry(slot, &mut self.key, &mut self.value).inspect_err(|_| self.failed = true)?;
        Ok((&self.key, &self.value))
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
            leaf.validate()?;
            Ok(leaf.id())
        });
        let page_id = loaded.inspect_err(|_| self.failed = true)?;
        let mut leaf = LeafCopy { words, page_id, count: 0 };
        let count = leaf.believe(leaf.view().count());
        leaf.count = count.inspect_err(|_| self.failed = true)?;
        self.leaf = Some(leaf);
        self.failed = false;
        Ok(())
    }
}
