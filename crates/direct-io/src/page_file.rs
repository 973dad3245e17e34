//! Pages at their places in a file.
//!
//! Invariant: page `n` stands in the bytes `base + n * size ..` of its file and nowhere else; every offset is computed
//! here, with checked arithmetic, and an id that has no place touches nothing.
//!
//! ```text
//!   0            base            base + size      base + 2 * size
//!   ┌─────────────┬────────────────┬────────────────┬───
//!   │ the owner's │     page 0     │     page 1     │ ...
//!   └─────────────┴────────────────┴────────────────┴───
//! ```
//!
//! A failed write or sync is reported and not remembered: the owner of the handle keeps the poison (R5), because a page
//! file may be one of several files that die together.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use pagestone_page_format::{
    IO_ALIGNMENT, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore,
};
use pagestone_sync::Mutex;

use crate::{File, read_exact_at, write_all_at};

/// The fewest pages that a growing file is given at once.
const GROW_PAGES_MIN: u64 = 8;
/// A growing file is given this part of its length at once, so that the number of growths is logarithmic.
const GROW_PART: u64 = 8;
/// The most bytes that a growing file is given at once beyond what was asked for, so that the wait stays short.
const GROW_BYTES_MAX: u64 = 64 << 20;

/// A [`PageStore`] over one [`File`].
///
/// ```
/// use std::sync::Arc;
/// use pagestone_direct_io::{DirectIo, Disk, OpenHow, PageFile, RealDisk};
/// use pagestone_page_format::{ChecksumKind, DEFAULT_PAGE_SIZE, PageChecksum, PageId, PageStore, StoreUuid};
/// # let dir = tempfile::tempdir()?;
/// let file = RealDisk.open(&dir.path().join("pages"), &OpenHow::create_new(DirectIo::Prefer))?;
/// let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([7; 16]));
/// let pages = PageFile::new(file, 4096, DEFAULT_PAGE_SIZE, checksum);
/// pages.grow(10)?;
/// let mut page = pages.allocate_page(PageId::new(3));
/// page.payload_mut()[..5].copy_from_slice(b"hello");
/// pages.write_page(&mut page)?;
/// pages.sync()?;
/// pages.read_into(PageId::new(3), &mut page)?;
/// assert_eq!(&page.payload()[..5], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PageFile {
    file: Arc<dyn File>,
    base: u64,
    size: PageSize,
    checksum: PageChecksum,
    /// One grower at a time: [`File::reserve`] wants the end of the file for itself. Held across I/O; nobody who holds a
    /// latch may grow.
    growing: Mutex<()>,
}

impl PageFile {
    /// Over an open file whose page 0 stands at byte `base`, a multiple of 4096.
    ///
    /// Panics if `base` is none: that is a bug of the caller's.
    pub fn new(file: Arc<dyn File>, base: u64, size: PageSize, checksum: PageChecksum) -> Self {
        assert!(
            base.is_multiple_of(IO_ALIGNMENT as u64),
            "page 0 stands at a multiple of 4096, not at {base}"
        );
        Self { file, base, size, checksum, growing: Mutex::new(()) }
    }

    /// The file, for what is no page in it.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// What stamps and verifies its pages.
    pub fn checksum(&self) -> &PageChecksum {
        &self.checksum
    }

    /// Where a page stands. `InvalidPageId` if no file can have it.
    fn offset_of(&self, id: PageId) -> PageResult<u64> {
        self.place(id).ok_or(PageError::InvalidPageId { page_id: id })
    }

    fn place(&self, id: PageId) -> Option<u64> {
        if id > PageId::MAX {
            return None;
        }
        let size = self.size.get() as u64;
        let offset = id.get().checked_mul(size)?.checked_add(self.base)?;
        (offset.checked_add(size)? <= i64::MAX as u64).then_some(offset)
    }

    fn check_size(&self, page: &Page) -> PageResult<()> {
        if page.page_size() == self.size {
            return Ok(());
        }
        Err(PageError::InvalidPageSize { size: page.page_size().get() })
    }

    /// Bytes of the file when it has room for `pages` pages.
    fn bytes_for(&self, pages: u64) -> Option<u64> {
        match pages.checked_sub(1) {
            None => Some(self.base),
            Some(last) => Some(self.place(PageId::new(last))? + self.size.get() as u64),
        }
    }

    fn file_len(&self) -> PageResult<u64> {
        self.file.len().map_err(|source| PageError::io("ask for the length", source))
    }
}

impl PageStore for PageFile {
    fn page_size(&self) -> PageSize {
        self.size
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.check_size(page)?;
        let offset = self.offset_of(id)?;
        let got = read_exact_at(&*self.file, page.bytes_mut(), offset)
            .map_err(|source| PageError::io("read a page", source))?;
        if got < self.size.get() {
            return Err(PageError::ShortRead { page_id: id, got, page_size: self.size.get() });
        }
        self.checksum.verify(id, page.bytes()).map(|_| ())
    }

    /// `InvalidPageId` also for a page past the end of the file: a file grows by [`PageStore::grow`] only, so that no
    /// write of a page allocates.
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.check_size(page)?;
        let id = page.id();
        let offset = self.offset_of(id)?;
        if offset + self.size.get() as u64 > self.file_len()? {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        let bytes = page.to_checksummed_bytes(&self.checksum);
        write_all_at(&*self.file, bytes, offset).map_err(|source| PageError::io("write a page", source))
    }

    fn sync(&self) -> PageResult<()> {
        self.file.sync().map_err(|source| PageError::io("sync", source))
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.file_len()?.saturating_sub(self.base) / self.size.get() as u64)
    }

    /// Grows in chunks: by an eighth of the file, at least 8 pages, at most 64 MiB. Where there is no room for a chunk,
    /// by exactly what was asked for.
    fn grow(&self, pages: u64) -> PageResult<()> {
        let _alone = self.growing.lock();
        let size = self.size.get() as u64;
        let have = self.file_len()?;
        let wanted = match self.bytes_for(pages) {
            Some(wanted) if wanted <= have => return Ok(()),
            Some(wanted) => wanted,
            None => return Err(PageError::NoSpace { needed: pages.saturating_mul(size) }),
        };
        let chunk = (have / GROW_PART).max(GROW_PAGES_MIN * size).min(GROW_BYTES_MAX) / size;
        let generous = self.bytes_for(self.len()? + chunk).filter(|generous| *generous > wanted);
        let reserve = |end: u64| self.file.reserve(have, end - have);
        let mut result = generous.map_or(Err(ErrorKind::StorageFull.into()), reserve);
        if matches!(&result, Err(error) if is_no_space(error)) {
            result = reserve(wanted);
        }
        result.map_err(|source| {
            if is_no_space(&source) {
                PageError::NoSpace { needed: wanted - have }
            } else {
                PageError::io("grow", source)
            }
        })
    }
}

/// Whether the system says that there is no room: on the disk, in the quota, or in a file of this file system.
fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, ScriptedFile};
    use pagestone_page_format::{ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, PAGE_MAGIC, StoreUuid};

    const SIZE: usize = 4096;

    fn pages() -> (Arc<ScriptedFile>, PageFile) {
        let file = Arc::new(ScriptedFile::new(true));
        let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([3; 16]));
        (Arc::clone(&file), PageFile::new(file, 8192, DEFAULT_PAGE_SIZE, checksum))
    }

    #[test]
    fn a_page_comes_back_as_it_was_written() {
        let (_, store) = pages();
        store.grow(4).expect("grow");
        for id in 0..4 {
            let mut page = store.allocate_page(PageId::new(id));
            page.set_lsn(Lsn::new(100 + id));
            page.payload_mut().fill(id as u8);
            store.write_page(&mut page).expect("write");
        }
        let mut page = store.allocate_page(PageId::new(0));
        for id in 0..4 {
            store.read_into(PageId::new(id), &mut page).expect("read");
            assert_eq!(page.lsn(), Lsn::new(100 + id));
            assert!(page.payload().iter().all(|byte| *byte == id as u8));
        }
    }

    #[test]
    fn an_impossible_id_touches_nothing() {
        let (file, store) = pages();
        store.grow(4).expect("grow");
        let before = (file.len().expect("len"), file.reserved());
        for id in [1 << 52, PageId::MAX.get() + 1, u64::MAX] {
            let mut page = store.allocate_page(PageId::new(id));
            let id = PageId::new(id);
            file.script_forever(Script::Fail(ErrorKind::Other)); // any transfer would show
            let error = store.write_page(&mut page).expect_err("write");
            assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id == id), "{error}");
            let error = store.read_into(id, &mut page).expect_err("read");
            assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id == id), "{error}");
        }
        assert!(matches!(store.grow(u64::MAX), Err(PageError::NoSpace { .. })));
        assert!(matches!(store.grow(1 << 52), Err(PageError::NoSpace { .. })));
        assert_eq!((file.len().expect("len"), file.reserved()), before);
    }

    #[test]
    fn a_page_past_the_end_is_neither_written_nor_read() {
        let (file, store) = pages();
        store.grow(1).expect("grow");
        let end = store.len().expect("len");
        let mut page = store.allocate_page(PageId::new(end));
        assert!(matches!(store.write_page(&mut page), Err(PageError::InvalidPageId { .. })));
        let error = store.read_into(PageId::new(end), &mut page).expect_err("read");
        assert!(matches!(error, PageError::ShortRead { got: 0, page_size: SIZE, .. }), "{error}");
        file.set_len(8192 + end * SIZE as u64 - 1).expect("cut");
        let error = store.read_into(PageId::new(end - 1), &mut page).expect_err("read");
        assert!(matches!(error, PageError::ShortRead { got: 4095, page_size: SIZE, .. }), "{error}");
        assert_eq!(store.len().expect("len"), end - 1, "a part of a page is no page");
    }

    #[test]
    fn a_page_never_written_is_an_error() {
        let (_, store) = pages();
        store.grow(1).expect("grow");
        let mut page = store.allocate_page(PageId::new(0));
        let error = store.read_into(PageId::new(0), &mut page).expect_err("zeros");
        assert!(matches!(error, PageError::BadMagic { found: 0, expected: PAGE_MAGIC, .. }), "{error}");
    }

    #[test]
    fn growth_comes_in_chunks_and_falls_back_to_what_was_asked() {
        let (file, store) = pages();
        store.grow(1).expect("grow");
        assert_eq!(file.len().expect("len"), 8192 + GROW_PAGES_MIN * SIZE as u64);
        store.grow(GROW_PAGES_MIN).expect("room is there");
        store.grow(GROW_PAGES_MIN + 2).expect("grow");
        file.fail_reserve([ErrorKind::StorageFull]);
        let have = store.len().expect("len");
        store.grow(have + 1).expect("the second try");
        assert_eq!(store.len().expect("len"), have + 1);
        let large = 5000;
        store.grow(large).expect("grow");
        assert_eq!(store.len().expect("len"), large, "more than a chunk is reserved exactly");
        assert!(file.reserved().windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn a_full_disk_is_no_space_and_changes_nothing() {
        let (file, store) = pages();
        store.grow(1).expect("grow");
        let have = store.len().expect("len");
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            file.fail_reserve([kind, kind]);
            let error = store.grow(have + 2).expect_err("full");
            assert!(matches!(error, PageError::NoSpace { needed } if needed == 2 * SIZE as u64), "{error}");
            assert_eq!(store.len().expect("len"), have);
        }
        file.fail_reserve([ErrorKind::PermissionDenied]);
        assert!(matches!(store.grow(have + 2), Err(PageError::Io { .. })));
        store.grow(have + 2).expect("the disk has room again");
    }

    #[test]
    fn a_page_of_another_size_is_refused() {
        let (_, store) = pages();
        store.grow(1).expect("grow");
        let mut large = Page::new(PageSize::new(8192).expect("a size"), PageId::new(0));
        assert!(matches!(store.write_page(&mut large), Err(PageError::InvalidPageSize { size: 8192 })));
        assert!(matches!(
            store.read_into(PageId::new(0), &mut large),
            Err(PageError::InvalidPageSize { size: 8192 })
        ));
    }
}
