//! A store that asks for direct I/O and silently gets the system's cache has two caches and no memory budget (I15).
#![cfg(target_os = "linux")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pagestone_direct_io::{Create, DirectIo, Disk, File, OpenHow, RealDisk, read_exact_at, write_all_at};
use pagestone_page_format::AlignedBuf;

/// A regular file of a file system without direct I/O.
const NEVER_DIRECT: &str = "/proc/self/status";

#[test]
fn off_is_off_and_prefer_tells_what_it_got() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let off = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off)).expect("create");
    assert!(!off.is_direct());
    let prefer = RealDisk.open(&path, &OpenHow::write(DirectIo::Prefer)).expect("open");
    match RealDisk.open(&path, &OpenHow::write(DirectIo::Required)) {
        Ok(required) => assert!(required.is_direct() && prefer.is_direct()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(!prefer.is_direct());
        }
    }
    both_see_the_same(&*off, &*prefer);
}

#[test]
fn every_mode_works_in_memory_file_systems() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return; // a machine without one
    };
    let path = dir.path().join("file");
    let prefer = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Prefer)).expect("create");
    let off = RealDisk.open(&path, &OpenHow::write(DirectIo::Off)).expect("open");
    both_see_the_same(&*off, &*prefer);
}

fn both_see_the_same(one: &dyn File, other: &dyn File) {
    let mut bytes = AlignedBuf::zeroed(8192);
    bytes.fill(0x77);
    write_all_at(one, &bytes, 0).expect("write");
    one.sync().expect("sync");
    let mut back = AlignedBuf::zeroed(16_384);
    assert_eq!(read_exact_at(other, &mut back, 0).expect("read"), 8192);
    assert_eq!(back[..8192], bytes[..]);
    bytes.fill(0x78);
    write_all_at(other, &bytes, 4096).expect("write");
    other.sync().expect("sync");
    assert_eq!(read_exact_at(one, &mut back, 0).expect("read"), 12_288);
    assert_eq!(back[4096..12_288], bytes[..]);
}

#[test]
fn a_file_system_without_direct_io_falls_back_or_is_refused() {
    let path = Path::new(NEVER_DIRECT);
    let prefer = RealDisk.open(path, &OpenHow::read(DirectIo::Prefer)).expect("open");
    assert!(!prefer.is_direct(), "the fallback is reported");
    let mut buf = AlignedBuf::zeroed(4096);
    assert!(prefer.read_at(&mut buf, 0).expect("read") > 0);
    let error = RealDisk.open(path, &OpenHow::read(DirectIo::Required)).expect_err("no direct I/O");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_direct_file_refuses_what_is_not_aligned() {
    let dir = tempfile::tempdir().expect("a directory");
    let path: PathBuf = dir.path().join("file");
    let Ok(file) = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Required)) else {
        assert!(!path.exists(), "a refused open leaves nothing behind");
        return;
    };
    let buf = AlignedBuf::zeroed(8192);
    let result = write_all_at(&*file, &buf[1..4097], 0);
    assert!(file.is_direct());
    // Memory file systems take anything; disks do not.
    assert!(result.is_ok() || result.expect_err("refused").kind() == ErrorKind::InvalidInput);
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Prefer };
    let prefer = RealDisk.open(&path, &how).expect("open");
    let _ = write_all_at(&*prefer, &buf[1..4097], 0);
    assert!(prefer.is_direct(), "a caller's mistake is no reason to fall back");
}
