//! Batches of pages: what is under way at once.
//!
//! Invariant: a wave is what a page by itself would have been: each page gets its own result, and a page that fails spoils no other.
//!
//! ```text
//!   batch ──► waves of at most WAVE_BYTES ──► runs of neighbours, one transfer each ──► all transfers of a wave at once
//!             to write: stamped one by one ─► at most PIECE_BYTES each ───────────────► begun as they are stamped
//! ```

use std::io::{self, ErrorKind};

use pagestone_page_format::{AlignedBuf, Page, PageError, PageId, PageResult};

use super::PageFile;
use crate::{Backend, File, ReadAt, WriteAt, read_exact_batch, write_all_batch_atomic, write_all_stream};

/// So many bytes of a batch are under way at once at most.
const WAVE_BYTES: usize = 1 << 20;
/// The most bytes of neighbours in one transfer that writes, where several are under way at once: the first leave while the next are
/// stamped. Halves of a wave: shorter pieces cost a quiet device more than the stamping that they hide.
const PIECE_BYTES: usize = 512 << 10;
/// Buffers for them that are kept: as many as read ahead together, and some who write.
const SPARE_BUFFERS: usize = 8;

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

    /// Writes pages that one buffer has room for, and stamps the next while the first are under way. A page without neighbours is
    /// written from where it is, neighbours together by way of the buffer. No page is there twice, and each has a place.
    pub(super) fn write_wave(&self, pages: &mut [Page]) -> PageResult<()> {
        if pages.windows(2).any(|pair| are_neighbours(&pair[0].id(), &pair[1].id())) {
            return self.with_buffer(|buffer| self.write_runs(pages, buffer));
        }
        self.write_runs(pages, &mut [])
    }

    /// The same for pages that are stamped and stand one behind the other.
    pub(super) fn write_stamped_wave(&self, ids: &[PageId], mut images: &[u8]) -> PageResult<()> {
        let size = self.size.get();
        let runs = ids.chunk_by(are_neighbours);
        let pieces = runs.flat_map(|run| run.chunks(pages_of_piece(&*self.file, run.len(), size)));
        let mut writes = pieces.map(|piece| {
            let (bytes, behind) = images.split_at(piece.len() * size);
            images = behind;
            WriteAt::new(bytes, self.place(piece[0]).expect("every page of the wave has a place"))
        });
        let written = write_all_stream(&*self.file, &mut writes);
        let written = written.into_iter().try_for_each(|write| write.result.map(drop));
        written.map_err(|source| PageError::io("write pages", source))
    }

    /// Writes pages that have places, each whole or not at all, all at once. No page is there twice.
    pub(super) fn write_whole(&self, pages: &mut [Page]) -> PageResult<()> {
        let writes = pages.iter_mut().map(|page| {
            let offset = self.place(page.id()).expect("every page of the wave has a place");
            WriteAt::new(page.to_checksummed_bytes(&self.checksum), offset)
        });
        self.write_all_whole(writes.collect())
    }

    /// The same for pages that are stamped and stand one behind the other.
    pub(super) fn write_stamped_whole(&self, ids: &[PageId], images: &[u8]) -> PageResult<()> {
        let place = |id: &PageId| self.place(*id).expect("every page of the wave has a place");
        let writes = ids.iter().zip(images.chunks_exact(self.size.get()));
        self.write_all_whole(writes.map(|(id, image)| WriteAt::new(image, place(id))).collect())
    }

    fn write_all_whole(&self, mut writes: Vec<WriteAt<'_>>) -> PageResult<()> {
        write_all_batch_atomic(&*self.file, &mut writes);
        let written = writes.into_iter().try_for_each(|write| write.result.map(drop));
        written.map_err(|source| PageError::io("write pages atomically", source))
    }

    fn write_runs(&self, pages: &mut [Page], buffer: &mut [u8]) -> PageResult<()> {
        let size = self.size.get();
        let runs = pages.chunk_by_mut(|a, b| are_neighbours(&a.id(), &b.id()));
        let pieces = runs.flat_map(|run| run.chunks_mut(pages_of_piece(&*self.file, run.len(), size)));
        let mut bytes_left = buffer;
        let mut writes = pieces.map(|piece| {
            let offset = self.place(piece[0].id()).expect("every page of the wave has a place");
            let [page] = piece else {
                let (bytes, behind) = std::mem::take(&mut bytes_left).split_at_mut(piece.len() * size);
                bytes_left = behind;
                for (page, bytes) in piece.iter_mut().zip(bytes.chunks_exact_mut(size)) {
                    bytes.copy_from_slice(page.to_checksummed_bytes(&self.checksum));
                }
                return WriteAt::new(bytes, offset);
            };
            WriteAt::new(page.to_checksummed_bytes(&self.checksum), offset)
        });
        let written = write_all_stream(&*self.file, &mut writes);
        let written = written.into_iter().try_for_each(|write| write.result.map(drop));
        written.map_err(|source| PageError::io("write pages", source))
    }
}

/// Neighbours in one transfer of so many that are written together. A file that does one transfer after another gets them as one.
pub(crate) fn pages_of_piece(file: &dyn File, pages: usize, size: usize) -> usize {
    if pages * size > PIECE_BYTES && file.backend() == Backend::Blocking {
        return pages;
    }
    (PIECE_BYTES / size).max(1)
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
