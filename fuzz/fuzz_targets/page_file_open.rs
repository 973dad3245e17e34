//! Failure searched for: a file, with checksums that are right or not, whose opening or reading panics or hangs; a file that
//! was refused, or only read, and is not what it was; a page that is accepted and is not the one that was asked for.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pagestone_direct_io::{
    Create, DirectIo, Disk, File, OpenHow, PageFile, PageFileOptions, read_exact_at, write_all_at,
};
use pagestone_fuzz::repair::{self, Parts};
use pagestone_page_format::{DEFAULT_PAGE_SIZE, PageError, PageId, PageSize, PageStore};
use pagestone_testkit::{SimDisk, SimOptions};

const PATH: &str = "/pages";

fuzz_target!(|bytes: &[u8]| {
    let disk = SimDisk::with(SimOptions { direct: false, ..SimOptions::default() });
    let how = OpenHow { create: Create::New, write: true, direct: DirectIo::Off };
    let file = disk.open(Path::new(PATH), &how).expect("an empty disk");
    write_all_at(&*file, bytes, 0).expect("a disk that does not fail");
    disk.settle();
    for options in [
        PageFileOptions::new().direct_io(false),
        PageFileOptions::new().page_size(DEFAULT_PAGE_SIZE).direct_io(DirectIo::Prefer).create(true),
        PageFileOptions::new().page_size(PageSize::new(65_536).expect("a size")).direct_io(false),
    ] {
        if let Ok(pages) = options.open_on(&disk, Path::new(PATH)) {
            read_all(&pages, bytes.len());
            drop(pages);
        }
        same(&*file, bytes);
    }
    if let Ok(pages) = PageFileOptions::new().direct_io(false).open_on(&disk, Path::new(PATH)) {
        write_one(&pages, &file, bytes);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let len = fuzzer_mutate(data, size, max_size);
    // Now and then a length that has room for pages, which the default mutator finds slowly.
    let len = match seed >> 28 {
        0 | 1 => max_size.min(8192 + 4096 * (seed as usize >> 20 & 7)),
        2 => max_size.min(8192),
        _ => len,
    };
    if seed >> 24 & 7 != 0 {
        repair::page_file(&mut data[..len], Parts::from_number(seed | seed.rotate_left(9) & 0x1f));
    }
    len
});

/// Every page, one by one and in a batch: the same answers, and only pages that are the ones asked for.
fn read_all(pages: &PageFile, len: usize) {
    let size = pages.page_size().get();
    let count = pages.page_count().expect("a disk that does not fail");
    assert_eq!(count, len.saturating_sub(8192) as u64 / size as u64);
    assert!(pages.uuid().is_some());
    let ids: Vec<PageId> = (0..count.min(64) + 1).map(PageId::new).collect();
    let mut batch: Vec<_> = ids.iter().map(|id| pages.allocate_page(*id)).collect();
    let together = pages.read_many(&ids, &mut batch);
    for ((id, together), page) in ids.iter().zip(together).zip(&batch) {
        match (pages.read_page(*id), together) {
            (Ok(alone), Ok(())) => {
                assert_eq!(alone.id(), *id);
                assert!(id.get() < count);
                assert_eq!(alone.bytes(), page.bytes());
            }
            (Err(alone), Err(together)) => {
                assert_eq!(alone.to_string(), together.to_string());
                assert!(
                    matches!(
                        alone,
                        PageError::ShortRead { .. }
                            | PageError::BadMagic { .. }
                            | PageError::UnsupportedVersion { .. }
                            | PageError::ChecksumMismatch { .. }
                            | PageError::MisdirectedPage { .. }
                    ),
                    "{alone}"
                );
            }
            (alone, together) => panic!("alone {alone:?}, in a batch {together:?}"),
        }
    }
    for id in [PageId::new(1 << 52), PageId::new(u64::MAX)] {
        assert!(matches!(pages.read_page(id), Err(PageError::InvalidPageId { .. })));
    }
}

/// One page is written, and nothing but that page is changed.
fn write_one(pages: &PageFile, file: &Arc<dyn File>, before: &[u8]) {
    let size = pages.page_size().get();
    let id = PageId::new(before.len() as u64 % 3);
    let mut page = pages.allocate_page(id);
    page.payload_mut().fill(0x5a);
    pages.write_page(&mut page).expect("a disk that does not fail");
    assert_eq!(pages.read_page(id).expect("it was just written").bytes(), page.bytes());
    let at = 8192 + id.get() as usize * size;
    let mut expected = before.to_vec();
    expected.resize(before.len().max(at + size), 0);
    expected[at..at + size].copy_from_slice(page.bytes());
    same(&**file, &expected);
}

fn same(file: &dyn File, bytes: &[u8]) {
    assert_eq!(file.len().expect("a disk that does not fail"), bytes.len() as u64);
    let mut now = vec![0; bytes.len()];
    read_exact_at(file, &mut now, 0).expect("a disk that does not fail");
    assert!(now == bytes, "the file was changed");
}
