//! The slotted header taken apart, and where everything stands.
//!
//! Invariant: a [`Layout`] that was loaded satisfies the inequalities in `mod.rs`, whatever the bytes were. A [`Shape`] is
//! what a reader needs of it, loaded from one word, so that a racing reader sees one instant of it.

use super::SlottedError;
use crate::{OutOfBounds, PageWriter, SpeculativePage, SwipArray};

/// Bytes of the slotted header.
pub const SLOTTED_HEADER_SIZE: usize = 24;
/// The most slots that a page can have.
pub const MAX_SLOTS: usize = (u16::MAX - 1) as usize;
/// The longest key, and the longest value, of a cell, in bytes.
pub const MAX_CELL_PART_LEN: usize = u16::MAX as usize;
/// Where an area can end at most: slots name offsets with 24 bits.
pub(super) const MAX_AREA_END: usize = (1 << 24) - 1;
const _: () = assert!(crate::MAX_PAGE_SIZE <= MAX_AREA_END);

/// What an area consists of beside heads, slots and cells. It is the same for the area's whole life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlottedForm {
    /// Links that are there whatever the slots are.
    pub fixed_links: u8,
    /// One more link for each slot.
    pub links_per_slot: bool,
    /// [`HINTS`] of the heads once more, in front of them: 64 bytes with which a search in many slots touches two or three lines. Few
    /// slots (some dozens) are found as fast without.
    pub hints: bool,
}

/// Hints in front of the heads of an area that has them.
pub const HINTS: usize = 16;
/// Words of the hints, two in each.
pub(super) const HINT_WORDS: usize = HINTS / 2;

const HEAD_SIZE: usize = 4;
const SLOT_SIZE: usize = 8;
const LINK_SIZE: usize = 8;

/// What the first word says: how many entries there are, and where the arrays stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) base: usize,
    pub(super) count: usize,
    /// Even.
    pub(super) capacity: usize,
    pub(super) fixed_links: usize,
    /// 0 or 1.
    pub(super) links_per_slot: usize,
    /// 0 or 1.
    pub(super) hints: usize,
}

impl Shape {
    /// Without any cell.
    pub(super) fn empty(base: usize, form: SlottedForm) -> Self {
        Self {
            base,
            count: 0,
            capacity: 0,
            fixed_links: form.fixed_links.into(),
            links_per_slot: form.links_per_slot.into(),
            hints: form.hints.into(),
        }
    }

    pub(super) fn form(&self) -> SlottedForm {
        SlottedForm {
            fixed_links: self.fixed_links as u8, // it was eight bits
            links_per_slot: self.links_per_slot == 1,
            hints: self.hints == 1,
        }
    }

    /// From the first word of the header. What contradicts itself is refused.
    #[inline]
    pub(super) fn load(page: SpeculativePage<'_>, base: usize) -> Result<Self, OutOfBounds> {
        Self::from_word(base, page.word(base / 8)?)
    }

    /// As [`Shape::load`], from that word.
    #[inline]
    pub(super) fn from_word(base: usize, word: u64) -> Result<Self, OutOfBounds> {
        let shape = Self::unchecked(base, word);
        let flags = shape.links_per_slot | shape.hints;
        if shape.count > shape.capacity || !shape.capacity.is_multiple_of(2) || flags > 1 {
            return Err(OutOfBounds);
        }
        Ok(shape)
    }

    /// As [`Shape::from_word`], of a word that it has not refused before.
    #[inline]
    pub(super) fn unchecked(base: usize, word: u64) -> Self {
        Self {
            base,
            count: word as u16 as usize,
            capacity: (word >> 16) as u16 as usize,
            fixed_links: (word >> 32) as u8 as usize,
            links_per_slot: (word >> 40) as u8 as usize,
            hints: (word >> 48) as u8 as usize,
        }
    }

    pub(super) fn word(&self) -> u64 {
        self.count as u64
            | (self.capacity as u64) << 16
            | (self.fixed_links as u64) << 32
            | (self.links_per_slot as u64) << 40
            | (self.hints as u64) << 48
    }

    /// Index of the first word of the hints, if there are any; else of the heads.
    #[inline]
    pub(super) fn hints_word(&self) -> usize {
        (self.base + SLOTTED_HEADER_SIZE) / 8
    }

    /// Index of the first word of the heads.
    #[inline]
    pub(super) fn heads_word(&self) -> usize {
        self.hints_word() + HINT_WORDS * self.hints
    }

    /// Index of the first word of the slots.
    #[inline]
    pub(super) fn slots_word(&self) -> usize {
        self.heads_word() + self.capacity / 2
    }

    /// Index of the first word of the links.
    #[inline]
    pub(super) fn links_word(&self) -> usize {
        self.slots_word() + self.capacity
    }

    /// Links that there are.
    #[inline]
    pub(super) fn link_count(&self) -> usize {
        self.fixed_links + self.links_per_slot * self.count
    }

    /// Where the links stand, for the page header.
    pub(super) fn swips(&self) -> Result<SwipArray, OutOfBounds> {
        let count = self.link_count();
        let at = if count == 0 { 0 } else { self.links_word() };
        let (Ok(at_word), Ok(count)) = (at.try_into(), count.try_into()) else { return Err(OutOfBounds) };
        Ok(SwipArray { at_word, count })
    }

    /// Bytes that one more slot takes in the arrays.
    pub(super) fn entry_size(&self) -> usize {
        HEAD_SIZE + SLOT_SIZE + LINK_SIZE * self.links_per_slot
    }

    /// Where the arrays end, in bytes, if they have room for `capacity` slots.
    pub(super) fn arrays_end(&self, capacity: usize) -> usize {
        self.heads_word() * 8 + LINK_SIZE * self.fixed_links + self.entry_size() * capacity
    }

    /// The greatest capacity whose numbers and whose links the headers can still name.
    pub(super) fn max_capacity(&self) -> usize {
        if self.fixed_links + self.links_per_slot == 0 {
            return MAX_SLOTS;
        }
        let words = usize::from(u16::MAX).saturating_sub(self.heads_word());
        let links = (usize::from(u16::MAX) - self.fixed_links) * self.links_per_slot
            + MAX_SLOTS * (1 - self.links_per_slot);
        (words / 3 * 2).min(links).min(MAX_SLOTS) & !1
    }
}

/// The whole header, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) shape: Shape,
    pub(super) heap_start: usize,
    pub(super) live: usize,
    pub(super) limit: usize,
}

impl Layout {
    /// Loads and checks the header.
    pub(super) fn load(page: SpeculativePage<'_>, base: usize) -> Result<Self, SlottedError> {
        let shape = Shape::load(page, base)?;
        let heap = page.word(base / 8 + 1)?;
        let limit = page.word(base / 8 + 2)?;
        let layout = Self {
            shape,
            heap_start: heap as u32 as usize,
            live: (heap >> 32) as usize,
            limit: limit as u32 as usize,
        };
        let arrays_end = shape.arrays_end(shape.capacity);
        if arrays_end > layout.heap_start
            || layout.heap_start > layout.limit
            || layout.limit > page.len()
            || layout.live > layout.limit - layout.heap_start
            || shape.capacity > shape.max_capacity()
        {
            return Err(SlottedError::Malformed);
        }
        Ok(layout)
    }

    /// Stores the header, and tells the page header where the links stand. The hints follow the heads.
    pub(super) fn store(&self, page: &PageWriter<'_>) -> Result<(), OutOfBounds> {
        self.shape.store_hints(page)?;
        self.store_header(page)
    }

    /// As [`Layout::store`], after a change that no head had a part in.
    pub(super) fn store_header(&self, page: &PageWriter<'_>) -> Result<(), OutOfBounds> {
        let first = self.shape.base / 8;
        page.put_word(first, self.shape.word())?;
        page.put_word(first + 1, self.heap_start as u64 | (self.live as u64) << 32)?;
        page.put_word(first + 2, self.limit as u64)?;
        page.set_swips(self.shape.swips()?)
    }

    /// Bytes between the arrays and the heap.
    pub(super) fn free(&self) -> usize {
        self.heap_start - self.shape.arrays_end(self.shape.capacity)
    }

    /// What [`Layout::free`] is after compaction.
    pub(super) fn free_after_compaction(&self) -> usize {
        // Never negative: the arrays only shrink, and the live bytes are in the heap.
        self.limit - self.live - self.shape.arrays_end(even(self.shape.count))
    }

    /// Bytes of [`Layout::free_after_compaction`] that `slots` more cells of `bytes` in all need.
    pub(super) fn needed(&self, slots: usize, bytes: usize) -> usize {
        let more = even(self.shape.count + slots) - even(self.shape.count);
        self.shape.entry_size() * more + bytes
    }

    /// The slot of a cell. One without bytes stands at the limit, so that it is in the heap wherever that begins.
    pub(super) fn slot(&self, offset: usize, key_len: usize, value_len: usize, flags: u8) -> Slot {
        let offset = if key_len + value_len == 0 { self.limit } else { offset };
        Slot { offset, key_len, value_len, flags }
    }

    /// Refuses what does not fit, not even after compaction.
    pub(super) fn check_room(&self, slots: usize, bytes: usize) -> Result<(), SlottedError> {
        let (needed, free) = (self.needed(slots, bytes), self.free_after_compaction());
        if needed > free || even(self.shape.count + slots) > self.shape.max_capacity() {
            return Err(SlottedError::Full { needed, free });
        }
        Ok(())
    }
}

/// The least capacity for so many slots.
pub(super) fn even(count: usize) -> usize {
    count.next_multiple_of(2)
}

/// A slot word taken apart.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) offset: usize,
    pub(super) key_len: usize,
    pub(super) value_len: usize,
    pub(super) flags: u8,
}

impl Slot {
    #[inline]
    pub(super) fn from_word(word: u64) -> Self {
        Self {
            offset: (word & 0xff_ffff) as usize,
            key_len: (word >> 24) as u16 as usize,
            value_len: (word >> 40) as u16 as usize,
            flags: (word >> 56) as u8,
        }
    }

    pub(super) fn word(&self) -> u64 {
        self.offset as u64
            | (self.key_len as u64) << 24
            | (self.value_len as u64) << 40
            | u64::from(self.flags) << 56
    }

    pub(super) fn len(&self) -> usize {
        self.key_len + self.value_len
    }
}
