//! Redo: applies whole groups of the log to the pool's pages.
//!
//! Invariant (L7): all of a group's records for a page are applied exactly if the group's end is greater than the page's LSN,
//! decided once per group and page; then the page carries the group's end. So redo of a redo changes nothing.
//!
//! ```text
//!   replay ──► group, group, group ...   window: records of some megabytes of log
//!                                        │ sorted by page; the records of one page keep their order
//!                                        ▼
//!                                        page 3: groups 1, 2, 7    page 9: groups 2, 3    page 12: ...
//! ```
//!
//! A record concerns one page and reads no other, so pages may be brought up to date one after the other. In a pool that is smaller
//! than what the log names, each page is then read and written once a window, and in the order of the file, not once a group.

use std::ops::Range;

use pagestone_buffer_pool::{BufferPool, Pin};
use pagestone_page_format::{Lsn, OpKind, PageError, PageId, PageKind, PageResult, RedoTable};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_wal::{Group, RecordKind};

/// What redo did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedoCounts {
    /// Groups seen.
    pub groups: u64,
    /// Records of pages seen.
    pub records: u64,
    /// Pages to which a group was applied, counted once per group.
    pub applied: u64,
    /// Pages that already had a group's changes, counted once per group.
    pub skipped: u64,
    /// Pages whose image in the file was unusable and was formatted anew.
    pub reformatted: u64,
}

/// Bytes of records and their entries that are gathered before they are applied.
const WINDOW_BYTES: usize = 4 << 20;

/// Redo into one pool. Nothing is sure to be applied before [`Redo::finish`].
#[derive(Debug)]
pub struct Redo<'p> {
    pool: &'p BufferPool,
    table: RedoTable,
    counts: RedoCounts,
    window: Vec<Entry>,
    /// What the window's records encoded, one after the other.
    payloads: Vec<u8>,
}

/// One record of the window.
#[derive(Debug)]
struct Entry {
    page: PageId,
    /// Its group.
    start: Lsn,
    end: Lsn,
    op: OpKind,
    payload: Range<usize>,
}

impl<'p> Redo<'p> {
    /// With the operations of every floor that logs.
    pub fn new(pool: &'p BufferPool, table: RedoTable) -> Self {
        Self { pool, table, counts: RedoCounts::default(), window: Vec::new(), payloads: Vec::new() }
    }

    /// Takes one group; groups come in the order of their LSNs. Errors: those of [`Redo::finish`], perhaps for a group before.
    pub fn group(&mut self, group: &Group<'_>) -> PageResult<()> {
        self.counts.groups += 1;
        for record in group.records() {
            match record.kind {
                RecordKind::Logical => {}
                RecordKind::Page => {
                    let from = self.payloads.len();
                    self.payloads.extend_from_slice(record.payload);
                    self.window.push(Entry {
                        page: record.page,
                        start: group.start(),
                        end: group.end(),
                        op: record.op,
                        payload: from..self.payloads.len(),
                    });
                }
                // For engines that replay the log themselves; to skip one would be to lose it.
                kind @ (RecordKind::PageImage | RecordKind::PagePatch) => {
                    return Err(PageError::Mismatch {
                        expected: "an operation on a page, or an engine's own record".into(),
                        found: format!("{kind:?}"),
                    });
                }
            }
        }
        if self.payloads.len() + size_of_val(&self.window[..]) >= WINDOW_BYTES {
            self.apply_window()?;
        }
        Ok(())
    }

    /// Applies what is left, and gives what was done.
    ///
    /// Errors: a page that cannot be read and is not formatted by its first group, an unknown operation, or one that does not fit
    /// its page.
    pub fn finish(mut self) -> PageResult<RedoCounts> {
        self.apply_window()?;
        Ok(self.counts)
    }

    fn apply_window(&mut self) -> PageResult<()> {
        let (mut window, mut payloads) =
            (std::mem::take(&mut self.window), std::mem::take(&mut self.payloads));
        // Stable: the records of one page keep their order.
        window.sort_by_key(|entry| entry.page);
        for of_page in window.chunk_by(|a, b| a.page == b.page) {
            self.page(of_page, &payloads)?;
        }
        window.clear();
        payloads.clear();
        (self.window, self.payloads) = (window, payloads);
        Ok(())
    }

    /// Applies the groups of one page.
    fn page(&mut self, of_page: &[Entry], payloads: &[u8]) -> PageResult<()> {
        let pin = self.pin(of_page[0].page, of_page[0].op)?;
        let page = pin.exclusive()?;
        for group in of_page.chunk_by(|a, b| a.end == b.end) {
            self.counts.records += group.len() as u64;
            let (start, end, lsn) = (group[0].start, group[0].end, page.lsn());
            if lsn < end {
                for record in group {
                    self.table.apply(record.op, &payloads[record.payload.clone()], &page.writer())?;
                }
                page.publish(start, end);
                self.counts.applied += 1;
            } else {
                // The file may hold this image only in a cache that a second crash would lose: write it again (L10).
                page.publish(start, lsn);
                self.counts.skipped += 1;
            }
        }
        Ok(())
    }

    fn pin(&mut self, id: PageId, first: OpKind) -> PageResult<Pin<'p>> {
        if id > MAX_SWIP_PAGE {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        if id.get() >= self.pool.store().len()? {
            self.pool.store().grow(id.get() + 1)?;
        }
        let formats = self.table.formats(first);
        match self.pool.fault(id) {
            Ok(pin) => Ok(pin),
            // Redo formats the page from nothing, so what stands there is not needed: never written, or torn.
            Err(
                PageError::BadMagic { .. }
                | PageError::UnsupportedVersion { .. }
                | PageError::ChecksumMismatch { .. }
                | PageError::MisdirectedPage { .. }
                | PageError::ShortRead { .. },
            ) if formats => {
                self.counts.reformatted += 1;
                self.pool.adopt(id, PageKind::PLAIN)
            }
            Err(error) => Err(error),
        }
    }
}
