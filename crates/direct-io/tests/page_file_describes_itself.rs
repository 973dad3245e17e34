//! Prevents: pages read under another size, a foreign file taken for a page file and overwritten, two handles of one file.

use std::fs;
use std::path::{Path, PathBuf};

use pagestone_direct_io::{DirectIo, PageFile, PageFileOptions};
use pagestone_page_format::{ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, PageError, PageId, PageSize};

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pages");
    (dir, path)
}

fn fill(file: &PageFile, pages: u64) {
    for id in (0..pages).rev() {
        let mut page = file.allocate_page(PageId::new(id));
        page.payload_mut().fill(id as u8 + 1);
        page.set_lsn(Lsn::new(id + 10));
        file.write_page(&mut page).expect("written");
    }
    file.sync().expect("durable");
}

fn agrees(file: &PageFile, pages: u64) {
    assert_eq!(file.page_count().expect("a length"), pages);
    for id in 0..pages {
        let page = file.read_page(PageId::new(id)).expect("written");
        assert_eq!(page.lsn(), Lsn::new(id + 10));
        assert!(page.payload().iter().all(|byte| *byte == id as u8 + 1));
    }
}

#[test]
fn file_keeps_its_size_and_checksum_at_every_page_size() {
    for log2 in 12..=20 {
        for (direct, kind) in [(true, ChecksumKind::Crc32c), (false, ChecksumKind::Crc64Nvme)] {
            let (_dir, path) = scratch();
            let size = PageSize::new(1 << log2).expect("a size");
            let options = PageFileOptions::new().page_size(size).direct_io(direct).checksum(kind);
            let file = options.open(&path).expect("made");
            assert_eq!((file.page_size(), file.page_count().expect("a length")), (size, 0));
            fill(&file, 5);
            agrees(&file, 5);
            let uuid = file.uuid().expect("it describes itself");
            drop(file);
            let file =
                PageFileOptions::new().direct_io(DirectIo::Off).create(false).open(&path).expect("opens");
            assert_eq!((file.page_size(), file.uuid()), (size, Some(uuid)));
            assert!(file.superblock_damage().is_none());
            agrees(&file, 5);
            drop(file);
            let other = PageSize::new(if log2 == 12 { 8192 } else { 4096 }).expect("a size");
            let error = PageFile::open(&path, other).expect_err("another size");
            assert!(matches!(error, PageError::Mismatch { .. }), "{error}");
            agrees(&PageFile::open(&path, size).expect("as it was"), 5);
        }
    }
}

fn refused(path: &Path, what: &str) {
    let before = fs::read(path).ok();
    let error = PageFile::open(path, DEFAULT_PAGE_SIZE).expect_err(what);
    let expected = if path.is_file() {
        matches!(error, PageError::InvalidSuperblock { .. })
    } else {
        matches!(error, PageError::Io { .. })
    };
    assert!(expected, "{what}: {error}");
    assert_eq!(fs::read(path).ok(), before, "{what} was changed");
}

#[test]
fn what_is_no_page_file_is_refused_and_left_as_it_was() {
    let (_dir, path) = scratch();
    let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    fill(&file, 3);
    drop(file);
    let whole = fs::read(&path).expect("there");
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (&b"#!/bin/sh\n"[..], "a script"),
        (&whole[..4095], "a part of the superblock"),
        (&[7; 50_000][..], "something else"),
    ] {
        fs::write(&path, bytes).expect("written");
        refused(&path, what);
    }
    fs::remove_file(&path).expect("there");
    fs::create_dir(&path).expect("a directory");
    refused(&path, "a directory");
    fs::remove_dir(&path).expect("there");
    let error = PageFileOptions::new().create(false).open(&path).expect_err("nothing");
    assert!(
        matches!(&error, PageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn making_a_file_touches_none_of_somebody_elses() {
    let (_dir, path) = scratch();
    let beside = path.with_file_name("pages.new");
    fill(&PageFile::open(&beside, DEFAULT_PAGE_SIZE).expect("a page file of that name"), 3);
    let pages = fs::read(&beside).expect("there");
    for bytes in [&pages[..], b"notes of mine", &[0; 9000], &[&[0; 100][..], b"text"].concat()] {
        fs::write(&beside, bytes).expect("written");
        let error = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect_err("it would be made there");
        assert!(matches!(error, PageError::Mismatch { .. }), "{error}");
        assert_eq!(fs::read(&beside).expect("there"), bytes, "changed");
        assert!(!path.exists());
    }
    // What a killed creation leaves is no hindrance.
    let made = &pages[..8192];
    for bytes in [&[][..], &made[..3], &made[..4096], &[&[0; 4096][..], &made[4096..]].concat(), made] {
        fs::write(&beside, bytes).expect("written");
        drop(PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made"));
        assert!(!beside.exists());
        fs::remove_file(&path).expect("there");
    }
}

#[test]
fn one_broken_superblock_is_told_and_two_are_refused() {
    let (_dir, path) = scratch();
    let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    fill(&file, 3);
    drop(file);
    let whole = fs::read(&path).expect("there");
    for at in [0, 9, 14, 20, 33, 4090] {
        for copy in [0, 4096] {
            let mut broken = whole.clone();
            broken[copy + at] ^= 1;
            fs::write(&path, &broken).expect("written");
            let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("the other copy is whole");
            assert!(file.superblock_damage().is_some());
            agrees(&file, 3);
        }
        let mut broken = whole.clone();
        broken[at] ^= 1;
        broken[4096 + at] ^= 1;
        fs::write(&path, &broken).expect("written");
        refused(&path, "both copies broken");
    }
}

#[test]
fn second_handle_is_locked_out() {
    let (_dir, path) = scratch();
    let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    let begun = std::time::Instant::now();
    let error = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect_err("locked");
    assert!(matches!(error, PageError::Locked { .. }), "{error}");
    println!("refused after {:?}", begun.elapsed());
    drop(file);
    PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("the lock went with its handle");
}

#[test]
fn impossible_page_touches_nothing() {
    let (_dir, path) = scratch();
    let file = PageFile::open(&path, DEFAULT_PAGE_SIZE).expect("made");
    fill(&file, 2);
    for id in [PageId::MAX.get() + 1, 1 << 52, u64::MAX] {
        let mut page = file.allocate_page(PageId::new(id));
        let error = file.write_page(&mut page).expect_err("no place");
        assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id.get() == id), "{error}");
        let error = file.read_page(PageId::new(id)).expect_err("no place");
        assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id.get() == id), "{error}");
    }
    // More than any disk has. Wine takes the length for a lack of memory.
    let mut page = file.allocate_page(PageId::new(1 << 40));
    let error = file.write_page(&mut page).expect_err("no room");
    assert!(cfg!(windows) || matches!(error, PageError::NoSpace { .. }), "{error}");
    agrees(&file, 2);
}
