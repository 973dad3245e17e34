//! Records of a stretch of the log, to be applied page by page.
//!
//! Invariant: records of one page stand in the order of the log.

use std::ops::Range;

use pagestone_page_format::{Lsn, OpKind, PageId};
use pagestone_wal::{Group, Record};

/// Records, and what they encode.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: Vec<Entry>,
    payloads: Vec<u8>,
}

/// One record.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) page: PageId,
    /// Its group.
    pub(super) start: Lsn,
    pub(super) end: Lsn,
    pub(super) op: OpKind,
    payload: Range<usize>,
}

impl Window {
    /// Adds a record of a page. Gives the bytes that it takes here.
    pub(super) fn push(&mut self, group: &Group<'_>, record: &Record<'_>) -> usize {
        let from = self.payloads.len();
        self.payloads.extend_from_slice(record.payload);
        self.entries.push(Entry {
            page: record.page,
            start: group.start(),
            end: group.end(),
            op: record.op,
            payload: from..self.payloads.len(),
        });
        size_of::<Entry>() + record.payload.len()
    }

    /// Brings the records of each page together.
    pub(super) fn sort(&mut self) {
        // Stable: the records of one page keep their order.
        self.entries.sort_by_key(|entry| entry.page);
    }

    /// The records of each page, in the order of the file. [`Window::sort`] comes before.
    pub(super) fn pages(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|a, b| a.page == b.page)
    }

    /// What a record of this window encodes.
    pub(super) fn payload(&self, entry: &Entry) -> &[u8] {
        &self.payloads[entry.payload.clone()]
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.payloads.clear();
    }
}
