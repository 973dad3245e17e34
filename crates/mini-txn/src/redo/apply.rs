//! One window applied: its pages are brought in, so many at once, and each gets its records.
//!
//! Invariant: pins held together by all who apply are at most half of the pool's frames, or one each; so nobody waits for good for a
//! frame that another one of them holds.

use std::ops::Deref;

use pagestone_buffer_pool::{BufferPool, Pin};
use pagestone_page_format::{PageError, PageId, PageKind, PageResult, RedoTable};
use pagestone_swip::MAX_SWIP_PAGE;

use super::RedoCounts;
use super::window::{Entry, Window};

/// Pages read at once: what a device needs in its queue to be as fast as it can.
const DEPTH: usize = 32;

/// Applies windows to a pool that it borrows or shares.
#[derive(Debug)]
pub(super) struct Applier<P> {
    pool: P,
    table: RedoTable,
    /// Pages pinned at once.
    pins: usize,
    counts: RedoCounts,
}

impl<P: Deref<Target = BufferPool>> Applier<P> {
    /// One of so many that work on this pool.
    pub(super) fn new(pool: P, table: RedoTable, appliers: usize) -> Self {
        let pins = (pool.capacity() / (2 * appliers)).clamp(1, DEPTH);
        Self { pool, table, pins, counts: RedoCounts::default() }
    }

    pub(super) fn counts(&self) -> RedoCounts {
        self.counts
    }

    /// Applies a window and empties it. After an error some of its pages are brought up to date and some not.
    pub(super) fn apply(&mut self, window: &mut Window) -> PageResult<()> {
        window.sort();
        let mut pages = window.pages();
        loop {
            let batch: Vec<&[Entry]> = pages.by_ref().take(self.pins).collect();
            if batch.is_empty() {
                break;
            }
            self.batch(&batch, window)?;
        }
        drop(pages);
        window.clear();
        Ok(())
    }

    fn batch(&mut self, batch: &[&[Entry]], window: &Window) -> PageResult<()> {
        let ids: Vec<PageId> = batch.iter().map(|of_page| of_page[0].page).collect();
        // In the order of the file: the last one is the highest.
        let highest = *ids.last().expect("a batch has pages");
        if highest > MAX_SWIP_PAGE {
            return Err(PageError::InvalidPageId { page_id: highest });
        }
        if highest.get() >= self.pool.store().len()? {
            self.pool.store().grow(highest.get() + 1)?;
        }
        let pins = self.pool.fault_many(&ids);
        let mut reformatted = 0;
        for (of_page, pin) in batch.iter().zip(pins) {
            let first = of_page[0].op;
            let pin = match pin {
                Err(error) if is_unusable(&error) && self.table.formats(first) => {
                    // Redo formats the page from nothing, so what stands there is not needed: never written, or torn.
                    reformatted += 1;
                    self.pool.adopt(of_page[0].page, PageKind::PLAIN)?
                }
                pin => pin?,
            };
            let counts = page(&self.table, &pin, of_page, window)?;
            self.counts.add(counts);
        }
        self.counts.reformatted += reformatted;
        Ok(())
    }
}

/// Applies the groups of one page.
fn page(table: &RedoTable, pin: &Pin<'_>, of_page: &[Entry], window: &Window) -> PageResult<RedoCounts> {
    let mut counts = RedoCounts { records: of_page.len() as u64, ..RedoCounts::default() };
    let page = pin.exclusive()?;
    for group in of_page.chunk_by(|a, b| a.end == b.end) {
        let (start, end, lsn) = (group[0].start, group[0].end, page.lsn());
        if lsn < end {
            for record in group {
                table.apply(record.op, window.payload(record), &page.writer())?;
            }
            page.publish(start, end);
            counts.applied += 1;
        } else {
            // The file may hold this image only in a cache that a second crash would lose: write it again (L10).
            page.publish(start, lsn);
            counts.skipped += 1;
        }
    }
    Ok(counts)
}

/// Whether what stands in a page's place is no page of this file.
fn is_unusable(error: &PageError) -> bool {
    matches!(
        error,
        PageError::BadMagic { .. }
            | PageError::UnsupportedVersion { .. }
            | PageError::ChecksumMismatch { .. }
            | PageError::MisdirectedPage { .. }
            | PageError::ShortRead { .. }
    )
}
