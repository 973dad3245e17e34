//! Changing a slotted page.
//!
//! Invariant: an error of [`SlottedError::Full`] or [`SlottedError::OutOfRange`] has changed nothing. The header is stored
//! last, with the page header's swip array.

use std::ops::Range;

use super::alike::shared_with;
use super::layout::{Layout, MAX_AREA_END, Shape, Slot, SlottedForm, can_be_named};
use super::search::head_of;
use super::{SlottedError, SlottedPage};
use crate::PageWriter;

/// The slotted area of a page that the caller holds exclusively.
///
/// ```
/// use pagestone_page_format::slotted::{SlottedError, SlottedForm, SlottedWriter};
/// use pagestone_page_format::{PageId, PageKind, PageWriter};
/// use pagestone_sync::atomic::AtomicU64;
///
/// const BASE: usize = 32; // behind the page header; an owner with a header of its own begins further on
/// let words: Vec<AtomicU64> = (0..512).map(|_| AtomicU64::new(0)).collect();
/// let page = PageWriter::new(&words);
/// page.format(PageKind(200), PageId::new(7));
/// let area = SlottedWriter::new(page, BASE);
/// area.init(0, SlottedForm::default())?;
/// for key in ["pear", "apple", "quince"] {
///     let place = area.read().lower_bound(key.as_bytes())?;
///     area.insert(place.slot, key.as_bytes(), b"fruit", 0, None)?;
/// }
/// let found = area.read().lower_bound(b"pear")?;
/// assert!(found.found && found.slot == 1);
/// let mut value = Vec::new();
/// area.read().append_value(area.read().get(1)?, &mut value)?;
/// assert_eq!(value, b"fruit");
/// # Ok::<(), SlottedError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SlottedWriter<'a> {
    page: PageWriter<'a>,
    base: usize,
}

/// A cell that is to be put into a page.
#[derive(Clone, Copy, Debug)]
pub struct NewCell<'c> {
    /// The key, and behind it the value.
    pub bytes: &'c [u8],
    /// Bytes of the key.
    pub key_len: usize,
    /// The owner's flags, at most [`MAX_CELL_FLAGS`](super::MAX_CELL_FLAGS).
    pub flags: u8,
    /// Its link, if the area has one per slot.
    pub link: Option<u64>,
}

impl<'a> SlottedWriter<'a> {
    /// The area that begins at byte `base` of the page, a multiple of 8 behind all fixed headers.
    pub fn new(page: PageWriter<'a>, base: usize) -> Self {
        debug_assert!(base.is_multiple_of(8), "the slotted area begins at a word");
        Self { page, base }
    }

    /// The reading side.
    pub fn read(&self) -> SlottedPage<'a> {
        SlottedPage::new(self.page.read(), self.base)
    }

    fn load(&self) -> Result<Layout, SlottedError> {
        Layout::load(self.page.read(), self.base)
    }

    /// Makes everything from `base` to the page's end an area without cells, zeroed; its last `reserved_suffix` bytes are
    /// the owner's. The fixed links are zero. `OutOfRange` if the page is too small.
    pub fn init(&self, reserved_suffix: usize, form: SlottedForm) -> Result<(), SlottedError> {
        let len = self.page.read().len();
        let limit = len.checked_sub(reserved_suffix).ok_or(SlottedError::OutOfRange)?;
        let shape = Shape::empty(self.base, form);
        if shape.arrays_end(0) > limit || len > MAX_AREA_END {
            return Err(SlottedError::OutOfRange);
        }
        self.page.zero(self.base, len - self.base)?;
        Layout { shape, heap_start: limit, live: 0, limit }.store(&self.page)?;
        Ok(())
    }

    /// Gives the arrays room for `slots` in all at once, for an owner that knows how many will come.
    pub fn reserve_slots(&self, slots: usize) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        if slots > layout.shape.capacity {
            layout.check_room(slots - layout.shape.count, 0)?;
            let capacity = super::layout::even(slots);
            if layout.shape.arrays_end(capacity) > layout.heap_start {
                layout.compact(&self.page)?;
            }
            layout.shape = layout.shape.with_capacity(&self.page, capacity)?;
            layout.store(&self.page)?;
        }
        Ok(())
    }

    /// Puts a cell before `slot`, compacting if that makes the room. The caller chose the slot by
    /// [`SlottedPage::lower_bound`]. There must be a link exactly if the area has one per slot. `OutOfRange` for a key, a value or
    /// flags beyond [`MAX_CELL_KEY_LEN`](super::MAX_CELL_KEY_LEN), [`MAX_CELL_VALUE_LEN`](super::MAX_CELL_VALUE_LEN) and [`MAX_CELL_FLAGS`](super::MAX_CELL_FLAGS).
    pub fn insert(
        &self,
        slot: usize,
        key: &[u8],
        value: &[u8],
        flags: u8,
        link: Option<u64>,
    ) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        if slot > layout.shape.count
            || link.is_some() != (layout.shape.links_per_slot == 1)
            || !can_be_named(key.len(), value.len(), flags)
        {
            return Err(SlottedError::OutOfRange);
        }
        layout.make_room(&self.page, key.len() + value.len())?;
        let shared = match slot.checked_sub(1) {
            Some(before) => shared_with(&layout, &self.page, before, key)?,
            None => 0,
        };
        if slot < layout.shape.count {
            let shared = shared_with(&layout, &self.page, slot, key)?;
            self.set_shared(&layout, slot, shared)?;
        }
        let cell = self.put_cell(&mut layout, key, value)?;
        let cell = Slot { shared, flags, ..cell };
        layout.shape.insert_entry(&self.page, slot, head_of(key), cell.word(), link)?;
        layout.shape.count += 1;
        layout.store(&self.page)?;
        Ok(())
    }

    /// Puts cells behind all that there are, which their keys are above of: as [`SlottedWriter::insert`] would one by one, for whoever
    /// writes a page anew. After an error those before it are there.
    pub fn append<'c>(&self, cells: impl IntoIterator<Item = NewCell<'c>>) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        let appended = cells.into_iter().try_for_each(|cell| self.append_one(&mut layout, cell));
        layout.store(&self.page)?;
        appended
    }

    fn append_one(&self, layout: &mut Layout, cell: NewCell<'_>) -> Result<(), SlottedError> {
        let NewCell { bytes, key_len, flags, link } = cell;
        let (Some((key, value)), true) =
            (bytes.split_at_checked(key_len), link.is_some() == (layout.shape.links_per_slot == 1))
        else {
            return Err(SlottedError::OutOfRange);
        };
        if !can_be_named(key.len(), value.len(), flags) {
            return Err(SlottedError::OutOfRange);
        }
        layout.make_room(&self.page, bytes.len())?;
        let shared = match layout.shape.count.checked_sub(1) {
            Some(before) => shared_with(layout, &self.page, before, key)?,
            None => 0,
        };
        layout.heap_start -= bytes.len();
        layout.live += bytes.len();
        self.page.put_bytes(layout.heap_start, bytes)?;
        let (offset, key_len, value_len) = (layout.heap_start, key.len(), value.len());
        let slot = layout.slot(Slot { offset, key_len, value_len, shared, flags });
        layout.shape.append_entry(&self.page, head_of(key), slot.word(), link)?;
        layout.shape.count += 1;
        Ok(())
    }

    /// Writes what the key of a slot has in common with the one before it.
    fn set_shared(&self, layout: &Layout, slot: usize, shared: usize) -> Result<(), SlottedError> {
        let at = layout.shape.slots_word() + slot;
        let old = Slot::from_word(self.page.read().word(at)?);
        self.page.put_word(at, Slot { shared, ..old }.word())?;
        Ok(())
    }

    /// Writes a cell in front of the heap, where there is room for it. Its slot shares nothing yet, and has no flags.
    fn put_cell(&self, layout: &mut Layout, key: &[u8], value: &[u8]) -> Result<Slot, SlottedError> {
        let len = key.len() + value.len();
        layout.heap_start -= len;
        layout.live += len;
        self.page.put_bytes(layout.heap_start, key)?;
        self.page.put_bytes(layout.heap_start + key.len(), value)?;
        let (offset, key_len, value_len) = (layout.heap_start, key.len(), value.len());
        Ok(layout.slot(Slot { offset, key_len, value_len, shared: 0, flags: 0 }))
    }

    /// Zeroes a cell's bytes; what is gone is gone from the file as well.
    fn drop_cell(&self, layout: &mut Layout, cell: Slot) -> Result<(), SlottedError> {
        layout.live = layout.live.checked_sub(cell.len()).ok_or(SlottedError::Malformed)?;
        self.page.zero(cell.offset, cell.len())?;
        if cell.offset == layout.heap_start {
            layout.heap_start += cell.len();
        }
        Ok(())
    }

    /// Takes a cell out, with its link.
    pub fn remove(&self, slot: usize) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        if slot >= layout.shape.count {
            return Err(SlottedError::OutOfRange);
        }
        let cell = layout.cell(&self.page, slot)?;
        if slot + 1 < layout.shape.count {
            let shared = layout.shape.shared_without(self.page.read(), slot)?;
            self.set_shared(&layout, slot + 1, shared)?;
        }
        self.drop_cell(&mut layout, cell)?;
        layout.shape.remove_entry(&self.page, slot)?;
        layout.shape.count -= 1;
        self.store_shrunk(layout)
    }

    /// Takes out the cells from `from` on, with their links.
    pub fn truncate(&self, from: usize) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        if from > layout.shape.count {
            return Err(SlottedError::OutOfRange);
        }
        for slot in from..layout.shape.count {
            let cell = layout.cell(&self.page, slot)?;
            self.drop_cell(&mut layout, cell)?;
        }
        layout.shape.zero_entries(&self.page, from)?;
        layout.shape.count = from;
        self.store_shrunk(layout)
    }

    fn store_shrunk(&self, mut layout: Layout) -> Result<(), SlottedError> {
        if layout.shape.count == 0 {
            if layout.live != 0 {
                return Err(SlottedError::Malformed);
            }
            layout.heap_start = layout.limit;
        }
        layout.store(&self.page)?;
        Ok(())
    }

    /// Gives a cell another value and other flags: in place if the new value is no longer than the old one, else by writing
    /// the cell anew, compacting if that makes the room.
    pub fn update_value(&self, slot: usize, value: &[u8], flags: u8) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        if slot >= layout.shape.count || !can_be_named(0, value.len(), flags) {
            return Err(SlottedError::OutOfRange);
        }
        let old = layout.cell(&self.page, slot)?;
        let new = if value.len() <= old.value_len {
            self.overwrite(&mut layout, old, value)?
        } else {
            self.relocate(&mut layout, slot, old, value)?
        };
        let new = Slot { shared: old.shared, flags, ..new };
        self.page.put_word(layout.shape.slots_word() + slot, new.word())?;
        layout.store_header(&self.page)?;
        Ok(())
    }

    fn overwrite(&self, layout: &mut Layout, old: Slot, value: &[u8]) -> Result<Slot, SlottedError> {
        let at = old.offset + old.key_len;
        let shorter = old.value_len - value.len();
        layout.live = layout.live.checked_sub(shorter).ok_or(SlottedError::Malformed)?;
        self.page.put_bytes(at, value)?;
        self.page.zero(at + value.len(), shorter)?;
        Ok(layout.slot(Slot { value_len: value.len(), ..old }))
    }

    fn relocate(
        &self,
        layout: &mut Layout,
        slot: usize,
        old: Slot,
        value: &[u8],
    ) -> Result<Slot, SlottedError> {
        let needed = old.key_len + value.len();
        let free = layout.free_after_compaction() + old.len();
        if needed > free {
            return Err(SlottedError::Full { needed, free });
        }
        let mut key = Vec::new();
        self.page.read().append_to(old.offset, old.key_len, &mut key)?;
        self.drop_cell(layout, old)?;
        if needed > layout.free() {
            // An empty cell in its place, so that compaction sees no other bytes than those that live.
            let empty = layout.slot(Slot { key_len: 0, value_len: 0, ..old });
            self.page.put_word(layout.shape.slots_word() + slot, empty.word())?;
            layout.compact(&self.page)?;
        }
        self.put_cell(layout, &key, value)
    }

    /// Sets a link.
    pub fn set_link(&self, link: usize, raw: u64) -> Result<(), SlottedError> {
        let word = self.read().link_word(link).map_err(|_| SlottedError::OutOfRange)?;
        self.page.put_word(word, raw)?;
        Ok(())
    }

    /// Reclaims the garbage between the cells and the spare room in the arrays.
    pub fn compact(&self) -> Result<(), SlottedError> {
        let mut layout = self.load()?;
        layout.compact(&self.page)?;
        layout.store(&self.page)?;
        Ok(())
    }

    /// Appends the cells of `slots`, with their links, behind the last cell of `into`, another page's area with as many
    /// links per slot. If they do not all fit, none is copied.
    pub fn copy_range(&self, slots: Range<usize>, into: &SlottedWriter<'_>) -> Result<(), SlottedError> {
        let (from, to) = (self.load()?, into.load()?);
        if slots.start > slots.end
            || slots.end > from.shape.count
            || from.shape.links_per_slot != to.shape.links_per_slot
        {
            return Err(SlottedError::OutOfRange);
        }
        let mut bytes = 0;
        for slot in slots.clone() {
            bytes += from.cell(&self.page, slot)?.len();
        }
        to.check_room(slots.len(), bytes)?;
        let source = self.read();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (index, slot) in slots.enumerate() {
            let cell = source.get(slot)?;
            key.clear();
            value.clear();
            source.append_key(cell, &mut key)?;
            source.append_value(cell, &mut value)?;
            let link = match from.shape.links_per_slot {
                0 => None,
                _ => Some(source.slot_link(slot)?),
            };
            into.insert(to.shape.count + index, &key, &value, cell.flags, link)?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_sync::atomic::AtomicU64;

    use super::*;

    const BASE: usize = 48;

    fn page() -> Vec<AtomicU64> {
        (0..512).map(|_| AtomicU64::new(0)).collect()
    }

    fn bytes(words: &[AtomicU64]) -> Vec<u8> {
        let mut out = vec![0; words.len() * 8];
        PageWriter::new(words).read().copy_out(&mut out);
        out
    }

    #[test]
    fn what_is_appended_is_as_if_inserted_and_what_does_not_fit_is_refused() {
        for (linked, reserved) in [(false, true), (true, true), (false, false), (true, false)] {
            let cells: Vec<(Vec<u8>, usize)> = (0..23_u8)
                .map(|at| {
                    let key_len = usize::from(at % 9) + 1;
                    let mut bytes = vec![at; key_len + usize::from(at % 5) * 11];
                    bytes[0] = at;
                    (bytes, key_len)
                })
                .collect();
            let link = |at: usize| linked.then_some(1000 + at as u64);
            let (one_by_one, together) = (page(), page());
            let areas =
                [&one_by_one, &together].map(|words| SlottedWriter::new(PageWriter::new(words), BASE));
            for area in &areas {
                area.init(40, SlottedForm { fixed_links: 2, links_per_slot: linked, hints: linked })
                    .expect("an area");
                if reserved {
                    area.reserve_slots(cells.len()).expect("room");
                }
            }
            for (at, (bytes, key_len)) in cells.iter().enumerate() {
                let (key, value) = bytes.split_at(*key_len);
                areas[0].insert(at, key, value, at as u8 % 8, link(at)).expect("room");
            }
            let of = |(at, (bytes, key_len)): (usize, &(Vec<u8>, usize))| NewCell {
                bytes: &cells[at].0[..bytes.len()],
                key_len: *key_len,
                flags: at as u8 % 8,
                link: link(at),
            };
            areas[1].append(cells.iter().enumerate().map(of)).expect("room");
            areas[1].read().check().expect("an area that is whole");
            assert!(bytes(&one_by_one) == bytes(&together), "{linked}, {reserved}");
            // Of two more the first fits.
            let long = [vec![100; 60], vec![101; 4000]];
            let more = long.iter().map(|bytes| NewCell { bytes, key_len: 60, flags: 0, link: link(0) });
            assert!(matches!(areas[1].append(more), Err(SlottedError::Full { .. })));
            areas[1].read().check().expect("still whole");
            assert_eq!(areas[1].read().count(), Ok(cells.len() + 1));
            let wrong = NewCell { bytes: &[102], key_len: 2, flags: 0, link: link(0) };
            assert_eq!(areas[1].append([wrong]), Err(SlottedError::OutOfRange));
            let unlinked = NewCell { bytes: &[102], key_len: 1, flags: 0, link: (!linked).then_some(1) };
            assert_eq!(areas[1].append([unlinked]), Err(SlottedError::OutOfRange));
        }
    }
}
