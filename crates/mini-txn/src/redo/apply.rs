//! One window applied: its pages are brought in, so many at once, and each gets its records.
//!
//! Invariant: pins held together by all who apply are at most half of the pool's frames, or one each; so nobody waits for good for a
//! frame that another one of them holds.

use std::hint::black_box;
use std::ops::{Deref, Range};

use pagestone_buffer_pool::{BufferPool, Pin};
use pagestone_page_format::{Lsn, PageError, PageId, PageKind, PageResult, RedoTable};
use pagestone_swip::MAX_SWIP_PAGE;

use super::RedoCounts;
use super::window::{Taken, Window};

/// Pages read at once: what a device needs in its queue to be as fast as it can.
const DEPTH: usize = 32;

/// Applies windows to a pool that it borrows or shares.
#[derive(Debug)]
pub(super) struct Applier<P> {
    pool: P,
    table: RedoTable,
    /// Pages pinned at once.
    pins: usize,
    /// So many the file is known to have.
    pages: u64,
    counts: RedoCounts,
    /// Memory for the pages of a batch.
    batch: Vec<(PageId, Range<usize>)>,
}

impl<P: Deref<Target = BufferPool>> Applier<P> {
    /// One of so many that work on this pool.
    pub(super) fn new(pool: P, table: RedoTable, appliers: usize) -> Self {
        let pins = (pool.capacity() / (2 * appliers)).clamp(1, DEPTH);
        Self { pool, table, pins, pages: 0, counts: RedoCounts::default(), batch: Vec::new() }
    }

    pub(super) fn counts(&self) -> RedoCounts {
        self.counts
    }

    /// Applies a window and empties it. After an error some of its pages are brought up to date and some not.
    pub(super) fn apply(&mut self, window: &mut Window) -> PageResult<()> {
        window.sort();
        let (mut at, mut batch) = (0, std::mem::take(&mut self.batch));
        loop {
            window.pages(at, self.pins, &mut batch);
            let Some((_, last)) = batch.last() else { break };
            at = last.end;
            self.batch(&batch, window)?;
        }
        self.batch = batch;
        window.clear();
        Ok(())
    }

    fn batch(&mut self, batch: &[(PageId, Range<usize>)], window: &Window) -> PageResult<()> {
        let ids: Vec<PageId> = batch.iter().map(|(id, _)| *id).collect();
        // In the order of the file: the last one is the highest.
        let highest = *ids.last().expect("a batch has pages");
        if highest > MAX_SWIP_PAGE {
            return Err(PageError::InvalidPageId { page_id: highest });
        }
        if highest.get() >= self.pages {
            self.pages = self.pool.store().len()?;
            if highest.get() >= self.pages {
                self.pool.store().grow(highest.get() + 1)?;
                self.pages = highest.get() + 1;
            }
        }
        let pins = self.pool.fault_many(&ids);
        window.warm(batch[0].1.start..batch[batch.len() - 1].1.end);
        pins.iter().flatten().for_each(warm);
        let mut reformatted = 0;
        for ((id, places), pin) in batch.iter().zip(pins) {
            let pin = match pin {
                Err(error) if is_unusable(&error) && self.formats(window, places) => {
                    // Redo formats the page from nothing, so what stands there is not needed: never written, or torn.
                    reformatted += 1;
                    self.pool.adopt(*id, PageKind::PLAIN)?
                }
                pin => pin?,
            };
            let counts = page(&self.table, &pin, window.records(places.clone()))?;
            self.counts.add(counts);
        }
        self.counts.reformatted += reformatted;
        Ok(())
    }

    fn formats(&self, window: &Window, places: &Range<usize>) -> bool {
        window.records(places.clone()).next().is_some_and(|first| self.table.formats(first.op))
    }
}

/// Reads the lines of a page that an operation looks at first, as [`Window::warm`] does with records: header and slots, and what stands at
/// the end. A page that somebody has latched is none of ours.
fn warm(pin: &Pin<'_>) {
    let Ok(page) = pin.optimistic() else { return };
    let (page, words) = (page.page(), page.page().len() / 8);
    let first = (0..WARM_WORDS).step_by(WORDS_OF_A_LINE);
    let at = first.chain([words - 2 * WORDS_OF_A_LINE, words - WORDS_OF_A_LINE]);
    black_box(at.map(|word| page.word(word).unwrap_or(0)).fold(0, |sum, word| sum ^ word));
}

const WORDS_OF_A_LINE: usize = 8;
const WARM_WORDS: usize = 48;

/// Applies the groups of one page.
///
/// LSNs rise along the log: the page has the first groups, up to its LSN, and lacks all that follow. So one decision stands for each
/// (L7), and it is stamped once, with the end of the last.
fn page<'w>(
    table: &RedoTable,
    pin: &Pin<'_>,
    records: impl Iterator<Item = Taken<'w>>,
) -> PageResult<RedoCounts> {
    let page = pin.exclusive()?;
    let (lsn, writer) = (page.lsn(), page.writer());
    let (mut counts, mut result) = (RedoCounts::default(), Ok(()));
    let (mut first, mut whole, mut group) = (None, lsn, Lsn::ZERO);
    for record in records {
        first.get_or_insert(record.start);
        counts.records += 1;
        if group != record.end {
            // What belongs to the group before has been applied.
            whole = whole.max(group);
            group = record.end;
            if group > lsn { counts.applied += 1 } else { counts.skipped += 1 }
        }
        if group > lsn
            && let Err(error) = table.apply(record.op, record.payload, &writer)
        {
            result = Err(error);
            break;
        }
    }
    if result.is_ok() {
        whole = whole.max(group);
    }
    // Marked dirty, applied or not: the file may hold this image only in a cache that a second crash would lose (L10). But not for a
    // group that failed alone: what it left is no image of anything.
    if result.is_ok() || counts.applied + counts.skipped > 1 {
        page.publish(first.unwrap_or(lsn), whole);
    }
    result.map(|()| counts)
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
