//! Space that is promised and not taken makes a later commit fail on a full disk (I10, I11).
#![cfg(target_os = "linux")]

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, RealDisk, read_exact_at, write_all_at};
use pagestone_page_format::AlignedBuf;

#[test]
fn reserved_bytes_have_blocks_are_zero_and_spare_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let file = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Prefer)).expect("create");
    let mut bytes = AlignedBuf::zeroed(4096);
    bytes.fill(5);
    write_all_at(&*file, &bytes, 0).expect("write");
    file.reserve(0, 1 << 20).expect("reserve");
    assert_eq!(file.len().expect("len"), 1 << 20);
    let blocks = std::fs::metadata(&path).expect("there").blocks();
    assert!(blocks * 512 >= 1 << 20, "{blocks} blocks of 512 bytes");
    let mut back = AlignedBuf::zeroed(8192);
    assert_eq!(read_exact_at(&*file, &mut back, 0).expect("read"), 8192);
    assert!(back[..4096].iter().all(|byte| *byte == 5) && back[4096..].iter().all(|byte| *byte == 0));
    file.reserve(4096, 4096).expect("inside the file");
    assert_eq!(file.len().expect("len"), 1 << 20);
    file.set_len(4096).expect("cut");
    assert_eq!(file.len().expect("len"), 4096);
}

#[test]
fn what_cannot_be_had_leaves_the_length_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let file =
        RealDisk.open(&dir.path().join("file"), &OpenHow::create_new(DirectIo::Prefer)).expect("create");
    file.reserve(0, 4096).expect("reserve");
    // Lengths that no file can have: one that only this disk cannot hold would fill it first on some file systems.
    for (offset, len) in [(0, 1 << 63), (u64::MAX, 2), (1 << 62, 1 << 62)] {
        assert_eq!(file.reserve(offset, len).expect_err("too much").kind(), ErrorKind::FileTooLarge);
        assert_eq!(file.len().expect("len"), 4096);
    }
}
