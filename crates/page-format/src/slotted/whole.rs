//! An area that is written whole, into memory that nobody else sees.
//!
//! Invariant: the bytes are those that a [`SlottedWriter`](super::SlottedWriter) leaves which was told how many cells come and appends them.
//!
//! ```text
//!   hints, heads, slots, links: one pass, front to back ─►│ zeros │◄─ cells, the first at the limit
//! ```
//!
//! Who writes into a page that others may look at stores word by word. Who makes pages by the thousand, to be written to a file, need not.

use super::alike::shared_by;
use super::layout::{MAX_AREA_END, SLOTTED_HEADER_SIZE, Shape, Slot, can_be_named, even};
use super::search::head_of;
use super::{NewCell, SlottedError, SlottedForm};
use crate::SwipArray;

/// Writes an area from byte `base` of a page to its end, but for the last `reserved_suffix` bytes, which stay as they are: its fixed links,
/// as many as the form says, and the cells, in key order. Gives what the page's header has to say of the links.
///
/// Errors: `Full` if there is no room; `OutOfRange` if a cell, the number of links or the area is none that an area can have, or fewer or more
/// cells come than were announced. After an error the area means nothing.
///
/// ```
/// use pagestone_page_format::slotted::{NewCell, SlottedForm, write_area};
///
/// let mut page = vec![0xee; 4096];
/// let cells = ["apple", "pear"].map(|key| NewCell { bytes: key.as_bytes(), key_len: key.len(), flags: 0, link: None });
/// let links = write_area(&mut page, 32, 0, SlottedForm::default(), &[], cells.into_iter())?;
/// assert_eq!(links.count, 0);
/// assert_eq!(&page[4096 - 9..], b"pearapple");
/// # Ok::<(), pagestone_page_format::slotted::SlottedError>(())
/// ```
pub fn write_area<'c>(
    page: &mut [u8],
    base: usize,
    reserved_suffix: usize,
    form: SlottedForm,
    fixed_links: &[u64],
    cells: impl ExactSizeIterator<Item = NewCell<'c>>,
) -> Result<SwipArray, SlottedError> {
    let empty = Shape::empty(base, form);
    let (count, len) = (cells.len(), page.len());
    let limit = len.checked_sub(reserved_suffix).ok_or(SlottedError::OutOfRange)?;
    if fixed_links.len() != empty.fixed_links || len > MAX_AREA_END || !base.is_multiple_of(8) {
        return Err(SlottedError::OutOfRange);
    }
    let shape = Shape { count, capacity: even(count), ..empty };
    let arrays_end = shape.arrays_end(shape.capacity);
    if arrays_end > limit || shape.capacity > shape.max_capacity() {
        let free = limit.saturating_sub(empty.arrays_end(0));
        return Err(SlottedError::Full { needed: arrays_end - empty.arrays_end(0), free });
    }
    let (arrays, heap) = page[..limit].split_at_mut(arrays_end);
    let (live, links) = write_cells(shape, arrays, heap, cells)?;
    heap[..limit - arrays_end - live].fill(0);

    let (fixed, behind) = arrays[shape.links_word() * 8..].split_at_mut(8 * fixed_links.len());
    put_words(fixed, fixed_links);
    if form.links_per_slot {
        behind[8 * links..].fill(0);
    }
    let header = [shape.word(), (limit - live) as u64 | (live as u64) << 32, limit as u64];
    put_words(&mut arrays[base..base + SLOTTED_HEADER_SIZE], &header);
    if form.hints {
        let head_word = |index: usize| {
            arrays[8 * index..].first_chunk().map(|word| u64::from_le_bytes(*word)).ok_or(crate::OutOfBounds)
        };
        let hints = shape.hints(head_word)?;
        put_words(&mut arrays[8 * shape.hints_word()..], &hints);
    }
    shape.swips().map_err(|_| SlottedError::OutOfRange)
}

/// Writes the cells with their entries in the arrays; gives their bytes, and how many they are.
fn write_cells<'c>(
    shape: Shape,
    arrays: &mut [u8],
    heap: &mut [u8],
    cells: impl Iterator<Item = NewCell<'c>>,
) -> Result<(usize, usize), SlottedError> {
    let heap_at = arrays.len();
    let limit = heap_at + heap.len();
    let (slots_at, links_at) = (8 * shape.slots_word(), 8 * shape.links_word());
    let (front, links) = arrays.split_at_mut(links_at);
    let (front, slots) = front.split_at_mut(slots_at);
    let heads = front[8 * shape.heads_word()..].as_chunks_mut::<4>().0;
    let slots = slots.as_chunks_mut::<8>().0;
    let links = links[8 * shape.fixed_links..].as_chunks_mut::<8>().0;
    let (mut start, mut at) = (heap.len(), 0);
    let mut before: Option<&[u8]> = None;
    for NewCell { bytes, key_len, flags, link } in cells {
        let value_len = bytes.len().checked_sub(key_len).ok_or(SlottedError::OutOfRange)?;
        if !can_be_named(key_len, value_len, flags) || at == shape.count {
            return Err(SlottedError::OutOfRange);
        }
        let full = SlottedError::Full { needed: bytes.len(), free: start };
        start = start.checked_sub(bytes.len()).ok_or(full)?;
        heap[start..start + bytes.len()].copy_from_slice(bytes);
        // One without bytes stands at the limit.
        let offset = if bytes.is_empty() { limit } else { heap_at + start };
        let key = &bytes[..key_len];
        let shared = before.map_or(0, |before| shared_by(before, key));
        heads[at] = head_of(key).to_le_bytes();
        slots[at] = Slot { offset, key_len, value_len, shared, flags }.word().to_le_bytes();
        before = Some(key);
        match (link, shape.links_per_slot) {
            (Some(link), 1) => links[at] = link.to_le_bytes(),
            (None, 0) => {}
            _ => return Err(SlottedError::OutOfRange),
        }
        at += 1;
    }
    if at < shape.count {
        return Err(SlottedError::OutOfRange);
    }
    heads[at..].iter_mut().for_each(|head| *head = [0; 4]);
    slots[at..].iter_mut().for_each(|slot| *slot = [0; 8]);
    Ok((heap.len() - start, at))
}

fn put_words(bytes: &mut [u8], words: &[u64]) {
    for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_sync::atomic::AtomicU64;
    use proptest::prelude::*;

    use super::*;
    use crate::slotted::SlottedWriter;
    use crate::{PageHeader, PageId, PageKind, PageWriter};

    const BASE: usize = 48;

    /// The page that a writer makes of them, or its error.
    fn appended(
        len: usize,
        suffix: usize,
        form: SlottedForm,
        fixed: &[u64],
        cells: &[NewCell<'_>],
    ) -> Result<Vec<u8>, SlottedError> {
        let words: Vec<AtomicU64> = (0..len / 8).map(|_| AtomicU64::new(0)).collect();
        let page = PageWriter::new(&words);
        page.format(PageKind(200), PageId::new(7));
        let area = SlottedWriter::new(page, BASE);
        area.init(suffix, form)?;
        fixed.iter().enumerate().try_for_each(|(at, link)| area.set_link(at, *link))?;
        area.reserve_slots(cells.len())?;
        area.append(cells.iter().copied())?;
        let mut bytes = vec![0; len];
        page.read().copy_out(&mut bytes);
        Ok(bytes)
    }

    fn whole(
        len: usize,
        suffix: usize,
        form: SlottedForm,
        fixed: &[u64],
        cells: &[NewCell<'_>],
    ) -> Result<Vec<u8>, SlottedError> {
        let mut page = vec![0xee; len];
        let swips = write_area(&mut page, BASE, suffix, form, fixed, cells.iter().copied())?;
        PageHeader { swips, ..PageHeader::new(PageKind(200), PageId::new(7)) }.encode(&mut page);
        page[32..BASE].fill(0);
        assert!(page[len - suffix..].iter().all(|byte| *byte == 0xee), "the suffix is the owner's");
        page[len - suffix..].fill(0);
        Ok(page)
    }

    proptest! {
        #[test]
        fn a_whole_area_is_what_a_writer_appends(
            page_len in prop::sample::select(vec![4096usize, 16384]),
            suffix in 0usize..60,
            (links_per_slot, hints) in any::<(bool, bool)>(),
            fixed in prop::collection::vec(any::<u64>(), 0..3),
            cells in prop::collection::vec((prop_oneof![prop::collection::vec(any::<u8>(), 0..90), prop::collection::vec(0..2_u8, 0..90)], 0usize..90, (0..8_u8, any::<u64>())), 0..420),
        ) {
            let form = SlottedForm { fixed_links: fixed.len() as u8, links_per_slot, hints };
            let cells: Vec<NewCell<'_>> = cells
                .iter()
                .map(|(bytes, key_len, (flags, link))| NewCell {
                    bytes,
                    key_len: (*key_len).min(bytes.len()),
                    flags: *flags,
                    link: links_per_slot.then_some(*link),
                })
                .collect();
            let (by_writer, at_once) =
                (appended(page_len, suffix, form, &fixed, &cells), whole(page_len, suffix, form, &fixed, &cells));
            match (by_writer, at_once) {
                (Ok(by_writer), Ok(at_once)) => prop_assert!(by_writer == at_once),
                (Err(SlottedError::Full { .. }), Err(SlottedError::Full { .. })) => {}
                (by_writer, at_once) => prop_assert!(false, "{:?}, {:?}", by_writer.err(), at_once.err()),
            }
        }
    }

    #[test]
    fn what_no_area_can_have_is_refused() {
        let cell = |bytes, key_len, link| NewCell { bytes, key_len, flags: 0, link };
        let plain = SlottedForm::default();
        let linked = SlottedForm { fixed_links: 1, links_per_slot: true, hints: false };
        let refused = |form, fixed: &[u64], cells: &[NewCell<'_>]| {
            assert_eq!(whole(4096, 0, form, fixed, cells).err(), Some(SlottedError::OutOfRange));
        };
        refused(plain, &[], &[cell(b"a", 2, None)]);
        refused(plain, &[], &[cell(b"a", 1, Some(1))]);
        refused(linked, &[1], &[cell(b"a", 1, None)]);
        refused(plain, &[1], &[]);
        refused(linked, &[], &[]);
        assert_eq!(whole(64, 65, plain, &[], &[]).err(), Some(SlottedError::OutOfRange));
        assert!(matches!(whole(64, 0, plain, &[], &[]), Err(SlottedError::Full { .. })));

        /// Says that it has another number of cells than it gives.
        struct Liar(std::vec::IntoIter<NewCell<'static>>, usize);
        impl Iterator for Liar {
            type Item = NewCell<'static>;
            fn next(&mut self) -> Option<NewCell<'static>> {
                self.0.next()
            }
            fn size_hint(&self) -> (usize, Option<usize>) {
                (self.1, Some(self.1))
            }
        }
        impl ExactSizeIterator for Liar {}
        for said in [0, 1, 3] {
            let cells = vec![cell(b"a", 1, None), cell(b"b", 1, None)].into_iter();
            let lied = write_area(&mut [0; 4096], BASE, 0, plain, &[], Liar(cells, said));
            assert_eq!(lied, Err(SlottedError::OutOfRange));
        }
    }
}
