//! The invariants of `mod.rs`, asked of one page: for `verify`, where nobody is changing it.

use std::cmp::Ordering;

use super::alike::shared_by;
use super::search::head_of;
use super::{SlottedError, SlottedPage};

impl SlottedPage<'_> {
    /// Whether every invariant of the layout holds: bounds, sums, heads, hints, what keys share, ascending keys, cells apart from each other.
    pub fn check(&self) -> Result<(), SlottedError> {
        let layout = super::layout::Layout::load(self.page, self.base)?;
        if layout.shape.hints == 1 {
            let hints = layout.shape.hints(|index| self.page.word(index))?;
            for (word, at) in hints.into_iter().zip(layout.shape.hints_word()..) {
                if self.page.word(at)? != word {
                    return Err(SlottedError::Malformed);
                }
            }
        }
        let mut cells = Vec::new();
        let (mut last, mut key) = (Vec::new(), Vec::new());
        for slot in 0..layout.shape.count {
            let cell = self.cell(&layout.shape, slot)?;
            key.clear();
            self.append_key(cell, &mut key)?;
            let head = self.page.word(layout.shape.heads_word() + slot / 2)? >> (32 * (slot % 2));
            let rises = slot == 0 || last.cmp(&key) == Ordering::Less;
            let shared = if slot == 0 { 0 } else { shared_by(&last, &key) };
            let slot = layout.shape.slot(self.page, slot)?;
            if !rises || head as u32 != head_of(&key) || slot.shared != shared {
                return Err(SlottedError::Malformed);
            }
            std::mem::swap(&mut last, &mut key);
            cells.push(cell.offset..cell.value_range().end);
        }
        let live: usize = cells.iter().map(|cell| cell.len()).sum();
        cells.retain(|cell| !cell.is_empty());
        cells.sort_by_key(|cell| cell.start);
        let inside = cells.iter().all(|cell| cell.start >= layout.heap_start && cell.end <= layout.limit);
        let apart = cells.windows(2).all(|pair| pair[0].end <= pair[1].start);
        if live != layout.live || !inside || !apart {
            return Err(SlottedError::Malformed);
        }
        Ok(())
    }
}
