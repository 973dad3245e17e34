//! A map that does not share its bytes with the file loses what was written through it; one whose bytes change behind its back
//! makes safe code unsound.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    DirectIo, Disk, File, FileMap, MapAccess, OpenHow, RealDisk, SharedSync, WriteAt, read_exact_at,
    write_all_at,
};

const CHUNK: u64 = 64 << 10;

fn locked(dir: &Path, chunks: u64) -> Arc<dyn File> {
    let file = RealDisk.open(&dir.join("file"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    assert!(file.try_lock().expect("lock"));
    file.reserve(0, chunks * CHUNK).expect("reserve");
    file
}

fn refused<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).expect_err("refused").kind()
}

#[test]
fn what_a_map_holds_the_file_reads_and_the_next_map_finds() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = locked(dir.path(), 2);
    write_all_at(&*file, &[7; 100], CHUNK).expect("before it is mapped");
    let mut map = file.map(CHUNK..2 * CHUNK, MapAccess::Write).expect("map");
    assert_eq!(map.bytes().len() as u64, CHUNK);
    assert_eq!((map.bytes()[99], map.bytes()[100]), (7, 0));
    map.bytes_mut()[99..101].copy_from_slice(b"ab");
    let mut back = [0; 4];
    read_exact_at(&*file, &mut back, CHUNK + 98).expect("read");
    assert_eq!(&back, b"\x07ab\0");
    map.flush(0..200).expect("flush");
    drop((map, file));

    let file = RealDisk.open(&dir.path().join("file"), &OpenHow::read(DirectIo::Off)).expect("open");
    assert!(file.try_lock().expect("the lock went with the last of them"));
    let map = file.map(0..2 * CHUNK, MapAccess::Read).expect("map");
    assert_eq!(&map.bytes()[CHUNK as usize + 98..][..4], b"\x07ab\0");
    map.flush(0..10).expect("nothing to do");
    assert_eq!(refused(file.map(0..10, MapAccess::Write)), ErrorKind::InvalidInput, "it is mapped to read");
    drop(map);
    assert_eq!(refused(file.map(0..10, MapAccess::Write)), ErrorKind::PermissionDenied, "opened to read");
}

#[test]
fn growth_leaves_earlier_maps_where_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = locked(dir.path(), 0);
    let mut maps: Vec<FileMap> = Vec::new();
    for chunk in 0..40u64 {
        file.reserve(chunk * CHUNK, CHUNK).expect("grow");
        let mut map = file.map(chunk * CHUNK..(chunk + 1) * CHUNK, MapAccess::Write).expect("map");
        let before: Vec<*const u8> = maps.iter().map(|map| map.bytes().as_ptr()).collect();
        map.bytes_mut().fill(chunk as u8 + 1);
        maps.push(map);
        let after: Vec<*const u8> = maps.iter().map(|map| map.bytes().as_ptr()).collect();
        assert_eq!(before, after[..before.len()]);
    }
    for (chunk, map) in maps.iter().enumerate() {
        assert!(map.bytes().iter().all(|byte| *byte == chunk as u8 + 1));
        assert!((map.bytes().as_ptr() as usize).is_multiple_of(4096));
    }
}

#[test]
fn nothing_changes_mapped_bytes_behind_the_maps_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = locked(dir.path(), 3);
    let map = file.map(CHUNK..2 * CHUNK, MapAccess::Write).expect("map");
    let invalid = ErrorKind::InvalidInput;
    assert_eq!(refused(file.write_at(&[1; 2], CHUNK - 1)), invalid);
    assert_eq!(refused(file.set_len(2 * CHUNK - 1)), invalid);
    for access in [MapAccess::Read, MapAccess::Write] {
        assert_eq!(refused(file.map(2 * CHUNK - 1..2 * CHUNK + 1, access)), invalid);
    }
    let mut batch = [WriteAt::new(&[1], 0), WriteAt::new(&[2], CHUNK), WriteAt::new(&[3], 2 * CHUNK)];
    file.write_batch(&mut batch);
    let results = batch.map(|write| write.result.is_ok());
    assert_eq!(results, [true, false, true], "each is told for itself");
    assert!(map.bytes().iter().all(|byte| *byte == 0));
    write_all_at(&*file, &[1; 10], 2 * CHUNK).expect("beside it");
    match file.set_len(2 * CHUNK) {
        Err(error) if cfg!(windows) => assert_eq!(error.kind(), invalid, "{error}"),
        cut => cut.expect("behind it"),
    }
    file.reserve(0, 4 * CHUNK).expect("longer");
    drop(map);
    write_all_at(&*file, &[1; 2], CHUNK - 1).expect("no map is left");
    file.set_len(0).expect("no map is left");
}

#[test]
fn a_map_keeps_the_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = locked(dir.path(), 1);
    let map = file.map(0..CHUNK, MapAccess::Write).expect("map");
    drop(file);
    let other = RealDisk.open(&dir.path().join("file"), &OpenHow::write(DirectIo::Off)).expect("open");
    assert!(!other.try_lock().expect("taken"));
    drop(map);
    assert!(other.try_lock().expect("free"));
}

#[test]
fn what_cannot_be_mapped_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = locked(dir.path(), 1);
    let map = |range| file.map(range, MapAccess::Write);
    assert_eq!(refused(map(0..CHUNK + 1)), ErrorKind::UnexpectedEof);
    assert_eq!(refused(map(10..10)), ErrorKind::InvalidInput);
    assert_eq!(refused(map(u64::MAX - 1..u64::MAX)), ErrorKind::UnexpectedEof);
    let small = map(100..200).expect("any range within the file");
    assert_eq!(small.bytes().len(), 100);
    for (start, end) in [(0, 101), (101, 102), (60, 50)] {
        assert_eq!(refused(small.flush(start..end)), ErrorKind::InvalidInput);
    }
    drop(small);

    let path = dir.path().join("file");
    let unlocked = RealDisk.open(&path, &OpenHow::write(DirectIo::Off)).expect("open");
    assert_eq!(refused(unlocked.map(0..10, MapAccess::Read)), ErrorKind::InvalidInput, "no lock");
    drop(file);
    let direct = RealDisk.open(&path, &OpenHow::write(DirectIo::Prefer)).expect("open");
    assert!(direct.try_lock().expect("free"));
    assert_eq!(refused(direct.map(0..10, MapAccess::Read)), ErrorKind::InvalidInput, "direct");
    let shared = SharedSync::new(unlocked);
    assert_eq!(refused(shared.map(0..10, MapAccess::Read)), ErrorKind::Unsupported);
}

#[test]
#[should_panic(expected = "made to read")]
fn a_map_made_to_read_is_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut map = locked(dir.path(), 1).map(0..CHUNK, MapAccess::Read).expect("map");
    map.bytes_mut()[0] = 1;
}
