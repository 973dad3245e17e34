//! A page read from a real file is the page that was written there, or an error that names what is wrong: a flipped bit,
//! a page of another place, a file that ends early (M1, M6, M9, R3).

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pagestone_direct_io::{DirectIo, Disk, OpenHow, PageFile, RealDisk};
use pagestone_page_format::{
    ChecksumKind, Lsn, Page, PageChecksum, PageError, PageId, PageSize, PageStore, StoreUuid,
};

const BASE: u64 = 8192;

fn store(path: &Path, how: OpenHow, size: usize) -> PageFile {
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([9; 16]));
    let file = RealDisk.open(path, &how).expect("open");
    PageFile::new(file, BASE, PageSize::new(size).expect("a size"), checksum)
}

/// Pages 0 to 7, each full of its number.
fn written(dir: &Path, direct: DirectIo, size: usize) -> PathBuf {
    let path = dir.join(format!("pages-{size}-{direct:?}"));
    let store = store(&path, OpenHow::create_new(direct), size);
    store.grow(8).expect("grow");
    let mut pages: Vec<Page> = (0..8).map(|id| store.allocate_page(PageId::new(id))).collect();
    for (number, page) in pages.iter_mut().enumerate() {
        page.payload_mut().fill(number as u8);
        page.set_lsn(Lsn::new(number as u64 + 1));
    }
    store.write_many(&mut pages).expect("write");
    store.sync().expect("sync");
    path
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).open(path).expect("open");
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.write_all(bytes).expect("write");
    file.sync_all().expect("sync");
}

#[test]
fn pages_come_back_under_every_mode_and_size() {
    let dir = tempfile::tempdir().expect("a directory");
    for size in [4096, 16_384, 65_536, 1 << 20] {
        for direct in [DirectIo::Prefer, DirectIo::Off] {
            let path = written(dir.path(), direct, size);
            for reading in [DirectIo::Prefer, DirectIo::Off] {
                let store = store(&path, OpenHow::read(reading), size);
                let mut pages: Vec<Page> = (0..8).map(|id| store.allocate_page(PageId::new(id))).collect();
                let ids: Vec<PageId> = (0..8).map(PageId::new).collect();
                for (number, result) in store.read_many(&ids, &mut pages).into_iter().enumerate() {
                    result.expect("a valid page");
                    assert_eq!(pages[number].lsn(), Lsn::new(number as u64 + 1));
                    assert!(pages[number].payload().iter().all(|byte| *byte == number as u8));
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), DirectIo::Off, 4096);
    let store = store(&path, OpenHow::read(DirectIo::Off), 4096);
    let image = std::fs::read(&path).expect("read");
    let mut page = store.allocate_page(PageId::new(3));
    for byte in (0..4096).step_by(61).chain([24, 31, 32, 4095]) {
        let at = BASE as usize + 3 * 4096 + byte;
        overwrite(&path, at as u64, &[image[at] ^ 0x10]);
        let error = store.read_into(PageId::new(3), &mut page).expect_err("a flipped bit");
        match byte {
            0..2 => assert!(matches!(error, PageError::BadMagic { .. }), "{byte}: {error}"),
            2 => assert!(matches!(error, PageError::UnsupportedVersion { .. }), "{byte}: {error}"),
            _ => assert!(
                matches!(error, PageError::ChecksumMismatch { page_id, .. } if page_id == PageId::new(3)),
                "{byte}: {error}"
            ),
        }
        overwrite(&path, at as u64, &[image[at]]);
        store.read_into(PageId::new(3), &mut page).expect("as it was");
    }
}

#[test]
fn a_page_at_the_wrong_place_is_misdirected() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), DirectIo::Prefer, 4096);
    let image = std::fs::read(&path).expect("read");
    let fifth = BASE as usize + 5 * 4096;
    overwrite(&path, BASE + 2 * 4096, &image[fifth..fifth + 4096]);
    let store = store(&path, OpenHow::read(DirectIo::Prefer), 4096);
    let mut page = store.allocate_page(PageId::new(2));
    let error = store.read_into(PageId::new(2), &mut page).expect_err("another page");
    let (asked, there) = (PageId::new(2), PageId::new(5));
    assert!(
        matches!(error, PageError::MisdirectedPage { requested, found } if requested == asked && found == there),
        "{error}"
    );
}

#[test]
fn a_page_of_another_file_does_not_pass() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), DirectIo::Prefer, 4096);
    let other = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([8; 16]));
    let file = RealDisk.open(&path, &OpenHow::read(DirectIo::Prefer)).expect("open");
    let store = PageFile::new(file, BASE, PageSize::new(4096).expect("a size"), other);
    let mut page = store.allocate_page(PageId::new(2));
    let error = store.read_into(PageId::new(2), &mut page).expect_err("another file");
    assert!(matches!(error, PageError::ChecksumMismatch { .. }), "{error}");
}

#[test]
fn a_file_that_ends_inside_a_page_is_a_short_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        let path = written(dir.path(), direct, 4096);
        let store = store(&path, OpenHow::write(direct), 4096);
        let mut page = store.allocate_page(PageId::new(3));
        for got in [4095, 4000, 512, 1, 0] {
            store.file().set_len(BASE + 3 * 4096 + got as u64).expect("cut");
            let error = store.read_into(PageId::new(3), &mut page).expect_err("the end");
            assert!(
                matches!(error, PageError::ShortRead { got: found, page_size: 4096, .. } if found == got),
                "{direct:?} {got}: {error}"
            );
            store.read_into(PageId::new(2), &mut page).expect("the page before");
        }
    }
}

#[test]
fn an_impossible_id_leaves_the_file_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), DirectIo::Prefer, 4096);
    let before = std::fs::read(&path).expect("read");
    let store = store(&path, OpenHow::write(DirectIo::Prefer), 4096);
    for id in [1 << 52, 1 << 42, u64::MAX, u64::MAX / 4096] {
        let id = PageId::new(id);
        let mut page = store.allocate_page(id);
        let error = store.write_page(&mut page).expect_err("write");
        assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id == id), "{error}");
        let error = store.read_into(id, &mut page).expect_err("read");
        assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id == id), "{error}");
    }
    assert_eq!(std::fs::read(&path).expect("read"), before);
}
