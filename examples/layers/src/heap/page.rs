//! A heap page: records in the order of their numbers, and the page behind it.
//!
//! Invariant: a record's number is its own as long as the page is one of the heap's: numbers rise and are not given twice.
//!
//! ```text
//!   0             32              40               48                                      page end
//!   ├─────────────┼───────────────┼────────────────┼──────────────────────────────────────────┤
//!   │ page header │ next page, or │ next number    │ slotted: key = number, big-endian        │
//!   │ kind 128    │ 0 for none    │                │          value = record                  │
//!   └─────────────┴───────────────┴────────────────┴──────────────────────────────────────────┘
//! ```
//!
//! Page 0 is the space map, so 0 can be no next page. Kinds from 128 on are for engines.

use pagestone::page_format::slotted::{Cell, SlottedForm, SlottedPage};
use pagestone::page_format::{OutOfBounds, PageKind, SpeculativePage};
use pagestone::{PAGE_HEADER_SIZE, PageError, PageId, PageResult, PageSize};

/// The kind of a heap page.
pub const HEAP_PAGE: PageKind = PageKind(128);
pub(super) const NEXT_WORD: usize = PAGE_HEADER_SIZE / 8;
pub(super) const NUMBER_WORD: usize = NEXT_WORD + 1;
pub(super) const AREA: usize = PAGE_HEADER_SIZE + 16;
/// Bytes of a cell's key.
const KEY: usize = 4;

/// Bytes of the longest record that a page of this size takes.
pub fn max_record(size: PageSize) -> usize {
    size.get() - AREA - SlottedPage::bytes_taken(1, KEY, SlottedForm::default())
}

/// A heap page, to read under its latch.
#[derive(Debug, Clone, Copy)]
pub struct HeapPage<'a> {
    page: SpeculativePage<'a>,
    id: PageId,
}

impl<'a> HeapPage<'a> {
    /// `Malformed` for a page of another kind.
    pub fn of(page: SpeculativePage<'a>, id: PageId) -> PageResult<Self> {
        match page.header() {
            Ok(header) if header.kind == HEAP_PAGE => Ok(Self { page, id }),
            _ => Err(PageError::Malformed { page_id: id, reason: "this is no page of the heap" }),
        }
    }

    fn area(&self) -> SlottedPage<'a> {
        SlottedPage::new(self.page, AREA)
    }

    fn malformed(&self) -> impl Fn(OutOfBounds) -> PageError {
        let id = self.id;
        move |error| error.malformed(id)
    }

    /// The page behind this one.
    pub fn next(&self) -> PageResult<Option<PageId>> {
        let next = self.page.word(NEXT_WORD).map_err(self.malformed())?;
        Ok((next != 0).then_some(PageId::new(next)))
    }

    /// The number of the next record.
    pub fn next_number(&self) -> PageResult<u32> {
        let number = self.page.word(NUMBER_WORD).map_err(self.malformed())?;
        u32::try_from(number)
            .map_err(|_| PageError::Malformed { page_id: self.id, reason: "the page has no numbers left" })
    }

    /// How many records there are.
    pub fn count(&self) -> PageResult<usize> {
        self.area().count().map_err(self.malformed())
    }

    /// Whether a new record of so many bytes fits.
    pub fn has_room(&self, len: usize) -> PageResult<bool> {
        Ok(self.area().has_room(1, KEY + len).map_err(self.malformed())? && self.next_number()? < u32::MAX)
    }

    /// Whether the record in `slot` can become one of `len` bytes in its place.
    pub fn can_become(&self, slot: usize, len: usize) -> PageResult<bool> {
        let (area, malformed) = (self.area(), self.malformed());
        let old = area.get(slot).map_err(&malformed)?.value_len;
        Ok(len <= old + area.free_space_after_compaction().map_err(&malformed)?)
    }

    /// The slot of a record; none if it was deleted.
    pub fn slot_of(&self, number: u32) -> PageResult<Option<usize>> {
        let found = self.area().lower_bound(&number.to_be_bytes()).map_err(self.malformed())?;
        Ok(found.found.then_some(found.slot))
    }

    /// The record in a slot, and its number.
    pub fn record(&self, slot: usize) -> PageResult<(u32, Vec<u8>)> {
        let (area, malformed) = (self.area(), self.malformed());
        let cell: Cell = area.get(slot).map_err(&malformed)?;
        let (mut key, mut record) = (Vec::new(), Vec::new());
        area.append_key(cell, &mut key).map_err(&malformed)?;
        area.append_value(cell, &mut record).map_err(&malformed)?;
        let key = key.try_into().map_err(|_| malformed(OutOfBounds))?;
        Ok((u32::from_be_bytes(key), record))
    }
}
