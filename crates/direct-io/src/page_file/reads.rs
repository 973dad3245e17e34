//! Pages that are read beside each other, each begun when it is known.
//!
//! Invariant: each is what it would have been by itself (`PageStore::read_into`); one that has no place, or is no page of this file, is not begun.

use pagestone_page_format::{Page, PageError, PageId, PageRead, PageReads};

use super::PageFile;
use crate::{OwnedRead, Reads, wait_exact};

/// Reads of one page file.
pub(super) struct PageFileReads<'f> {
    file: &'f PageFile,
    reads: Box<dyn Reads + 'f>,
    /// Those that cannot be begun.
    refused: Vec<Page>,
    ended: Vec<OwnedRead>,
}

impl<'f> PageFileReads<'f> {
    pub(super) fn new(file: &'f PageFile) -> Self {
        Self { file, reads: file.file.reads(), refused: Vec::new(), ended: Vec::new() }
    }
}

impl PageReads for PageFileReads<'_> {
    fn begin(&mut self, page: Page) {
        let id = page.id();
        match self.file.place(id) {
            Some(offset) if page.page_size() == self.file.size => {
                self.reads.begin(OwnedRead::new(page.into_buf(), offset, id.get()));
            }
            Some(_) | None => self.refused.push(page),
        }
    }

    fn wait(&mut self, least: usize, ended: &mut Vec<PageRead>) {
        let least = least.saturating_sub(self.refused.len());
        for mut page in self.refused.drain(..) {
            let id = page.id();
            let result = self.file.read_into(id, &mut page); // says why it has no place
            ended.push(PageRead { id, page, result });
        }
        wait_exact(&*self.file.file, &mut *self.reads, least, &mut self.ended);
        for read in self.ended.drain(..) {
            let id = PageId::new(read.tag);
            let page = Page::from_buf(read.buf).expect("its memory was a page's");
            let read = read.result.map_err(|source| PageError::io("read a page", source));
            let result = read.and_then(|got| self.file.check_read(id, &page, got));
            ended.push(PageRead { id, page, result });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use pagestone_page_format::{
        ChecksumKind, DEFAULT_PAGE_SIZE, PageChecksum, PageSize, PageStore, StoreUuid,
    };

    use super::*;
    use crate::scripted::{Script, ScriptedFile};

    #[test]
    fn one_bad_page_spoils_no_other_and_short_reads_are_finished() {
        let file = Arc::new(ScriptedFile::new(false));
        let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([3; 16]));
        let store = PageFile::new(Arc::clone(&file) as _, 8192, DEFAULT_PAGE_SIZE, checksum);
        store.grow(8).expect("grow");
        let mut pages: Vec<Page> = (0..7).map(|id| store.allocate_page(PageId::new(id))).collect();
        pages.iter_mut().zip(0..).for_each(|(page, id)| page.payload_mut().fill(id));
        store.write_many(&mut pages).expect("written");
        let nowhere = PageId::new(u64::MAX);
        for (case, script) in [
            vec![],
            vec![Script::Short(100), Script::Short(4000), Script::Fail(ErrorKind::Interrupted)],
            vec![Script::Fail(ErrorKind::Other)],
        ]
        .into_iter()
        .enumerate()
        {
            file.script(script);
            let (mut reads, mut ended) = (store.reads(), Vec::new());
            reads.begin(store.allocate_page(PageId::new(2)));
            reads.begin(store.allocate_page(PageId::new(7))); // never written
            reads.begin(store.allocate_page(nowhere));
            reads.begin(Page::new(PageSize::new(8192).expect("a size"), PageId::new(3)));
            reads.begin(store.allocate_page(PageId::new(6)));
            while ended.len() < 5 {
                reads.wait(1, &mut ended);
            }
            ended.sort_by_key(|read| (read.id, read.page.page_size().get()));
            let results: Vec<_> = ended.iter().map(|read| &read.result).collect();
            match (case, results[0]) {
                (2, Err(PageError::Io { .. })) => {}
                (0 | 1, Ok(())) => assert!(ended[0].page.payload().iter().all(|byte| *byte == 2)),
                (_, other) => panic!("case {case}: {other:?}"),
            }
            assert!(matches!(results[1], Err(PageError::InvalidPageSize { size: 8192 })), "{results:?}");
            assert!(results[2].is_ok() && ended[2].page.payload().iter().all(|byte| *byte == 6));
            assert!(matches!(results[3], Err(PageError::BadMagic { .. })), "{results:?}");
            assert!(matches!(results[4], Err(PageError::InvalidPageId { page_id }) if *page_id == nowhere));
        }
    }
}
