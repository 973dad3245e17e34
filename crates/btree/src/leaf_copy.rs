//! A leaf as it was at one instant, in private memory.
//!
//! Invariant: nothing is read of a copy before the leaf was validated behind it; then its bytes stay what they are, so keys and values
//! are lent from it. Its cells are bounded when they are read: what leads outside the page is corruption.
//!
//! ```text
//!   page    headers  slots ... free ... cells ───────────────── fences
//!                                        suffix│value
//!                                           ▼     └──────► lent as it stands
//!   key buffer     prefix, once a leaf │ suffix, once a key ─► lent
//! ```

use pagestone_allocator::ReadGuard;
use pagestone_page_format::slotted::Cell;
use pagestone_page_format::{OutOfBounds, PageId};
use pagestone_sync::Arc;

use crate::error::{Interrupt, malformed};
use crate::node::Outline;
use crate::read::ReferenceAt;
use crate::walk::{HeldPage, Node};
use crate::{BTree, TreeResult};

/// Bytes that a suffix is copied in at once: most are no longer, and so many are two instructions.
const STEP: usize = 16;

/// The copy, and the key that was lent last.
#[derive(Debug)]
pub(crate) struct LeafCopy {
    bytes: Box<[u8]>,
    outline: Outline,
    page_id: PageId,
    /// Keeps the extents that the copy refers to, if it refers to any.
    guard: Option<Arc<ReadGuard>>,
    /// The leaf's prefix, and behind it room for the rest of a key.
    key: Vec<u8>,
    /// A long value.
    value: Vec<u8>,
}

impl LeafCopy {
    /// Of no leaf yet: it has no entry.
    pub(crate) fn empty() -> Self {
        Self {
            bytes: Box::default(),
            outline: Outline::default(),
            page_id: PageId::new(0),
            guard: None,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Copies a leaf and validates it. Who goes on to its left has it copied from its end.
    pub(crate) fn fill<'t>(
        &mut self,
        tree: &'t BTree,
        leaf: &Node<'t, impl HeldPage<'t>>,
        leftward: bool,
    ) -> Result<(), Interrupt> {
        let (page, outline) = (leaf.page(), leaf.believe(leaf.loaded().outline())?);
        if self.bytes.len() != page.len() {
            self.bytes = vec![0; page.len()].into();
        }
        if leftward {
            page.copy_out_backward(&mut self.bytes);
        } else {
            page.copy_out(&mut self.bytes);
        }
        // The guard first, then the proof that the references still stood when it was there (L8).
        let slots = self.bytes[outline.slots.clone()].as_chunks::<8>().0;
        let refers = slots.iter().fold(0, |flags, slot| flags | slot[7]) != 0;
        self.guard = refers.then(|| tree.guard());
        leaf.validate()?;
        self.key.clear();
        self.key.extend_from_slice(&self.bytes[outline.prefix.clone()]);
        self.key.resize(self.key.len() + 4 * STEP, 0);
        (self.outline, self.page_id) = (outline, leaf.id());
        Ok(())
    }

    /// Entries.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.outline.count
    }

    /// No key of the leaf, nor of any leaf left of it, reaches it.
    pub(crate) fn upper_fence(&self) -> Option<&[u8]> {
        Some(&self.bytes[self.outline.upper_fence.clone()?])
    }

    /// No key of the leaf is below it.
    pub(crate) fn lower_fence(&self) -> &[u8] {
        &self.bytes[self.outline.lower_fence.clone()]
    }

    #[inline]
    fn cell(&self, slot: usize) -> Result<Cell, OutOfBounds> {
        let slots = self.bytes.get(self.outline.slots.clone()).ok_or(OutOfBounds)?;
        let word = slots.as_chunks::<8>().0.get(slot).ok_or(OutOfBounds)?;
        Cell::of_word(u64::from_le_bytes(*word), self.bytes.len())
    }

    /// Puts the rest of a key behind the prefix; gives the length of all of it.
    #[inline]
    fn complete_key(&mut self, cell: Cell) -> usize {
        let (prefix, end) = (self.outline.prefix.len(), self.outline.prefix.len() + cell.key_len);
        let step = (self.key.get_mut(prefix..), self.bytes.get(cell.offset..));
        if cell.key_len <= STEP
            && let (Some(to), Some(from)) = step
            && let (Some(to), Some(from)) = (to.first_chunk_mut::<STEP>(), from.first_chunk::<STEP>())
        {
            *to = *from; // what is too much is behind the key
            return end;
        }
        self.complete_long_key(cell)
    }

    #[cold]
    fn complete_long_key(&mut self, cell: Cell) -> usize {
        let prefix = self.outline.prefix.len();
        let end = prefix + cell.key_len;
        if end > self.key.len() {
            self.key.resize(end + STEP, 0);
        }
        self.key[prefix..end].copy_from_slice(&self.bytes[cell.key_range()]);
        end
    }

    /// Lends the key of a slot.
    #[inline]
    pub(crate) fn key(&mut self, slot: usize) -> TreeResult<&[u8]> {
        let cell = self.cell(slot).map_err(malformed(self.page_id))?;
        let end = self.complete_key(cell);
        Ok(&self.key[..end])
    }

    /// Lends key and value of a slot; the value may stand elsewhere.
    #[inline]
    pub(crate) fn entry(&mut self, tree: &BTree, slot: usize) -> TreeResult<(&[u8], &[u8])> {
        let cell = self.cell(slot).map_err(malformed(self.page_id))?;
        let end = self.complete_key(cell);
        if cell.flags != 0 {
            self.read_long(tree, cell)?;
            return Ok((&self.key[..end], &self.value));
        }
        Ok((&self.key[..end], &self.bytes[cell.value_range()]))
    }

    #[cold]
    fn read_long(&mut self, tree: &BTree, cell: Cell) -> TreeResult<()> {
        let guard = self.guard.clone().expect("a copy with references keeps their extents");
        let at = ReferenceAt { leaf: self.page_id, guard };
        let chunks = tree.chunks(&self.bytes[cell.value_range()], at)?;
        self.value.clear();
        chunks.append_to(&mut self.value)
    }
}
