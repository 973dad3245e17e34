//! A leaf as it was at one instant, in private memory.
//!
//! Invariant: nothing is read of a copy before the leaf was validated behind it; then its bytes stay what they are, so keys and values
//! are lent from it. Its cells are bounded when they are read: what leads outside the page is corruption.
//!
//! ```text
//!   page    headers  slots ... free ... cells ───────────────── fences
//!                                        suffix│value
//!                                           ▼     └──────► lent as it stands
//!   key_buffer.rs  prefix, once a leaf │ suffix, once a key ─► lent
//! ```

use pagestone_allocator::ReadGuard;
use pagestone_page_format::slotted::Cell;
use pagestone_page_format::{OutOfBounds, PageId};
use pagestone_sync::Arc;

use crate::copy_shelf::CopyMemory;
use crate::error::{Interrupt, malformed};
use crate::node::Outline;
use crate::read::ReferenceAt;
use crate::walk::{HeldPage, Node};
use crate::{BTree, TreeError, TreeResult};

/// The copy, and the key that was lent last.
#[derive(Debug)]
pub(crate) struct LeafCopy {
    memory: CopyMemory,
    outline: Outline,
    page_id: PageId,
    /// Keeps the extents that the copy refers to, if it refers to any.
    guard: Option<Arc<ReadGuard>>,
    /// A long value.
    value: Vec<u8>,
}

impl LeafCopy {
    /// Of no leaf yet: it has no entry.
    pub(crate) fn empty() -> Self {
        Self {
            memory: CopyMemory::default(),
            outline: Outline::default(),
            page_id: PageId::new(0),
            guard: None,
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
        if self.memory.page.len() != page.len() {
            self.memory = tree.env().copies.take(page.len());
        }
        let CopyMemory { page: bytes, key } = &mut self.memory;
        if leftward {
            page.copy_out_backward(bytes);
        } else {
            page.copy_out(bytes);
        }
        // The guard first, then the proof that the references still stood when it was there (L8).
        let slots = bytes[outline.slots.clone()].as_chunks::<8>().0;
        let words = slots.iter().map(|slot| u64::from_le_bytes(*slot));
        let refers = words.fold(0, |all, word| all | word) & Cell::FLAGS_OF_WORD != 0;
        self.guard = refers.then(|| tree.guard());
        leaf.validate()?;
        key.begin(&bytes[outline.prefix.clone()]);
        (self.outline, self.page_id) = (outline, leaf.id());
        Ok(())
    }

    /// Gives its memory back: it is a copy of no leaf any more.
    pub(crate) fn give_back(&mut self, tree: &BTree) {
        let Self { memory, .. } = std::mem::replace(self, Self::empty());
        if !memory.page.is_empty() {
            tree.env().copies.keep(memory);
        }
    }

    /// Entries.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.outline.count
    }

    /// No key of the leaf, nor of any leaf left of it, reaches it.
    pub(crate) fn upper_fence(&self) -> Option<&[u8]> {
        Some(&self.memory.page[self.outline.upper_fence.clone()?])
    }

    /// No key of the leaf is below it.
    pub(crate) fn lower_fence(&self) -> &[u8] {
        &self.memory.page[self.outline.lower_fence.clone()]
    }

    #[inline(always)]
    fn cell(&self, slot: usize) -> Result<Cell, OutOfBounds> {
        let (page, at) = (&self.memory.page, self.outline.slots.start + 8 * slot);
        let word = page.get(at..).and_then(<[u8]>::first_chunk).ok_or(OutOfBounds)?;
        Cell::of_word(u64::from_le_bytes(*word), page.len())
    }

    /// Lends the key of a slot.
    #[inline(always)]
    pub(crate) fn key(&mut self, slot: usize) -> TreeResult<&[u8]> {
        let Ok(cell) = self.cell(slot) else { return Err(self.torn()) };
        let CopyMemory { page, key } = &mut self.memory;
        let len = key.complete(page, cell.offset, cell.key_len);
        Ok(key.key(len))
    }

    /// Lends key and value of a slot; the value may stand elsewhere.
    #[inline(always)]
    pub(crate) fn entry(&mut self, tree: &BTree, slot: usize) -> TreeResult<(&[u8], &[u8])> {
        let Ok(cell) = self.cell(slot) else { return Err(self.torn()) };
        if cell.flags != 0 {
            self.read_long(tree, cell)?;
        }
        let CopyMemory { page, key } = &mut self.memory;
        let len = key.complete(page, cell.offset, cell.key_len);
        let value = if cell.flags == 0 { &page[cell.value_range()] } else { &self.value };
        Ok((key.key(len), value))
    }

    /// A cell that leads outside the page, which was validated: corruption.
    #[cold]
    fn torn(&self) -> TreeError {
        malformed(self.page_id)(OutOfBounds)
    }

    #[cold]
    fn read_long(&mut self, tree: &BTree, cell: Cell) -> TreeResult<()> {
        let guard = self.guard.clone().expect("a copy with references keeps their extents");
        let at = ReferenceAt { leaf: self.page_id, guard };
        let chunks = tree.chunks(&self.memory.page[cell.value_range()], at)?;
        self.value.clear();
        chunks.append_to(&mut self.value)
    }
}
