//! Prevents: a page that is torn because a write of it did not ask to be whole; a file that is believed to write pages whole and does not; an
//! atomic write that is quietly made as an ordinary one (C4).

use std::path::Path;

use pagestone_direct_io::{
    Backend, DirectIo, Disk, OpenHow, PageFile, RealDisk, WriteAt, write_all_batch_atomic,
};
use pagestone_page_format::{
    AlignedBuf, ChecksumKind, DEFAULT_PAGE_SIZE, Page, PageChecksum, PageError, PageId, PageSize, PageStore,
    StoreUuid,
};
use pagestone_testkit::{AtomicWrites, FaultPlan, Keep, SimDisk, SimOptions, skipped};

const PAGE: usize = 4096;
const PAGES: u64 = 64;

fn checksum() -> PageChecksum {
    PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([6; 16]))
}

fn sim(atomic_writes: AtomicWrites) -> SimDisk {
    SimDisk::with(SimOptions { seed: 3, atomic_writes, ..SimOptions::default() })
}

fn pages_on(disk: &SimDisk, how: &OpenHow) -> PageFile {
    PageFile::new(disk.open(Path::new("/data"), how).expect("a file"), 8192, DEFAULT_PAGE_SIZE, checksum())
}

/// Every verb that writes a page, with a mark of its own.
fn write_by_every_verb(store: &PageFile, mark: u8) {
    let stamp = |id: u64| {
        let mut page = store.allocate_page(PageId::new(id));
        page.payload_mut().fill(mark);
        page
    };
    store.write_page(&mut stamp(0)).expect("a healthy disk");
    store.write_many(&mut (1..40).map(stamp).collect::<Vec<Page>>()).expect("a healthy disk");
    let ids: Vec<PageId> = (40..PAGES).map(PageId::new).collect();
    let mut images = AlignedBuf::zeroed(ids.len() * PAGE);
    for (id, image) in ids.iter().zip(images.chunks_exact_mut(PAGE)) {
        image.copy_from_slice(stamp(id.get()).to_checksummed_bytes(&checksum()));
    }
    store.write_stamped(&ids, &images).expect("a healthy disk");
}

/// Pages that fail their check after power cuts in the middle of it all.
fn torn(atomic_writes: AtomicWrites) -> usize {
    let disk = sim(atomic_writes);
    let store = pages_on(&disk, &OpenHow::create_new(DirectIo::Prefer));
    disk.sync_dir(Path::new("/")).expect("a healthy disk");
    store.grow(PAGES).expect("room");
    write_by_every_verb(&store, 1);
    store.sync().expect("a healthy disk");
    let store = store.with_atomic_writes().expect("offered");
    write_by_every_verb(&store, 2);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let cut = |seed| {
        let store = pages_on(&disk.power_cut(Keep::Random(seed)), &OpenHow::read(DirectIo::Prefer));
        (0..PAGES).filter(|id| store.read_page(PageId::new(*id)).is_err()).count()
    };
    (0..8).map(cut).sum()
}

#[test]
fn every_verb_that_writes_a_page_asks_for_it_whole() {
    assert_eq!(torn(AtomicWrites::Kept), 0);
    let broken = torn(AtomicWrites::Torn);
    assert!(broken > 100, "{broken} pages torn by a disk that tears: the test cannot fail");
}

#[test]
fn what_a_file_does_not_offer_for_a_page_is_refused() {
    let offered = |atomic_writes, direct, base, bytes| {
        let disk = sim(atomic_writes);
        let file = disk.open(Path::new("/data"), &OpenHow::create_new(direct)).expect("a file");
        let size = PageSize::new(bytes).expect("a size");
        let store = PageFile::new(file, base, size, checksum());
        let has = store.has_atomic_writes();
        assert_eq!(store.with_atomic_writes().is_ok(), has);
        has
    };
    assert!(offered(AtomicWrites::Kept, DirectIo::Required, 8192, 4096));
    assert!(!offered(AtomicWrites::None, DirectIo::Required, 8192, 4096));
    assert!(!offered(AtomicWrites::Kept, DirectIo::Off, 8192, 4096), "what goes through a cache");
    assert!(!offered(AtomicWrites::Kept, DirectIo::Required, 8192, 8192), "larger than the largest unit");
}

#[test]
fn interrupted_ones_are_made_again_and_failed_ones_are_told() {
    let disk = sim(AtomicWrites::Kept);
    let store = pages_on(&disk, &OpenHow::create_new(DirectIo::Prefer));
    store.grow(PAGES).expect("room");
    let store = store.with_atomic_writes().expect("offered");
    for errno in [libc_errno::EINTR, libc_errno::EAGAIN] {
        let fault = disk.fail(FaultPlan::errno(errno).skip(3));
        write_by_every_verb(&store, 3);
        assert_eq!(disk.injected(fault), 1);
    }
    disk.fail(FaultPlan::torn(libc_errno::EIO, 512));
    let mut page = store.allocate_page(PageId::new(5));
    let error = store.write_page(&mut page).expect_err("told");
    assert!(matches!(error, PageError::Io { .. }), "{error}");
    assert_eq!(store.read_page(PageId::new(5)).expect("whole").payload()[0], 3, "as it was");
}

/// Numbers of Linux, which the simulated disk speaks.
mod libc_errno {
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const EIO: i32 = 5;
    pub(crate) const EAGAIN: i32 = 11;
}

/// Of the real system: what it offers it does, and what it does not offer it refuses and does not do otherwise.
#[test]
fn the_system_keeps_to_what_it_says() {
    let dir = tempfile::tempdir().expect("a directory");
    for backend in [Backend::Blocking, Backend::Best] {
        let disk = RealDisk::with_backend(backend);
        let path = dir.path().join(format!("{backend:?}"));
        let file = disk.open(&path, &OpenHow::create_new(DirectIo::Prefer)).expect("a file");
        file.reserve(0, 16 * PAGE as u64).expect("room");
        let mut bytes = AlignedBuf::zeroed(4 * PAGE);
        bytes.fill(7);
        let mut batch: Vec<WriteAt<'_>> =
            bytes.chunks(PAGE).zip(0..).map(|(page, at)| WriteAt::new(page, at * PAGE as u64)).collect();
        let units = file.atomic_write_units();
        write_all_batch_atomic(&*file, &mut batch);
        let done = batch.iter().filter(|write| write.result.is_ok()).count();
        match units {
            Some(units) if units.contains(&PAGE) => assert_eq!(done, 4, "{batch:?}"),
            units => {
                assert_eq!(done, 0, "{units:?} was said");
                let reason = format!("atomic writes of {PAGE} bytes: the file system says {units:?}");
                skipped("the_system_keeps_to_what_it_says", &reason);
            }
        }
    }
}
