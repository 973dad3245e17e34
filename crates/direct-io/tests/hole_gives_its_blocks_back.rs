//! Space that is freed and kept makes a file that only grows; and a hole that reaches past its range eats what lies beside it.
#![cfg(target_os = "linux")]

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, RealDisk, read_exact_at, write_all_at};
use pagestone_page_format::AlignedBuf;

const LEN: usize = 1 << 20;

#[test]
fn blocks_fall_bytes_are_zero_and_the_rest_stays() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, &OpenHow::create_new(direct)).expect("create");
        let mut bytes = AlignedBuf::zeroed(LEN);
        bytes.fill(5);
        write_all_at(&*file, &bytes, 0).expect("write");
        file.sync().expect("sync");
        let blocks = || std::fs::metadata(&path).expect("there").blocks() * 512;
        let before = blocks();
        // From inside one block to inside another: 3/4 of the file and a bit at each end.
        let (from, to) = (LEN / 8 - 100, LEN / 8 * 7 + 1000);
        match file.punch_hole(from as u64, (to - from) as u64) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return println!("NOT TESTED: holes: the file system has none");
            }
            punched => punched.expect("punched"),
        }
        let after = blocks();
        assert!(after + (LEN / 2) as u64 <= before, "{before} bytes of blocks, then {after}");
        assert_eq!(file.len().expect("len"), LEN as u64);
        assert_eq!(read_exact_at(&*file, &mut bytes, 0).expect("read"), LEN);
        let right = |at: usize| if (from..to).contains(&at) { 0 } else { 5 };
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == right(at)));

        file.punch_hole(LEN as u64 - 4096, 1 << 30).expect("past the end");
        file.punch_hole(1 << 30, 4096).expect("behind the end");
        file.punch_hole(0, 0).expect("nothing");
        assert_eq!(file.len().expect("len"), LEN as u64, "the length stays");
        let mut last = AlignedBuf::zeroed(8192);
        read_exact_at(&*file, &mut last, LEN as u64 - 8192).expect("read");
        assert!(last[..4096].iter().all(|byte| *byte == 5) && last[4096..].iter().all(|byte| *byte == 0));
        for (offset, len) in [(u64::MAX, 2), (0, u64::MAX), (1 << 62, 1 << 62)] {
            let error = file.punch_hole(offset, len).expect_err("no such range");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let reader = RealDisk.open(&path, &OpenHow::read(direct)).expect("open");
        assert!(reader.punch_hole(0, 4096).is_err(), "opened to read");
    }
}

#[test]
fn a_map_is_not_changed_behind_its_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = RealDisk.open(&dir.path().join("file"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    write_all_at(&*file, &[5; 16_384], 0).expect("write");
    assert!(file.try_lock().expect("asked"));
    let map = file.map(4096..8192, pagestone_direct_io::MapAccess::Read).expect("mapped");
    for (offset, len) in [(0, 16_384), (8191, 1), (4096, 1)] {
        let error = file.punch_hole(offset, len).expect_err("it is mapped");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(map.bytes().iter().all(|byte| *byte == 5));
}
