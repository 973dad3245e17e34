//! Reading a slotted page, also while somebody changes it.
//!
//! Invariant: no method panics, loops without a bound, or reads outside the page, whatever the bytes are.

use std::cmp::Ordering;
use std::ops::Range;

use super::layout::{Layout, Shape, Slot, SlottedForm};
use crate::racing::LINE_WORDS;
use crate::{OutOfBounds, SpeculativePage};

/// Where a cell's key and value stand; both lie inside the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// Byte offset of the key; the value follows it.
    pub offset: usize,
    /// Bytes of the key.
    pub key_len: usize,
    /// Bytes of the value.
    pub value_len: usize,
    /// The owner's flags.
    pub flags: u8,
}

impl Cell {
    /// The bits of a slot's word in which the owner's flags stand: for who has a copy of the slots and asks whether any has flags.
    pub const FLAGS_OF_WORD: u64 = Slot::FLAGS;

    /// The key's bytes in the page.
    #[inline]
    pub fn key_range(&self) -> Range<usize> {
        self.offset..self.offset + self.key_len
    }

    /// The value's bytes in the page.
    #[inline]
    pub fn value_range(&self) -> Range<usize> {
        let start = self.offset + self.key_len;
        start..start + self.value_len
    }

    /// What a slot's word says, in a page of so many bytes: for who has a copy of the page, and where its slots stand in it
    /// ([`LoadedSlots::slots_at`]).
    #[inline]
    pub fn of_word(word: u64, page_len: usize) -> Result<Self, OutOfBounds> {
        let Slot { offset, key_len, value_len, flags, .. } = Slot::from_word(word);
        if offset + key_len + value_len > page_len {
            return Err(OutOfBounds);
        }
        Ok(Self { offset, key_len, value_len, flags })
    }
}

/// The slotted area of a page, to read.
#[derive(Clone, Copy, Debug)]
pub struct SlottedPage<'a> {
    pub(super) page: SpeculativePage<'a>,
    pub(super) base: usize,
}

/// A slotted area whose header was loaded: what it says of the number of entries, and of where they stand, is of one instant.
///
/// It is kept as it stands in the page, in few words, so that it is cheap to hand on.
#[derive(Clone, Copy, Debug)]
pub struct LoadedSlots<'a> {
    pub(super) page: SpeculativePage<'a>,
    pub(super) base: usize,
    /// The first word of the header; [`Shape::from_word`] did not refuse it.
    word: u64,
}

impl<'a> LoadedSlots<'a> {
    /// The page's bytes.
    #[inline]
    pub fn page(&self) -> SpeculativePage<'a> {
        self.page
    }

    #[inline]
    pub(super) fn shape(&self) -> Shape {
        Shape::unchecked(self.base, self.word)
    }

    /// Number of cells.
    #[inline]
    pub fn count(&self) -> usize {
        self.shape().count
    }

    /// The cell of a slot. A slot past the last is an error.
    #[inline]
    pub fn get(&self, slot: usize) -> Result<Cell, OutOfBounds> {
        if slot >= self.count() {
            return Err(OutOfBounds);
        }
        self.cell(slot)
    }

    #[inline(always)]
    pub(super) fn cell(&self, slot: usize) -> Result<Cell, OutOfBounds> {
        cell(self.page, &self.shape(), slot)
    }

    /// Asks the processor for the lines of a slot's cell, the first four of them, for who will compare its key and copy its value soon.
    /// Nothing for a slot past the last, or a cell outside the page.
    #[inline]
    pub fn prefetch_cell(&self, slot: usize) {
        if let Ok(Cell { offset, key_len, value_len, .. }) = self.get(slot) {
            let (first, last) = (offset / 8, (offset + key_len + value_len).saturating_sub(1) / 8);
            for line in 0..4 {
                self.page.prefetch((first + line * LINE_WORDS).min(last));
            }
        }
    }

    /// Where the slots stand: the byte offset of the first of their words, one of eight bytes for each cell.
    #[inline]
    pub fn slots_at(&self) -> usize {
        self.shape().slots_word() * 8
    }

    /// Replaces the contents of `out` by a cell's value. On an error `out` stays as it was.
    #[inline]
    pub fn copy_value(&self, cell: Cell, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        self.page.copy_to(cell.offset + cell.key_len, cell.value_len, out)
    }

    /// Index of the page's word that holds a link.
    #[inline(always)]
    pub fn link_word(&self, link: usize) -> Result<usize, OutOfBounds> {
        let shape = self.shape();
        if link >= shape.link_count() {
            return Err(OutOfBounds);
        }
        Ok(shape.links_word() + link)
    }

    /// A link, raw.
    #[inline(always)]
    pub fn link(&self, link: usize) -> Result<u64, OutOfBounds> {
        self.page.word(self.link_word(link)?)
    }
}

/// The cell of a slot, which may be one past the last.
#[inline(always)]
fn cell(page: SpeculativePage<'_>, shape: &Shape, slot: usize) -> Result<Cell, OutOfBounds> {
    Cell::of_word(page.word(shape.slots_word() + slot)?, page.len())
}

impl<'a> SlottedPage<'a> {
    /// The area that begins at byte `base` of the page, a multiple of 8 behind all fixed headers.
    #[inline]
    pub fn new(page: SpeculativePage<'a>, base: usize) -> Self {
        debug_assert!(base.is_multiple_of(8), "the slotted area begins at a word");
        Self { page, base }
    }

    /// The page's bytes.
    pub fn page(&self) -> SpeculativePage<'a> {
        self.page
    }

    #[inline]
    pub(super) fn shape(&self) -> Result<Shape, OutOfBounds> {
        Shape::load(self.page, self.base)
    }

    /// The area as its header says now, loaded once: for who asks it several questions.
    #[inline]
    pub fn load(&self) -> Result<LoadedSlots<'a>, OutOfBounds> {
        let word = self.page.word(self.base / 8)?;
        Shape::from_word(self.base, word)?;
        Ok(LoadedSlots { page: self.page, base: self.base, word })
    }

    /// Number of cells.
    #[inline]
    pub fn count(&self) -> Result<usize, OutOfBounds> {
        Ok(self.shape()?.count)
    }

    /// The cell of a slot. A slot past the last is an error.
    #[inline]
    pub fn get(&self, slot: usize) -> Result<Cell, OutOfBounds> {
        self.load()?.get(slot)
    }

    #[inline]
    pub(super) fn cell(&self, shape: &Shape, slot: usize) -> Result<Cell, OutOfBounds> {
        cell(self.page, shape, slot)
    }

    /// Appends a cell's key to `out`. On an error `out` may have grown.
    #[inline]
    pub fn append_key(&self, cell: Cell, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        self.page.append_to(cell.offset, cell.key_len, out)
    }

    /// Appends a cell's value to `out`. On an error `out` may have grown.
    #[inline]
    pub fn append_value(&self, cell: Cell, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        self.page.append_to(cell.offset + cell.key_len, cell.value_len, out)
    }

    /// Compares a cell's key with `key`.
    #[inline]
    pub fn compare_key(&self, cell: Cell, key: &[u8]) -> Result<Ordering, OutOfBounds> {
        self.page.compare(cell.offset, cell.key_len, key)
    }

    /// What it consists of, as it was made.
    pub fn form(&self) -> Result<SlottedForm, OutOfBounds> {
        Ok(self.shape()?.form())
    }

    /// Number of links: the fixed ones, then one per slot if this page has those.
    pub fn link_count(&self) -> Result<usize, OutOfBounds> {
        Ok(self.shape()?.link_count())
    }

    /// Index of the page's word that holds a link.
    #[inline]
    pub fn link_word(&self, link: usize) -> Result<usize, OutOfBounds> {
        self.load()?.link_word(link)
    }

    /// A link, raw.
    #[inline]
    pub fn link(&self, link: usize) -> Result<u64, OutOfBounds> {
        self.load()?.link(link)
    }

    /// The link of a slot, raw.
    pub fn slot_link(&self, slot: usize) -> Result<u64, OutOfBounds> {
        let shape = self.shape()?;
        if shape.links_per_slot == 0 || slot >= shape.count {
            return Err(OutOfBounds);
        }
        self.page.word(shape.links_word() + shape.fixed_links + slot)
    }

    pub(super) fn layout(&self) -> Result<Layout, OutOfBounds> {
        Layout::load(self.page, self.base).map_err(|_| OutOfBounds)
    }

    /// Bytes of keys and values.
    pub fn live_bytes(&self) -> Result<usize, OutOfBounds> {
        Ok(self.layout()?.live)
    }

    /// Contiguous free bytes between the arrays and the cells.
    pub fn free_space(&self) -> Result<usize, OutOfBounds> {
        Ok(self.layout()?.free())
    }

    /// What [`SlottedPage::free_space`] is after compaction.
    pub fn free_space_after_compaction(&self) -> Result<usize, OutOfBounds> {
        Ok(self.layout()?.free_after_compaction())
    }

    /// Whether `slots` more cells, of `bytes` key and value bytes in all, fit: then inserting them succeeds.
    pub fn has_room(&self, slots: usize, bytes: usize) -> Result<bool, OutOfBounds> {
        Ok(self.layout()?.check_room(slots, bytes).is_ok())
    }

    /// Bytes from the area's beginning that `slots` cells of `bytes` key and value bytes in all take, in an area of that form, when
    /// there is nothing else.
    pub fn bytes_taken(slots: usize, bytes: usize, form: SlottedForm) -> usize {
        Shape::empty(0, form).arrays_end(super::layout::even(slots)) + bytes
    }

    /// The bytes of the reserved suffix.
    pub fn reserved_suffix(&self) -> Result<Range<usize>, OutOfBounds> {
        Ok(self.layout()?.limit..self.page.len())
    }
}
