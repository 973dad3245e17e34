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

    /// Reads pages that one buffer has room for: all at once, neighbours together, and those of a transfer that failed one by one, so
    /// that each gets its own result; unless the file was busy all the time, which is so for each of them.
    pub(super) fn read_wave(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        let size = self.size.get();
        if ids.len() == 1 || ids.iter().any(|id| self.place(*id).is_none()) {
            return ids.iter().zip(pages).map(|(id, page)| self.read_into(*id, page)).collect();
        }
        self.with_buffer(|buffer| {
            let (mut rest, mut batch) = (buffer, Vec::new());
            for run in ids.chunk_by(are_neighbours) {
                let (bytes, behind) = rest.split_at_mut(run.len() * size);
                batch.push(ReadAt::new(bytes, self.place(run[0]).expect("every id of the wave has a place")));
                rest = behind;
            }
            read_exact_batch(&*self.file, &mut batch);
            let mut wanted = ids.iter().zip(pages);
            let mut results = Vec::with_capacity(ids.len());
            for read in &batch {
                let of_run = read.buf.chunks(size).enumerate().zip(wanted.by_ref());
                results.extend(of_run.map(|((index, bytes), (id, page))| match &read.result {
                    Ok(got) => self.take_in(*id, page, bytes, got.saturating_sub(index * size)),
                    Err(error) if bytes.len() == read.buf.len() || was_waited_for(error) => {
                        Err(PageError::io("read pages", again(error)))
                    }
                    Err(_) => self.read_into(*id, page),
                }));
            }
            results
        })
    }

    /// Verifies a page of which the file gave `got` bytes, or more.
    fn take_in(&self, id: PageId, page: &mut Page, bytes: &[u8], got: usize) -> PageResult<()> {
        self.check_size(page)?;
        if got < bytes.len() {
            return Err(PageError::ShortRead { page_id: id, got, page_size: bytes.len() });
        }
        page.bytes_mut().copy_from_slice(bytes);
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
