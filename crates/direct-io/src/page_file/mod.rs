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
//! The owner's part of a file that [`PageFile::open`] opens is its superblock:
//!
//! ```text
//!   options.rs      PageFileOptions: opened, or made whole or not at all
//!   reads.rs        pages that are read beside each other, each begun when it is known
//!   store.rs        what it does as a PageStore
//!   superblock.rs   what a page file says of itself, twice
//!   verbs.rs        the verbs of one page, for users without the trait
//!   wave.rs         batches of pages, all at once
//!   stream.rs       pages that are written while the next are made
//! ```
//!
//! A failed write is reported and can be tried again: the page is whole, torn or as it was, and whoever has its bytes has them still.
//! A failed sync ends the handle (R5, I9): writes, growth and syncs are `Poisoned` from then on, reads of a file that was opened by
//! its name fail, and reopening is the way out. Where a page file is one of several files that die together, its owner keeps a
//! poison of all of them beside.

mod options;
mod reads;
mod store;
mod stream;
mod superblock;
mod verbs;
mod wave;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use pagestone_page_format::{
    AlignedBuf, IO_ALIGNMENT, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore, Poison,
    StoreUuid,
};
use pagestone_sync::Mutex;

use crate::File;

pub use options::PageFileOptions;
pub(crate) use wave::pages_of_piece;

/// The fewest pages that a growing file is given at once.
const GROW_PAGES_MIN: u64 = 8;
/// A growing file is given this part of its length at once, so that the number of growths is logarithmic.
const GROW_PART: u64 = 32;
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
    /// Pages are written whole or not at all.
    atomic: bool,
    /// One grower at a time: [`File::reserve`] wants the end of the file for itself. Held across I/O; nobody who holds a
    /// latch may grow.
    growing: Mutex<()>,
    /// Buffers of [`WAVE_BYTES`], or of a page where that is more.
    spare: Mutex<Vec<AlignedBuf>>,
    /// The first sync that failed.
    poison: Poison,
    /// Of a file that describes itself; such a file grows as pages are written.
    description: Option<SelfDescription>,
}

#[derive(Debug)]
struct SelfDescription {
    uuid: StoreUuid,
    /// What is wrong with one of the two copies of the superblock.
    damage: Option<PageError>,
    read_only: bool,
}

impl PageFile {
    /// Over an open file whose page 0 stands at byte `base`, a multiple of 4096. A file that several threads sync, or that is synced
    /// past this page file, is a [`SharedSync`](crate::SharedSync): a system tells a failed sync to one caller only.
    ///
    /// Panics if `base` is none: that is a bug of the caller's.
    pub fn new(file: Arc<dyn File>, base: u64, size: PageSize, checksum: PageChecksum) -> Self {
        assert!(
            base.is_multiple_of(IO_ALIGNMENT as u64),
            "page 0 stands at a multiple of 4096, not at {base}"
        );
        Self {
            file,
            base,
            size,
            checksum,
            atomic: false,
            growing: Mutex::new(()),
            spare: Mutex::new(Vec::new()),
            poison: Poison::new(),
            description: None,
        }
    }

    /// The file, for what is no page in it.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Whether a page can be written so that a power cut leaves it whole or as it was: the file makes writes of its length atomic
    /// ([`File::atomic_write_units`]), and pages stand at multiples of it.
    pub fn has_atomic_writes(&self) -> bool {
        let size = self.size.get();
        let units = self.file.atomic_write_units();
        units.is_some_and(|units| units.contains(&size))
            && size.is_power_of_two()
            && self.base.is_multiple_of(size as u64)
    }

    /// From here on every page is written so, but for those of [`PageStore::write_new`]. Each is a transfer of its own.
    ///
    /// Errors: `Io` of kind `Unsupported` where [`PageFile::has_atomic_writes`] says no.
    pub fn with_atomic_writes(self) -> PageResult<Self> {
        if !self.has_atomic_writes() {
            return Err(PageError::io("write pages atomically", ErrorKind::Unsupported.into()));
        }
        Ok(Self { atomic: true, ..self })
    }

    /// What stamps and verifies its pages.
    pub fn checksum(&self) -> &PageChecksum {
        &self.checksum
    }

    /// The UUID in the superblock of a file that was opened by [`PageFile::open`] or [`PageFileOptions`].
    pub fn uuid(&self) -> Option<StoreUuid> {
        self.description.as_ref().map(|description| description.uuid)
    }

    /// What is wrong with a copy of that superblock; the other one was used.
    pub fn superblock_damage(&self) -> Option<&PageError> {
        self.description.as_ref()?.damage.as_ref()
    }

    /// Whether pages go past the system's cache now.
    pub fn is_direct(&self) -> bool {
        self.file.is_direct()
    }

    /// Pages that the file has room for now; one that was never written reads as an error.
    pub fn page_count(&self) -> PageResult<u64> {
        self.len()
    }

    /// Reads and verifies a page into a new buffer; otherwise as [`PageStore::read_into`].
    pub fn read_page(&self, id: PageId) -> PageResult<Page> {
        let mut page = self.allocate_page(id);
        self.read_into(id, &mut page)?;
        Ok(page)
    }

    fn is_read_only(&self) -> bool {
        self.description.as_ref().is_some_and(|description| description.read_only)
    }

    /// Refuses a change that this handle cannot make, or not any more.
    fn check_writable(&self, operation: &'static str) -> PageResult<()> {
        if self.is_read_only() {
            return Err(PageError::ReadOnly { operation });
        }
        self.poison.check()
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

    /// Where a page stands in a file of this length. `InvalidPageId` if it does not.
    fn offset_within(&self, id: PageId, file_len: u64) -> PageResult<u64> {
        let offset = self.offset_of(id)?;
        if offset + self.size.get() as u64 > file_len {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        Ok(offset)
    }

    /// Length of the file, once a file that grows as it is written has grown up to these pages.
    fn room_for(&self, ids: impl IntoIterator<Item = PageId>) -> PageResult<u64> {
        self.check_writable("write pages")?;
        let file_len = self.file_len()?;
        if self.description.is_none() {
            return Ok(file_len);
        }
        let mut end = file_len;
        for id in ids {
            end = end.max(self.offset_of(id)? + self.size.get() as u64);
        }
        if end == file_len {
            return Ok(file_len);
        }
        let _alone = self.growing.lock();
        let have = self.file_len()?;
        if have < end {
            self.file.reserve(have, end - have).map_err(|source| self.growth_error(source, end - have))?;
        }
        Ok(have.max(end))
    }

    /// Refuses a batch of which a page has no place; gives whether no page is there twice.
    fn have_places(&self, mut ids: Vec<PageId>) -> PageResult<bool> {
        let file_len = self.room_for(ids.iter().copied())?;
        ids.iter().try_for_each(|id| self.offset_within(*id, file_len).map(drop))?;
        ids.sort_unstable();
        Ok(ids.windows(2).all(|pair| pair[0] != pair[1]))
    }

    /// Writes pages that have places by `write`, as many at once as may be under way.
    fn write_waves(
        &self,
        pages: &mut [Page],
        write: impl Fn(&Self, &mut [Page]) -> PageResult<()>,
    ) -> PageResult<()> {
        pages.iter().try_for_each(|page| self.check_size(page))?;
        // Where a page is there twice the later one counts: in turn.
        let wave =
            if self.have_places(pages.iter().map(Page::id).collect())? { self.wave_pages() } else { 1 };
        pages.chunks_mut(wave).try_for_each(|wave| write(self, wave))
    }

    fn growth_error(&self, source: io::Error, needed: u64) -> PageError {
        if is_no_space(&source) { PageError::NoSpace { needed } } else { PageError::io("grow", source) }
    }

    fn file_len(&self) -> PageResult<u64> {
        self.file.len().map_err(|source| PageError::io("ask for the length", source))
    }
}

/// Whether the system says that there is no room: on the disk, in the quota, or in a file of this file system.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
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
    fn a_batch_is_what_its_pages_are_one_by_one() {
        let (file, store) = pages();
        store.grow(1000).expect("grow");
        // Neighbours, gaps, a run longer than one wave.
        let ids: Vec<u64> = (3..6).chain([9, 7, 8]).chain(100..700).chain([50, 51]).collect();
        let mut batch: Vec<Page> = ids
            .iter()
            .enumerate()
            .map(|(at, id)| {
                let mut page = store.allocate_page(PageId::new(*id));
                page.payload_mut().fill(at as u8);
                page
            })
            .collect();
        store.write_many(&mut batch).expect("write");
        assert!(file.transfers() < 10, "{} transfers", file.transfers());
        let wanted: Vec<PageId> = [2].into_iter().chain(ids.iter().copied()).map(PageId::new).collect();
        let mut read = vec![store.allocate_page(PageId::new(0)); wanted.len()];
        let results = store.read_many(&wanted, &mut read);
        assert!(matches!(results[0], Err(PageError::BadMagic { .. })), "nobody wrote page 2");
        assert!(results[1..].iter().all(Result::is_ok));
        for (page, written) in read[1..].iter().zip(&batch) {
            assert_eq!(page.bytes(), written.bytes());
        }
        let mut alone = store.allocate_page(PageId::new(0));
        store.read_into(PageId::new(350), &mut alone).expect("read");
        assert_eq!(alone.bytes(), batch[6 + 250].bytes());
        // The same page twice: the later one counts.
        let mut twice = [alone.clone(), alone.clone()];
        twice[1].payload_mut().fill(0xab);
        store.write_many(&mut twice).expect("write");
        store.read_into(PageId::new(350), &mut alone).expect("read");
        assert_eq!(alone.bytes(), twice[1].bytes());
    }

    #[test]
    fn stamped_pages_are_written_as_they_are() {
        let (file, store) = pages();
        store.grow(1000).expect("grow");
        let ids: Vec<PageId> = (3..6).chain([9, 7, 8]).chain(100..700).map(PageId::new).collect();
        let mut images = AlignedBuf::zeroed(ids.len() * SIZE);
        for (id, image) in ids.iter().zip(images.chunks_exact_mut(SIZE)) {
            let mut page = store.allocate_page(*id);
            page.payload_mut().fill(id.get() as u8);
            image.copy_from_slice(page.to_checksummed_bytes(store.checksum()));
        }
        let before = file.transfers();
        store.write_stamped(&ids, &images).expect("written");
        assert!(file.transfers() - before < 8, "{} transfers", file.transfers() - before);
        let mut page = store.allocate_page(PageId::new(0));
        for (id, image) in ids.iter().zip(images.chunks_exact(SIZE)) {
            store.read_into(*id, &mut page).expect("whole");
            assert_eq!(page.bytes(), image);
        }
        // A page without a place: nothing is written. The same page twice: the later one counts.
        file.script_forever(Script::Fail(ErrorKind::Other));
        let places = [PageId::new(3), PageId::new(u64::MAX)];
        let refused = store.write_stamped(&places, &images[..2 * SIZE]);
        assert!(matches!(refused, Err(PageError::InvalidPageId { .. })), "{refused:?}");
        file.script([]);
        let mut twice = AlignedBuf::zeroed(2 * SIZE);
        page.set_id(PageId::new(4));
        for image in twice.chunks_exact_mut(SIZE) {
            page.payload_mut()[0] += 1;
            image.copy_from_slice(page.to_checksummed_bytes(store.checksum()));
        }
        store.write_stamped(&[PageId::new(4); 2], &twice).expect("written");
        store.read_into(PageId::new(4), &mut page).expect("whole");
        assert_eq!(page.bytes(), &twice[SIZE..]);
    }

    #[test]
    fn one_bad_page_of_a_batch_spoils_no_other() {
        let (file, store) = pages();
        store.grow(8).expect("grow");
        let mut batch: Vec<Page> = (0..8).map(|id| store.allocate_page(PageId::new(id))).collect();
        store.write_many(&mut batch).expect("write");
        file.set_len(8192 + 7 * SIZE as u64 + 100).expect("cut");
        let ids: Vec<PageId> = (0..9).map(PageId::new).collect();
        let mut read = vec![store.allocate_page(PageId::new(0)); 9];
        let results = store.read_many(&ids, &mut read);
        assert!(results[..7].iter().all(Result::is_ok));
        assert!(matches!(results[7], Err(PageError::ShortRead { got: 100, .. })), "{:?}", results[7]);
        assert!(matches!(results[8], Err(PageError::ShortRead { got: 0, .. })), "{:?}", results[8]);
        // The transfer of all fails, then the second page by itself too.
        file.script([Script::Fail(ErrorKind::Other), Script::Short(SIZE), Script::Fail(ErrorKind::Other)]);
        let results = store.read_many(&ids[..4], &mut read[..4]);
        assert!(matches!(results[1], Err(PageError::Io { .. })), "{:?}", results[1]);
        assert!(results[0].is_ok() && results[2].is_ok() && results[3].is_ok());
        // A page without a place: nothing of its batch is written.
        batch.push(store.allocate_page(PageId::new(u64::MAX)));
        file.script_forever(Script::Fail(ErrorKind::Other));
        assert!(matches!(store.write_many(&mut batch), Err(PageError::InvalidPageId { .. })));
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
    fn a_place_is_unwritten_if_each_of_its_bytes_is_zero() {
        let (file, store) = pages();
        store.grow(2).expect("grow");
        let unwritten = |id| store.is_unwritten(PageId::new(id)).expect("it can be read");
        assert!([0, 1, 1000].into_iter().all(unwritten), "of no file's too");
        file.write_at(&[1], 8192 + 2 * SIZE as u64 - 1).expect("one byte");
        assert!(unwritten(0) && !unwritten(1));
        file.write_at(&[1], 8192 + 2 * SIZE as u64).expect("behind the last page");
        file.set_len(8192 + 2 * SIZE as u64 + 1).expect("cut");
        assert!(!unwritten(2) && unwritten(3));
        file.script_forever(Script::Fail(ErrorKind::Other));
        assert!(matches!(store.is_unwritten(PageId::new(0)), Err(PageError::Io { .. })));
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
