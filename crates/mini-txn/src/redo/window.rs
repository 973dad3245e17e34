//! Records of a stretch of the log, to be applied page by page.
//!
//! Invariant: records of one page are given in the order of the log.
//!
//! ```text
//!   entries    group, operation, where its payload begins                as they come: in the order of the log
//!   payloads   what they encode, one behind the other
//!   order      page << 22 | place in `entries`                           sorted: pages in the order of the file
//! ```
//!
//! What is sorted is one word a record. Nothing is allocated for a record, and a window that was applied is used again.

use std::hint::black_box;
use std::ops::Range;

use pagestone_page_format::{Lsn, OpKind, PageId};
use pagestone_wal::{Group, Record};

/// Bits of a place in a window.
const PLACE_BITS: u32 = 22;
const _: () = assert!(PageId::MAX.get() >> (64 - PLACE_BITS) == 0, "a page id and a place fit one word");
/// By so much the payloads' memory grows at least, in bytes: not to twice what is needed.
const GROW: usize = 1 << 20;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

fn place_of(key: u64) -> usize {
    (key & ((1 << PLACE_BITS) - 1)) as usize
}

/// Records, and what they encode.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: Vec<Entry>,
    payloads: Vec<u8>,
    order: Vec<u64>,
}

/// One record.
#[derive(Debug)]
struct Entry {
    /// Where its group starts, and how long that is in the log.
    start: Lsn,
    len: u32,
    op: OpKind,
    payload_from: u32,
}

/// One record of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'w> {
    /// Its group.
    pub(super) start: Lsn,
    pub(super) end: Lsn,
    pub(super) op: OpKind,
    pub(super) payload: &'w [u8],
}

impl Window {
    /// Adds a record of a page, which is an id that a file can have.
    #[inline]
    pub(super) fn push(&mut self, group: &Group<'_>, record: &Record<'_>) {
        let (place, from) = (self.entries.len(), self.payloads.len());
        if self.payloads.capacity() - from < record.payload.len() {
            self.payloads.reserve_exact(record.payload.len().max(GROW));
        }
        self.payloads.extend_from_slice(record.payload);
        self.entries.push(Entry {
            start: group.start(),
            // No group is longer than some mebibytes, and no window, by `is_full`.
            len: (group.end().get() - group.start().get()) as u32,
            op: record.op,
            payload_from: from as u32,
        });
        self.order.push(record.page.get() << PLACE_BITS | place as u64);
    }

    /// Bytes that its records take here.
    pub(super) fn bytes(&self) -> usize {
        self.payloads.len() + size_of_val(&self.entries[..]) + size_of_val(&self.order[..])
    }

    /// Whether it has as many records, or as many bytes, as it can have: one more group would still fit.
    pub(super) fn is_full(&self, bytes_max: usize) -> bool {
        self.bytes() >= bytes_max || self.entries.len() >= 1 << (PLACE_BITS - 2)
    }

    /// Brings the records of each page together.
    pub(super) fn sort(&mut self) {
        self.order.sort_unstable();
    }

    /// The next pages from `from` on, at most `most`, in the order of the file: their ids, and the places of their records in this
    /// order. [`Window::sort`] comes before.
    pub(super) fn pages(&self, from: usize, most: usize, out: &mut Vec<(PageId, Range<usize>)>) {
        let mut at = from;
        out.clear();
        out.extend(self.order[from..].chunk_by(|a, b| a >> PLACE_BITS == b >> PLACE_BITS).take(most).map(
            |page| {
                let places = at..at + page.len();
                at = places.end;
                (PageId::new(page[0] >> PLACE_BITS), places)
            },
        ));
    }

    /// The records at these places, in the order of the log.
    pub(super) fn records(&self, places: Range<usize>) -> impl Iterator<Item = Taken<'_>> {
        self.order[places].iter().map(|key| self.record(place_of(*key)))
    }

    /// Reads a byte of every cache line of the records at these places, for what follows. They lie in memory that the thread has not
    /// seen, in no order; and a processor waits for many lines that do not depend on each other hardly longer than for one.
    pub(super) fn warm(&self, places: Range<usize>) {
        let order = &self.order[places.clone()];
        let entries =
            order.iter().map(|key| self.entries[place_of(*key)].payload_from).fold(0, |sum, from| sum ^ from);
        let lines = self
            .records(places)
            .map(|record| record.payload.iter().step_by(CACHE_LINE).fold(0, |sum, byte| sum ^ byte));
        black_box((entries, lines.fold(0, |sum, byte| sum ^ byte)));
    }

    #[inline]
    fn record(&self, place: usize) -> Taken<'_> {
        let entry = &self.entries[place];
        debug_assert_eq!(self.order.len(), self.entries.len());
        let behind =
            self.entries.get(place + 1).map_or(self.payloads.len(), |next| next.payload_from as usize);
        Taken {
            start: entry.start,
            end: Lsn::new(entry.start.get() + u64::from(entry.len)),
            op: entry.op,
            payload: &self.payloads[entry.payload_from as usize..behind],
        }
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.payloads.clear();
        self.order.clear();
    }
}
