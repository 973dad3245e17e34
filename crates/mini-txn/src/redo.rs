//! Redo: applies whole groups of the log to the pool's pages.
//!
//! Invariant (L7): all of a group's records for a page are applied exactly if the group's end is greater than the page's LSN,
//! decided once per group and page; then the page carries the group's end. So redo of a redo changes nothing.

use pagestone_buffer_pool::{BufferPool, Pin};
use pagestone_page_format::{PageError, PageId, PageKind, PageResult, RedoTable};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_wal::{Group, Record, RecordKind};

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

/// Redo into one pool.
#[derive(Debug)]
pub struct Redo<'p> {
    pool: &'p BufferPool,
    table: RedoTable,
    counts: RedoCounts,
}

impl<'p> Redo<'p> {
    /// With the operations of every floor that logs.
    pub fn new(pool: &'p BufferPool, table: RedoTable) -> Self {
        Self { pool, table, counts: RedoCounts::default() }
    }

    /// What was done so far.
    pub fn counts(&self) -> RedoCounts {
        self.counts
    }

    /// Applies one group. Errors: a page that cannot be read and is not formatted by the group, an unknown operation, or one
    /// that does not fit its page.
    pub fn group(&mut self, group: &Group<'_>) -> PageResult<()> {
        self.counts.groups += 1;
        let records: Vec<Record<'_>> = group.records().collect();
        if let Some(record) =
            records.iter().find(|record| !matches!(record.kind, RecordKind::Page | RecordKind::Logical))
        {
            // Images and patches are for engines that replay the log themselves; to skip one would be to lose it.
            return Err(PageError::Mismatch {
                expected: "an operation on a page, or an engine's own record".into(),
                found: format!("{:?}", record.kind),
            });
        }
        let mut order: Vec<usize> =
            (0..records.len()).filter(|index| records[*index].kind == RecordKind::Page).collect();
        // Stable: the records of one page keep their order.
        order.sort_by_key(|index| records[*index].page);
        for of_page in order.chunk_by(|a, b| records[*a].page == records[*b].page) {
            let of_page: Vec<&Record<'_>> = of_page.iter().map(|index| &records[*index]).collect();
            self.counts.records += of_page.len() as u64;
            self.page(group, of_page[0].page, &of_page)?;
        }
        Ok(())
    }

    fn page(&mut self, group: &Group<'_>, id: PageId, records: &[&Record<'_>]) -> PageResult<()> {
        let pin = self.pin(id, records)?;
        let page = pin.exclusive()?;
        let lsn = page.lsn();
        if lsn < group.end() {
            for record in records {
                self.table.apply(record.op, record.payload, &page.writer())?;
            }
            page.publish(group.start(), group.end());
            self.counts.applied += 1;
        } else {
            // The file may hold this image only in a cache that a second crash would lose: write it again (L10).
            page.publish(group.start(), lsn);
            self.counts.skipped += 1;
        }
        Ok(())
    }

    fn pin(&mut self, id: PageId, records: &[&Record<'_>]) -> PageResult<Pin<'p>> {
        if id > MAX_SWIP_PAGE {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        if id.get() >= self.pool.store().len()? {
            self.pool.store().grow(id.get() + 1)?;
        }
        let formats = self.table.formats(records[0].op);
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
