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
/// The longest key of a cell, in bytes.
pub const MAX_CELL_KEY_LEN: usize = (1 << KEY_LEN_BITS) - 1;
/// The longest value of a cell, in bytes.
pub const MAX_CELL_VALUE_LEN: usize = (1 << VALUE_LEN_BITS) - 1;
/// The greatest flags of a cell.
pub const MAX_CELL_FLAGS: u8 = (1 << FLAG_BITS) - 1;
/// Where an area can end at most: slots name offsets with so many bits.
pub(super) const MAX_AREA_END: usize = (1 << OFFSET_BITS) - 1;
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

    /// The head of a slot, which may be one past the last.
    #[inline(always)]
    pub(super) fn head(&self, page: SpeculativePage<'_>, slot: usize) -> Result<u32, OutOfBounds> {
        Ok((page.word(self.heads_word() + slot / 2)? >> (32 * (slot % 2))) as u32)
    }

    /// A slot, which may be one past the last.
    #[inline(always)]
    pub(super) fn slot(&self, page: SpeculativePage<'_>, slot: usize) -> Result<Slot, OutOfBounds> {
        Ok(Slot::from_word(page.word(self.slots_word() + slot)?))
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

    /// The slot as it should be. One of a cell without bytes stands at the limit, so that it is in the heap wherever that begins.
    pub(super) fn slot(&self, slot: Slot) -> Slot {
        if slot.len() == 0 { Slot { offset: self.limit, ..slot } } else { slot }
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

/// What a slot's word is made of, from bit 0 up.
const OFFSET_BITS: u32 = 21;
const KEY_LEN_BITS: u32 = 14;
const VALUE_LEN_BITS: u32 = 16;
const SHARED_BITS: u32 = 10;
const FLAG_BITS: u32 = 3;
const KEY_LEN_AT: u32 = OFFSET_BITS;
const VALUE_LEN_AT: u32 = KEY_LEN_AT + KEY_LEN_BITS;
const SHARED_AT: u32 = VALUE_LEN_AT + VALUE_LEN_BITS;
const FLAGS_AT: u32 = SHARED_AT + SHARED_BITS;
const _: () = assert!(FLAGS_AT + FLAG_BITS == u64::BITS);

/// Whether a slot has the bits for such a cell.
#[inline]
pub(super) fn can_be_named(key_len: usize, value_len: usize, flags: u8) -> bool {
    key_len <= MAX_CELL_KEY_LEN && value_len <= MAX_CELL_VALUE_LEN && flags <= MAX_CELL_FLAGS
}

/// What [`Slot::shared`] is for so many bits or more, and for keys that do not differ once zeros are put behind them.
pub(super) const SHARED_MANY: usize = (1 << SHARED_BITS) - 1;

/// A slot word taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub(super) offset: usize,
    pub(super) key_len: usize,
    pub(super) value_len: usize,
    /// 1, and the bits behind the head that the key has in common with the key before it, if both have the same head; else 0.
    pub(super) shared: usize,
    pub(super) flags: u8,
}

impl Slot {
    /// The bits of a slot's word in which the flags stand.
    pub(super) const FLAGS: u64 = u64::MAX << FLAGS_AT;

    #[inline(always)]
    pub(super) fn shared_of(word: u64) -> usize {
        (word >> SHARED_AT) as usize & SHARED_MANY
    }

    #[inline]
    pub(super) fn from_word(word: u64) -> Self {
        let part = |at: u32, bits: u32| (word >> at) as usize & ((1 << bits) - 1);
        Self {
            offset: part(0, OFFSET_BITS),
            key_len: part(KEY_LEN_AT, KEY_LEN_BITS),
            value_len: part(VALUE_LEN_AT, VALUE_LEN_BITS),
            shared: Self::shared_of(word),
            flags: (word >> FLAGS_AT) as u8,
        }
    }

    pub(super) fn word(&self) -> u64 {
        self.offset as u64
            | (self.key_len as u64) << KEY_LEN_AT
            | (self.value_len as u64) << VALUE_LEN_AT
            | (self.shared as u64) << SHARED_AT
            | u64::from(self.flags) << FLAGS_AT
    }

    pub(super) fn len(&self) -> usize {
        self.key_len + self.value_len
    }
}
