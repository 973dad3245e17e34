//! Room for one more cell: larger arrays, a compacted heap.
//!
//! Invariant: what happens depends on the page's bytes and the sizes asked for alone, so redo does the same. Whether there
//! is room is decided before anything is changed, by [`Layout::check_room`] alone.

use super::layout::{Layout, Slot, even};
use super::{SlottedError, SlottedPage};
use crate::PageWriter;

/// Slots by which the arrays grow at least, room permitting.
const GROWTH: usize = 8;

impl Layout {
    /// Makes room for a slot and a cell of `bytes`, contiguous and behind the arrays. The header is not stored.
    pub(super) fn make_room(&mut self, page: &PageWriter<'_>, bytes: usize) -> Result<(), SlottedError> {
        self.check_room(1, bytes)?;
        let capacity = self.shape.capacity.max(even(self.shape.count + 1));
        if self.shape.arrays_end(capacity) + bytes > self.heap_start {
            self.compact(page)?;
        }
        if self.shape.count == self.shape.capacity {
            let capacity = self.grown_capacity(bytes);
            self.shape = self.shape.with_capacity(page, capacity)?;
        }
        Ok(())
    }

    /// As many more slots as cells of this size may still come, within a step that keeps the moves few.
    fn grown_capacity(&self, bytes: usize) -> usize {
        let capacity = self.shape.capacity;
        let entry = self.shape.entry_size();
        // At least two more entries fit: that was made sure of.
        let spare = self.free() - bytes - 2 * entry;
        let step = GROWTH.max(capacity / 8);
        let more = 2 + (spare / (entry + bytes)).min(step - 2);
        (capacity + (more & !1)).min(self.shape.max_capacity())
    }

    /// Rebuilds the heap without garbage, cells in key order, and leaves the arrays no spare room. The header is not stored.
    pub(super) fn compact(&mut self, page: &PageWriter<'_>) -> Result<(), SlottedError> {
        let area = SlottedPage::new(page.read(), self.shape.base);
        let mut live = 0;
        for slot in 0..self.shape.count {
            live += self.cell(page, slot)?.len();
        }
        if live != self.live {
            return Err(SlottedError::Malformed);
        }
        let mut heap = Vec::new();
        area.page().append_to(self.heap_start, self.limit - self.heap_start, &mut heap)?;
        let mut start = self.limit;
        for index in (0..self.shape.count).rev() {
            let slot = self.cell(page, index)?;
            start -= slot.len();
            let from = slot.offset - self.heap_start;
            page.put_bytes(start, &heap[from..from + slot.len()])?;
            let moved = self.slot(Slot { offset: start, ..slot });
            page.put_word(self.shape.slots_word() + index, moved.word())?;
        }
        page.zero(self.heap_start, start - self.heap_start)?;
        self.heap_start = start;
        self.shape = self.shape.with_capacity(page, even(self.shape.count))?;
        Ok(())
    }

    /// The cell of a slot, checked to lie in the heap.
    pub(super) fn cell(&self, page: &PageWriter<'_>, slot: usize) -> Result<Slot, SlottedError> {
        let slot = Slot::from_word(page.read().word(self.shape.slots_word() + slot)?);
        if slot.offset < self.heap_start || slot.offset + slot.len() > self.limit {
            return Err(SlottedError::Malformed);
        }
        Ok(slot)
    }
}
