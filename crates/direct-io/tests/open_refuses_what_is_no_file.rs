//! A store pointed at a FIFO, a device, a directory or a link must say so at once: an open that waits for a FIFO's other
//! end is a hang, and one that follows a link writes where nobody asked it to (E3).
#![cfg(unix)]

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pagestone_direct_io::{Create, DirectIo, Disk, OpenHow, PathKind, RealDisk};

const EVERY: [Create; 2] = [Create::Existing, Create::OpenOrNew];

fn refused_at_once(path: &Path) {
    for create in EVERY {
        for write in [false, true] {
            let begun = Instant::now();
            let how = OpenHow { create, write, direct: DirectIo::Prefer };
            let error = RealDisk.open(path, &how).expect_err("no regular file");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
            assert!(begun.elapsed() < Duration::from_millis(300), "{} hangs", path.display());
        }
    }
}

#[test]
fn a_fifo_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    assert!(std::fs::symlink_metadata(&path).expect("there").file_type().is_fifo());
    refused_at_once(&path);
    assert_eq!(RealDisk.kind(&path).expect("kind"), Some(PathKind::Other));
}

#[test]
fn a_directory_and_a_device_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    refused_at_once(dir.path());
    assert_eq!(RealDisk.kind(dir.path()).expect("kind"), Some(PathKind::Directory));
    refused_at_once(Path::new("/dev/null"));
    assert_eq!(RealDisk.kind(Path::new("/dev/null")).expect("kind"), Some(PathKind::Other));
}

#[test]
fn a_link_is_not_followed_even_to_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (target, link, dangling) =
        (dir.path().join("target"), dir.path().join("link"), dir.path().join("dangling"));
    std::fs::write(&target, b"untouched").expect("write");
    symlink(&target, &link).expect("link");
    symlink(dir.path().join("nowhere"), &dangling).expect("link");
    refused_at_once(&link);
    refused_at_once(&dangling);
    for path in [&link, &dangling] {
        let error = RealDisk.open(path, &OpenHow::create_new(DirectIo::Off)).expect_err("the name is taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(RealDisk.kind(path).expect("kind"), Some(PathKind::Other));
    }
    assert!(!dir.path().join("nowhere").exists());
    assert_eq!(std::fs::read(&target).expect("read"), b"untouched");
}

#[test]
fn absent_and_present_names_give_their_own_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let error = RealDisk.open(&path, &OpenHow::write(DirectIo::Off)).expect_err("absent");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(RealDisk.kind(&path).expect("kind"), None);
    RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off)).expect("create");
    assert_eq!(RealDisk.kind(&path).expect("kind"), Some(PathKind::File));
    let error = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off)).expect_err("present");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Off };
    RealDisk.open(&path, &how).expect("present");
    RealDisk.open(&dir.path().join("other"), &how).expect("absent");
    assert_eq!(RealDisk.list(dir.path()).expect("list"), ["file", "other"]);
}

#[test]
fn what_is_created_belongs_to_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (sub, file) = (dir.path().join("sub"), dir.path().join("sub/file"));
    RealDisk.create_dir(&sub).expect("create");
    assert_eq!(RealDisk.create_dir(&sub).expect_err("present").kind(), ErrorKind::AlreadyExists);
    RealDisk.open(&file, &OpenHow::create_new(DirectIo::Prefer)).expect("create");
    RealDisk.sync_dir(&sub).expect("sync");
    RealDisk.sync_dir(dir.path()).expect("sync");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&sub), mode(&file)), (0o700, 0o600));
    RealDisk.rename(&file, &dir.path().join("moved")).expect("rename");
    RealDisk.remove_file(&dir.path().join("moved")).expect("remove");
    assert_eq!(RealDisk.list(&sub).expect("list"), Vec::<std::ffi::OsString>::new());
    assert_eq!(
        RealDisk.sync_dir(&dir.path().join("absent")).expect_err("absent").kind(),
        ErrorKind::NotFound
    );
}
