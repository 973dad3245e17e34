//! What can happen to a heap page: applied now, and by redo, by the same function.
//!
//! Invariant: `apply` reads nothing but the page and the operation, so the same page comes out of both. Each operation checks what it
//! relies on; where that does not hold it is an error: a bug on the live path, corruption in recovery.
//!
//! ```text
//!   live    HeapOp ── apply ──► page          HeapOp ── encode ──► log
//!   redo    log ── decode ──► HeapOp ── apply ──► page
//! ```

use pagestone::page_format::slotted::{SlottedError, SlottedForm, SlottedWriter};
use pagestone::page_format::{ENGINE_OP_KINDS, OpKind, PageWriter, RedoRange};
use pagestone::{PageError, PageId, PageOp, PageResult};

use super::page::{AREA, HEAP_PAGE, HeapPage, NEXT_WORD, NUMBER_WORD};

const FORMAT: OpKind = *ENGINE_OP_KINDS.start();
const SET_NEXT: OpKind = FORMAT + 1;
const INSERT: OpKind = FORMAT + 2;
const UPDATE: OpKind = FORMAT + 3;
const DELETE: OpKind = FORMAT + 4;

/// One change of one heap page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapOp<'a> {
    /// Makes the page an empty heap page, whatever it was.
    Format,
    /// Links it to another one; 0 for none.
    SetNext(PageId),
    /// Adds a record under the page's next number.
    Insert(u32, &'a [u8]),
    /// Gives a record other bytes.
    Update(u32, &'a [u8]),
    /// Removes a record; its number is not given again.
    Delete(u32),
}

impl PageOp for HeapOp<'_> {
    fn kind(&self) -> OpKind {
        match self {
            HeapOp::Format => FORMAT,
            HeapOp::SetNext(_) => SET_NEXT,
            HeapOp::Insert(..) => INSERT,
            HeapOp::Update(..) => UPDATE,
            HeapOp::Delete(_) => DELETE,
        }
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let id = page_id(page)?;
        self.apply_to(page, id)?.map_err(|error| error.of_page(id))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            HeapOp::Format => {}
            HeapOp::SetNext(next) => out.extend_from_slice(&next.get().to_le_bytes()),
            HeapOp::Insert(number, record) | HeapOp::Update(number, record) => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(record);
            }
            HeapOp::Delete(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }
}

impl HeapOp<'_> {
    /// The inner error is of the slotted page, the outer one of the heap's.
    fn apply_to(&self, page: &PageWriter<'_>, id: PageId) -> PageResult<Result<(), SlottedError>> {
        let area = SlottedWriter::new(*page, AREA);
        if *self == HeapOp::Format {
            page.format(HEAP_PAGE, id);
            return Ok(area.init(0, SlottedForm::default()));
        }
        let heap = HeapPage::of(page.read(), id)?;
        let slot_of = |number| heap.slot_of(number)?.ok_or(malformed(id, "there is no such record"));
        Ok(match *self {
            HeapOp::Format => unreachable!("a page was just formatted"),
            HeapOp::SetNext(next) => page.put_word(NEXT_WORD, next.get()).map_err(SlottedError::from),
            HeapOp::Insert(number, record) => {
                if heap.next_number()? != number {
                    return Err(malformed(id, "a record's number is not the next one"));
                }
                area.insert(heap.count()?, &number.to_be_bytes(), record, 0, None)
                    .and_then(|()| Ok(page.put_word(NUMBER_WORD, u64::from(number) + 1)?))
            }
            HeapOp::Update(number, record) => area.update_value(slot_of(number)?, record, 0),
            HeapOp::Delete(number) => area.remove(slot_of(number)?),
        })
    }

    fn decode(kind: OpKind, payload: &[u8]) -> Option<HeapOp<'_>> {
        Some(match kind {
            FORMAT if payload.is_empty() => HeapOp::Format,
            SET_NEXT => HeapOp::SetNext(PageId::new(u64::from_le_bytes(payload.try_into().ok()?))),
            DELETE => HeapOp::Delete(u32::from_le_bytes(payload.try_into().ok()?)),
            INSERT | UPDATE => {
                let (number, record) = payload.split_first_chunk()?;
                let number = u32::from_le_bytes(*number);
                if kind == INSERT { HeapOp::Insert(number, record) } else { HeapOp::Update(number, record) }
            }
            _ => return None,
        })
    }
}

/// What recovery is given: the heap's kinds, and how one of them is applied.
pub(super) fn redo_range() -> RedoRange {
    RedoRange {
        kinds: FORMAT..=DELETE,
        apply: |kind, payload, page| {
            let op = HeapOp::decode(kind, payload)
                .ok_or(malformed(page_id(page)?, "a heap record that cannot be read"))?;
            op.apply(page)
        },
        formats: |kind| kind == FORMAT,
    }
}

fn page_id(page: &PageWriter<'_>) -> PageResult<PageId> {
    page.read().header().map(|header| header.page_id).map_err(|error| error.malformed(PageId::new(0)))
}

fn malformed(page_id: PageId, reason: &'static str) -> PageError {
    PageError::Malformed { page_id, reason }
}
