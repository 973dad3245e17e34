//! Pages that are written while the next are made.
//!
//! Invariant: a page is made and stamped where it is written from, and no transfer is begun before each of its pages has its place; so what
//! was made last is the only page that a failure of the maker concerns.
//!
//! ```text
//!   make ─► page, stamped ─► │ piece │          neighbours, PIECE_BYTES at most
//!                            └───────┴─► begun, and the next one filled in another buffer: a new one, until they are STREAM_BYTES; then the
//!                                        one that is written first
//! ```

use pagestone_page_format::{AlignedBuf, PageError, PageHeader, PageId, PageResult};

use super::PageFile;
use super::wave::pages_of_piece;
use crate::{OwnedWrite, Writes, wait_all};

/// So many bytes are made before it is waited for any of them.
const STREAM_BYTES: usize = 4 << 20;

/// What is under way, and the buffers of what is not.
struct Stream<'f> {
    file: &'f PageFile,
    writes: Box<dyn Writes + 'f>,
    piece_bytes: usize,
    /// Buffers that there may still be.
    more: usize,
    ended: Vec<OwnedWrite>,
    /// As it was found last.
    file_len: u64,
}

/// Neighbours that are one transfer.
struct Piece {
    buf: AlignedBuf,
    first: PageId,
    pages: usize,
}

impl PageFile {
    pub(super) fn write_stream(&self, make: &mut dyn FnMut(&mut [u8]) -> bool) -> PageResult<()> {
        let size = self.size.get();
        let mut stream = Stream::new(self);
        let mut piece = stream.piece()?;
        loop {
            let at = piece.pages * size;
            if !make(&mut piece.buf[at..at + size]) {
                break;
            }
            let page = &mut piece.buf[at..at + size];
            let id = PageHeader::decode(page).expect("a page is longer than its header").page_id;
            stream.find_place(id)?;
            self.checksum.stamp(page);
            if piece.pages == 0 {
                piece.first = id;
            } else if Some(id.get()) != piece.first.get().checked_add(piece.pages as u64) {
                let mut next = stream.piece()?;
                next.buf[..size].copy_from_slice(page);
                next.first = id;
                stream.begin(std::mem::replace(&mut piece, next))?;
            }
            piece.pages += 1;
            if (piece.pages + 1) * size > stream.piece_bytes {
                stream.begin(piece)?;
                piece = stream.piece()?;
            }
        }
        if piece.pages > 0 {
            stream.begin(piece)?;
        }
        stream.wait(usize::MAX)
    }
}

impl<'f> Stream<'f> {
    fn new(file: &'f PageFile) -> Self {
        let size = file.size.get();
        let piece_bytes = size * pages_of_piece(&*file.file, (STREAM_BYTES / 2 / size).max(1), size);
        let more = (STREAM_BYTES / piece_bytes).max(2);
        Self { file, writes: file.file.writes(), piece_bytes, more, ended: Vec::new(), file_len: 0 }
    }

    /// An empty piece, in a buffer that nobody writes from.
    fn piece(&mut self) -> PageResult<Piece> {
        if self.ended.is_empty() && self.more == 0 {
            self.wait(1)?;
        }
        let buf = match self.ended.pop() {
            Some(write) => write.buf,
            None => {
                self.more =
                    self.more.checked_sub(1).expect("there are two at least, and one is filled at a time");
                AlignedBuf::zeroed(self.piece_bytes)
            }
        };
        Ok(Piece { buf, first: PageId::new(0), pages: 0 })
    }

    /// Refuses a page that has no place; a file that grows as it is written grows up to it.
    fn find_place(&mut self, id: PageId) -> PageResult<()> {
        if self.file.offset_within(id, self.file_len).is_err() {
            self.file_len = self.file.room_for([id])?; // it may have grown since
            self.file.offset_within(id, self.file_len)?;
        }
        Ok(())
    }

    fn begin(&mut self, piece: Piece) -> PageResult<()> {
        let offset = self.file.offset_of(piece.first)?;
        self.writes.begin(OwnedWrite::new(piece.buf, piece.pages * self.file.size.get(), offset));
        Ok(())
    }

    /// Waits until so many that were begun have ended, and looks how.
    fn wait(&mut self, least: usize) -> PageResult<()> {
        let before = self.ended.len();
        wait_all(&*self.file.file, &mut *self.writes, least, &mut self.ended);
        for write in &mut self.ended[before..] {
            let result = std::mem::replace(&mut write.result, Ok(0));
            result.map_err(|source| PageError::io("write pages", source))?;
        }
        Ok(())
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
        store.write_new_stream(&mut |bytes| {
            let Some(id) = ids.next() else { return false };
            let mut page = store.allocate_page(PageId::new(id));
            page.payload_mut().fill(id as u8);
            bytes.copy_from_slice(page.bytes());
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
