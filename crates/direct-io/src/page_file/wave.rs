//! Batches of pages: what is under way at once.
//!
//! Invariant: a wave is what a page by itself would have been: each page gets its own result, and a page that fails spoils no other.
//!
//! ```text
//!   batch ──► waves of at most WAVE_BYTES ──► runs of neighbours, one transfer each ──► all transfers of a wave at once
//! ```

use std::io::{self, ErrorKind};

use pagestone_page_format::{AlignedBuf, Page, PageError, PageId, PageResult};

use super::PageFile;
use crate::{ReadAt, WriteAt, read_exact_batch, write_all_batch};

/// So many bytes of a batch are under way at once at most.
const WAVE_BYTES: usize = 1 << 20;
/// Buffers for them that are kept.
const SPARE_BUFFERS: usize = 4;

impl PageFile {
    /// The most pages that are under way at once.
    pub(super) fn wave_pages(&self) -> usize {
        (WAVE_BYTES / self.size.get()).max(1)
    }

    /// Runs `transfer` with a buffer for [`PageFile::wave_pages`] pages.
    fn with_buffer<T>(&self, transfer: impl FnOnce(&mut [u8]) -> T) -> T {
        let spare = self.spare.lock().pop();
        let mut buffer = spare.unwrap_or_else(|| AlignedBuf::zeroed(self.wave_pages() * self.size.get()));
        let result = transfer(&mut buffer);
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
        result
    }

    /// Reads pages that one buffer has room for: all at once, and those of a transfer that failed one by one, so that each gets its own
    /// result. A page without neighbours is read where it shall be, neighbours together by way of the buffer. A
    /// file that was busy all the time is so for each of them.
    pub(super) fn read_wave(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        let has_place = |id: &PageId| self.place(*id).is_some();
        if ids.len() == 1
            || !ids.iter().all(has_place)
            || pages.iter().any(|page| self.check_size(page).is_err())
        {
            return ids.iter().zip(pages).map(|(id, page)| self.read_into(*id, page)).collect();
        }
        let count = ids.len().min(pages.len());
        let (ids, pages) = (&ids[..count], &mut pages[..count]);
        if ids.chunk_by(are_neighbours).all(|run| run.len() == 1) {
            return self.read_runs(ids, pages, &mut []);
        }
        self.with_buffer(|buffer| self.read_runs(ids, pages, buffer))
    }

    fn read_runs(&self, ids: &[PageId], pages: &mut [Page], buffer: &mut [u8]) -> Vec<PageResult<()>> {
        let size = self.size.get();
        let (mut bytes_left, mut pages_left) = (&mut *buffer, &mut *pages);
        let mut batch = Vec::with_capacity(ids.len());
        for run in ids.chunk_by(are_neighbours) {
            let of_run;
            (of_run, pages_left) = pages_left.split_at_mut(run.len());
            let bytes = match of_run {
                [page] => page.bytes_mut(),
                several => {
                    let bytes;
                    (bytes, bytes_left) = bytes_left.split_at_mut(several.len() * size);
                    bytes
                }
            };
            batch.push(ReadAt::new(bytes, self.place(run[0]).expect("every id of the wave has a place")));
        }
        read_exact_batch(&*self.file, &mut batch);
        let read: Vec<io::Result<usize>> = batch.into_iter().map(|read| read.result).collect();

        let (mut pages, mut buffered) = (pages.iter_mut(), buffer.chunks(size));
        let mut results = Vec::with_capacity(ids.len());
        for (run, read) in ids.chunk_by(are_neighbours).zip(&read) {
            for (index, (id, page)) in run.iter().zip(pages.by_ref()).enumerate() {
                if run.len() > 1 {
                    page.bytes_mut().copy_from_slice(buffered.next().expect("the buffer holds every run"));
                }
                results.push(match read {
                    Ok(got) => self.check_read(*id, page, got.saturating_sub(index * size)),
                    Err(error) if run.len() == 1 || was_waited_for(error) => {
                        Err(PageError::io("read pages", again(error)))
                    }
                    Err(_) => self.read_into(*id, page),
                });
            }
        }
        results
    }

    /// Verifies a page of which the file gave `got` bytes, or more.
    pub(super) fn check_read(&self, id: PageId, page: &Page, got: usize) -> PageResult<()> {
        let size = self.size.get();
        if got < size {
            return Err(PageError::ShortRead { page_id: id, got, page_size: size });
        }
        self.checksum.verify(id, page.bytes()).map(drop)
    }

    /// Writes pages that one buffer has room for: all at once, neighbours together. No page is there twice.
    pub(super) fn write_wave(&self, pages: &mut [Page], file_len: u64) -> PageResult<()> {
        let size = self.size.get();
        self.with_buffer(|buffer| {
            for (page, bytes) in pages.iter_mut().zip(buffer.chunks_mut(size)) {
                bytes.copy_from_slice(page.to_checksummed_bytes(&self.checksum));
            }
            let ids: Vec<PageId> = pages.iter().map(Page::id).collect();
            let (mut rest, mut batch) = (&*buffer, Vec::new());
            for run in ids.chunk_by(are_neighbours) {
                let (bytes, behind) = rest.split_at(run.len() * size);
                batch.push(WriteAt::new(bytes, self.offset_within(run[0], file_len)?));
                rest = behind;
            }
            write_all_batch(&*self.file, &mut batch);
            let written = batch.into_iter().try_for_each(|write| write.result.map(drop));
            written.map_err(|source| PageError::io("write pages", source))
        })
    }
}

/// Whether a transfer was tried until it would be told: each of its pages would be waited for as long again.
fn was_waited_for(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy)
}

/// The same error for another page.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn are_neighbours(a: &PageId, b: &PageId) -> bool {
    a.get().checked_add(1) == Some(b.get())
}
