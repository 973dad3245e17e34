//! Pages brought up to date from images and patches: recovery for an engine that logs its pages by bytes.
//!
//! Invariant (L7): all of a group's records for a page are applied exactly if the group's end is greater than the page's LSN, decided
//! once per group and page; then the page carries that end. So recovery of a recovery that was cut gives the same (R6).
//!
//! ```text
//!   1  read the log to its end, to nobody: a corrupt one changes no page          replay
//!   2  make it durable                                                            secure
//!   3  read it again: pages to the store, an engine's own records to the caller   replay, PageWindow
//!   4  sync the store
//! ```
//!
//! A record concerns one page and reads no other, so the pages of some megabytes of log are brought up to date one after the other, each
//! read and written once.
//!
//! Every page that the log names is written, whether it needed anything or not: what was read may stand in the system's cache
//! alone, after a sync that failed (L10).

use std::ops::Range;
use std::time::{Duration, Instant};

use pagestone_page_format::{Lsn, Page, PageError, PageHeader, PageId, PageResult, PageStore};

use crate::error::{WalError, WalResult};
use crate::group::Group;
use crate::record::{Record, RecordKind};
use crate::recover::Recovery;

/// What [`Recovery::recover`] found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// End of the last whole group, and of the log.
    pub end: Lsn,
    /// Groups from where recovery began.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Of these, records of the engine's own.
    pub logical: u64,
    /// Bytes of the groups.
    pub bytes: u64,
    /// Pages read, some of them several times in a long log.
    pub pages_read: u64,
    /// Pages to which a group was applied, counted once per group.
    pub applied: u64,
    /// Pages that already had a group's changes, counted once per group.
    pub skipped: u64,
    /// Pages whose bytes in the store were unusable, or never written, and came from their image.
    pub reformatted: u64,
    /// Behind the end lay remains of a batch that never became durable as a whole.
    pub torn_tail: bool,
    /// How long it took.
    pub took: Duration,
}

/// Bytes of records and their entries that are gathered before they are applied.
const WINDOW_BYTES: usize = 4 << 20;

impl Recovery {
    /// Applies page images and patches from `from` on to `store`, in the order of their LSNs, hands records of the engine's own to
    /// `logical` in that order, with the end of their group, and syncs the store. Pages may be written after `logical` saw a later
    /// record; when this returns all are. It may be cut at any point and done again.
    ///
    /// `from` is where the engine's checkpoint lies: the start or end of a group, or [`Lsn::ZERO`] for all that there is.
    ///
    /// Of an image and of a patch the bytes count that lie behind the page's header, and of an image kind and swips: the header is
    /// recovery's. A page that a power cut tore is made whole by an image alone; so an engine whose store is not protected
    /// from torn writes logs an image of each page at its first change after a checkpoint, and patches after that.
    ///
    /// Errors: those of [`Recovery::replay`], before any page is changed; [`WalError::Missing`] if `from` lies below what was given
    /// back; [`WalError::Page`] with `LsnBeyondLog` for a page of another time, `Mismatch` for an operation that needs a table of
    /// redo (`mini-txn`) or an image of another size, `Malformed` for a patch beyond the page, what the store gives, and what
    /// `logical` gave.
    pub fn recover(
        &mut self,
        store: &dyn PageStore,
        from: Lsn,
        mut logical: impl FnMut(Lsn, Record<'_>) -> PageResult<()>,
    ) -> WalResult<RecoveryReport> {
        let began = Instant::now();
        if from < self.start.checkpoint && from != Lsn::ZERO {
            return Err(WalError::Missing { lsn: from });
        }
        let verified = self.replay(|_| Ok(()))?;
        if from > verified.end {
            return Err(WalError::corrupt(verified.end, "the log ends before recovery is to begin"));
        }
        self.secure()?;
        let report =
            RecoveryReport { end: verified.end, torn_tail: verified.torn_tail, ..Default::default() };
        let mut window = PageWindow::new(store, report);
        self.replay(|group| {
            if group.start() < from {
                return Ok(());
            }
            window.report.groups += 1;
            window.report.records += group.len() as u64;
            window.report.bytes += group.encoded_len() as u64;
            for record in group.records() {
                match record.kind {
                    RecordKind::Logical => {
                        window.report.logical += 1;
                        logical(group.end(), record)?;
                    }
                    _ => window.take(&group, &record)?,
                }
            }
            window.apply_if_full()
        })?;
        window.apply()?;
        store.sync()?;
        Ok(RecoveryReport { took: began.elapsed(), ..window.report })
    }
}

/// Records of pages that were read and not yet applied.
struct PageWindow<'s> {
    store: &'s dyn PageStore,
    page: Page,
    entries: Vec<Entry>,
    /// What the entries say, one behind the other.
    payloads: Vec<u8>,
    report: RecoveryReport,
}

/// One of them.
struct Entry {
    page: PageId,
    /// The end of its group.
    end: Lsn,
    kind: RecordKind,
    payload: Range<usize>,
}

impl<'s> PageWindow<'s> {
    fn new(store: &'s dyn PageStore, report: RecoveryReport) -> Self {
        let page = store.allocate_page(PageId::new(0));
        Self { store, page, entries: Vec::new(), payloads: Vec::new(), report }
    }

    fn take(&mut self, group: &Group<'_>, record: &Record<'_>) -> PageResult<()> {
        if record.kind == RecordKind::Page {
            // To skip one would be to lose it.
            return Err(PageError::Mismatch {
                expected: "an image, a patch, or an engine's own record".into(),
                found: format!("operation {} on a page", record.op),
            });
        }
        let from = self.payloads.len();
        self.payloads.extend_from_slice(record.payload);
        let payload = from..self.payloads.len();
        self.entries.push(Entry { page: record.page, end: group.end(), kind: record.kind, payload });
        Ok(())
    }

    fn apply_if_full(&mut self) -> PageResult<()> {
        let bytes = self.payloads.len() + size_of_val(&self.entries[..]);
        if bytes < WINDOW_BYTES { Ok(()) } else { self.apply() }
    }

    fn apply(&mut self) -> PageResult<()> {
        let (mut entries, mut payloads) =
            (std::mem::take(&mut self.entries), std::mem::take(&mut self.payloads));
        // Stable: the records of one page keep their order.
        entries.sort_by_key(|entry| entry.page);
        for of_page in entries.chunk_by(|a, b| a.page == b.page) {
            self.bring_up(of_page, &payloads)?;
        }
        entries.clear();
        payloads.clear();
        (self.entries, self.payloads) = (entries, payloads);
        Ok(())
    }

    /// Brings one page up to date and writes it.
    fn bring_up(&mut self, of_page: &[Entry], payloads: &[u8]) -> PageResult<()> {
        let id = of_page[0].page;
        self.load(id, of_page[0].kind)?;
        for group in of_page.chunk_by(|a, b| a.end == b.end) {
            let end = group[0].end;
            if self.page.lsn() >= end {
                self.report.skipped += 1;
                continue;
            }
            for entry in group {
                put(&mut self.page, entry.kind, &payloads[entry.payload.clone()])?;
            }
            self.page.set_lsn(end);
            self.report.applied += 1;
        }
        self.store.write_page(&mut self.page)
    }

    fn load(&mut self, id: PageId, first: RecordKind) -> PageResult<()> {
        let pages = id.get().checked_add(1).filter(|pages| *pages <= PageId::MAX.get());
        let pages = pages.ok_or(PageError::InvalidPageId { page_id: id })?;
        if pages > self.store.len()? {
            self.store.grow(pages)?;
        }
        self.report.pages_read += 1;
        match self.store.read_into(id, &mut self.page) {
            Ok(()) if self.page.lsn() > self.report.end => {
                let (found, durable) = (self.page.lsn(), self.report.end);
                Err(PageError::LsnBeyondLog { page_id: id, found, durable })
            }
            Ok(()) => Ok(()),
            // An image needs nothing of what stands there: never written, or torn.
            Err(
                PageError::BadMagic { .. }
                | PageError::UnsupportedVersion { .. }
                | PageError::ChecksumMismatch { .. }
                | PageError::MisdirectedPage { .. }
                | PageError::ShortRead { .. },
            ) if first == RecordKind::PageImage => {
                self.report.reformatted += 1;
                self.page = self.store.allocate_page(id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Applies one image or patch. The header stays the page's own, but for kind and swips, which an image has with it.
fn put(page: &mut Page, kind: RecordKind, payload: &[u8]) -> PageResult<()> {
    let mut header = page.header();
    let id = page.id();
    let bytes = page.bytes_mut();
    if kind == RecordKind::PageImage {
        if payload.len() != bytes.len() {
            return Err(PageError::Mismatch {
                expected: format!("an image of {} bytes", bytes.len()),
                found: format!("{} bytes for page {id}", payload.len()),
            });
        }
        bytes.copy_from_slice(payload);
        let image = PageHeader::decode(payload).unwrap_or(header);
        (header.kind, header.swips) = (image.kind, image.swips);
    } else {
        let beyond = || PageError::Malformed { page_id: id, reason: "a patch reaches beyond the page" };
        let (offset, patch) = payload.split_first_chunk::<4>().ok_or_else(beyond)?;
        let offset = u32::from_le_bytes(*offset) as usize;
        let end = offset.checked_add(patch.len()).ok_or_else(beyond)?;
        bytes.get_mut(offset..end).ok_or_else(beyond)?.copy_from_slice(patch);
    }
    header.encode(bytes);
    Ok(())
}
