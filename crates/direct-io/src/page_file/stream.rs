//! Pages that are written while the next are made.
//!
//! Invariant: a page is stamped and copied before the next one is made, and no transfer is begun before each of its pages has its place; so
//! what was made last is the only page that a failure of the maker concerns.
//!
//! ```text
//!   make ─► page ─► stamped ─► buffer   │ piece │ piece │ piece │ ...          neighbours, PIECE_BYTES at most
//!                                           └───────┴─► begun while the next one is filled; waited for once the buffer is full
//! ```

use pagestone_page_format::{AlignedBuf, Page, PageError, PageId, PageResult};

use super::PageFile;
use super::wave::pages_of_piece;
use crate::{WriteAt, write_all_stream};

/// So many bytes are made before all of them are waited for: the last piece of them is the only one that nothing overlaps.
const STREAM_BYTES: usize = 8 << 20;

/// The maker, and the page that it made last.
struct Made<'m> {
    make: &'m mut dyn FnMut(&mut Page) -> bool,
    page: Page,
    /// Whether there is one that has no place in a buffer yet.
    waits: bool,
}

impl Made<'_> {
    fn next(&mut self) {
        self.waits = (self.make)(&mut self.page);
    }
}

impl PageFile {
    pub(super) fn write_stream(&self, make: &mut dyn FnMut(&mut Page) -> bool) -> PageResult<()> {
        let size = self.size.get();
        let mut made = Made { make, page: self.allocate_page(PageId::new(0)), waits: false };
        made.next();
        let mut buffer = AlignedBuf::zeroed(0);
        let mut file_len = 0;
        while made.waits {
            if buffer.is_empty() {
                buffer = AlignedBuf::zeroed(STREAM_BYTES.max(size));
            }
            let mut left = &mut buffer[..];
            let mut refused = None;
            let mut pieces = std::iter::from_fn(|| {
                let most = pages_of_piece(&*self.file, left.len() / size, size).min(left.len() / size);
                if !made.waits || most == 0 {
                    return None;
                }
                match self.fill_piece(&mut made, most, left, &mut file_len) {
                    Ok((offset, bytes)) => {
                        let (piece, behind) = std::mem::take(&mut left).split_at_mut(bytes);
                        left = behind;
                        Some(WriteAt::new(piece, offset))
                    }
                    Err(error) => {
                        refused = Some(error);
                        None
                    }
                }
            });
            let written = write_all_stream(&*self.file, &mut pieces);
            refused.map_or(Ok(()), Err)?;
            let written = written.into_iter().try_for_each(|write| write.result.map(drop));
            written.map_err(|source| PageError::io("write pages", source))?;
        }
        Ok(())
    }

    /// Fills a piece with the page that waits and its neighbours behind it; gives where it goes, and its bytes.
    fn fill_piece(
        &self,
        made: &mut Made<'_>,
        most: usize,
        buffer: &mut [u8],
        file_len: &mut u64,
    ) -> PageResult<(u64, usize)> {
        let (size, first) = (self.size.get(), made.page.id());
        let mut pages = 0;
        while made.waits
            && pages < most
            && Some(made.page.id().get()) == first.get().checked_add(pages as u64)
        {
            self.check_size(&made.page)?;
            if self.offset_within(made.page.id(), *file_len).is_err() {
                *file_len = self.room_for([made.page.id()])?; // it may have grown since
                self.offset_within(made.page.id(), *file_len)?;
            }
            let bytes = made.page.to_checksummed_bytes(&self.checksum);
            buffer[pages * size..][..size].copy_from_slice(bytes);
            pages += 1;
            made.next();
        }
        Ok((self.offset_of(first)?, pages * size))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use pagestone_page_format::{ChecksumKind, DEFAULT_PAGE_SIZE, PageChecksum, PageStore, StoreUuid};

    use super::*;
    use crate::scripted::{Script, ScriptedFile};

    fn pages() -> (Arc<ScriptedFile>, PageFile) {
        let file = Arc::new(ScriptedFile::new(true));
        let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([3; 16]));
        (Arc::clone(&file), PageFile::new(file, 8192, DEFAULT_PAGE_SIZE, checksum))
    }

    fn stream(store: &PageFile, ids: impl IntoIterator<Item = u64>) -> PageResult<()> {
        let mut ids = ids.into_iter();
        store.write_new_stream(&mut |page| {
            let Some(id) = ids.next() else { return false };
            *page = store.allocate_page(PageId::new(id));
            page.payload_mut().fill(id as u8);
            true
        })
    }

    #[test]
    fn what_is_made_is_written_each_at_its_place_in_long_transfers() {
        let (file, store) = pages();
        store.grow(6000).expect("grow");
        stream(&store, []).expect("nothing");
        assert_eq!(file.transfers(), 0);
        // Neighbours, gaps, backwards, and more than one buffer of them.
        let ids: Vec<u64> =
            (3..6).chain([9, 7, 8]).chain((100..5000).rev().take(3)).chain(100..4900).collect();
        stream(&store, ids.iter().copied()).expect("written");
        assert!(file.transfers() < 20, "{} transfers", file.transfers());
        let mut page = store.allocate_page(PageId::new(0));
        for id in ids {
            store.read_into(PageId::new(id), &mut page).expect("whole");
            assert!(page.payload().iter().all(|byte| *byte == id as u8), "{id}");
        }
    }

    #[test]
    fn a_page_without_a_place_and_a_failed_write_are_told() {
        let (file, store) = pages();
        store.grow(8).expect("grow");
        let beyond = store.len().expect("len");
        let refused = stream(&store, [1, 2, beyond]);
        assert!(matches!(refused, Err(PageError::InvalidPageId { page_id }) if page_id.get() == beyond));
        file.script_forever(Script::Fail(ErrorKind::Other));
        assert!(matches!(stream(&store, [1, 2]), Err(PageError::Io { .. })));
    }
}
