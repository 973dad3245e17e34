//! A simulated disk that keeps what was never synced proves nothing about the stores above it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{Create, DirectIo, Disk, File, OpenHow, PathKind, read_exact_at, write_all_at};
use pagestone_page_format::AlignedBuf;
use pagestone_testkit::{CrashOptions, Keep, SimDisk, SimOptions};

const ROOT: &str = "/";
const OFF: DirectIo = DirectIo::Off;

fn create(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), &OpenHow::create_new(OFF)).expect("create")
}

fn sync_dir(disk: &SimDisk, path: &str) {
    disk.sync_dir(Path::new(path)).expect("sync");
}

fn after(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.power_cut(Keep::Synced).contents(path).ok()
}

#[test]
fn bytes_are_what_was_written_until_the_power_is_cut() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    write_all_at(&*file, b"hello", 3).expect("write");
    write_all_at(&*file, b"HE", 3).expect("write");
    assert_eq!(disk.contents("a").expect("there"), b"\0\0\0HEllo");
    let mut back = [1; 10];
    assert_eq!(read_exact_at(&*file, &mut back, 2).expect("read"), 6);
    assert_eq!(&back[..6], b"\0HEllo");
    assert_eq!(disk.power_cut(Keep::Everything).contents("/a").expect("there"), b"\0\0\0HEllo");
    assert_eq!(after(&disk, "/a"), None, "the directory was not synced");
}

#[test]
fn a_synced_write_stays_and_an_unsynced_one_is_lost() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    sync_dir(&disk, ROOT);
    assert_eq!(after(&disk, "/a"), Some(vec![]));
    write_all_at(&*file, &[1; 1000], 0).expect("write");
    assert_eq!(after(&disk, "/a"), Some(vec![]));
    file.sync().expect("sync");
    write_all_at(&*file, &[2; 1000], 500).expect("write");
    assert_eq!(after(&disk, "/a"), Some(vec![1; 1000]));
    file.sync().expect("sync");
    let expected = [vec![1; 500], vec![2; 1000]].concat();
    assert_eq!(after(&disk, "/a"), Some(expected));
    file.set_len(10).expect("cut");
    file.reserve(0, 20).expect("reserve");
    assert_eq!(after(&disk, "/a").map(|bytes| bytes.len()), Some(1500));
    file.sync().expect("sync");
    assert_eq!(after(&disk, "/a"), Some([vec![1; 10], vec![0; 10]].concat()));
}

#[test]
fn a_hole_is_made_sector_by_sector_until_a_sync_covers_it() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    write_all_at(&*file, &[7; 2000], 0).expect("write");
    disk.settle();
    file.punch_hole(500, 1000).expect("punch");
    file.punch_hole(1990, 5000).expect("past the end too");
    file.punch_hole(9000, 10).expect("nothing there");
    let expected = [vec![7; 500], vec![0; 1000], vec![7; 490], vec![0; 10]].concat();
    assert_eq!(disk.contents("/a").expect("there"), expected);
    assert_eq!(after(&disk, "/a"), Some(vec![7; 2000]));

    // Sectors 0, 1 and 2 of the first hole and sector 3 of the second: each old or new.
    let mut seen = std::collections::BTreeSet::new();
    for image in disk.crash_states(&CrashOptions::default()) {
        let bytes = image.disk().contents("/a").expect("there");
        assert_eq!(bytes.len(), 2000, "a hole changes no length");
        let new: Vec<bool> = bytes.chunks(512).zip(expected.chunks(512)).map(|(is, new)| is == new).collect();
        for ((is, old), new) in bytes.chunks(512).zip([7; 2000].chunks(512)).zip(expected.chunks(512)) {
            assert!(is == old || is == new);
        }
        seen.insert(new);
    }
    assert_eq!(seen.len(), 16);
    file.sync().expect("sync");
    assert_eq!(after(&disk, "/a"), Some(expected));
    let reader = disk.open(Path::new("/a"), &OpenHow::read(OFF)).expect("open");
    assert!(reader.punch_hole(0, 10).is_err(), "opened to read");
}

#[test]
fn a_sync_of_one_file_says_nothing_of_another_or_of_the_name() {
    let disk = SimDisk::new(1);
    let (one, other) = (create(&disk, "/a"), create(&disk, "/b"));
    write_all_at(&*one, &[1; 10], 0).expect("write");
    write_all_at(&*other, &[2; 10], 0).expect("write");
    one.sync().expect("sync");
    assert_eq!((after(&disk, "/a"), after(&disk, "/b")), (None, None), "absent means never created");
    sync_dir(&disk, ROOT);
    assert_eq!((after(&disk, "/a"), after(&disk, "/b")), (Some(vec![1; 10]), Some(vec![])));
}

#[test]
fn names_need_a_sync_of_their_directory_and_of_every_one_above() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/d")).expect("create");
    let file = create(&disk, "/d/a");
    file.sync().expect("sync");
    sync_dir(&disk, "/d");
    assert_eq!(after(&disk, "/d/a"), None, "the directory itself has no durable name");
    sync_dir(&disk, ROOT);
    assert_eq!(after(&disk, "/d/a"), Some(vec![]));

    let rename = |from: &str, to: &str| disk.rename(Path::new(from), Path::new(to)).expect("rename");
    rename("/d/a", "/d/b");
    assert_eq!((after(&disk, "/d/a"), after(&disk, "/d/b")), (Some(vec![]), None));
    sync_dir(&disk, "/d");
    assert_eq!((after(&disk, "/d/a"), after(&disk, "/d/b")), (None, Some(vec![])));

    rename("/d/b", "/c");
    sync_dir(&disk, ROOT);
    assert_eq!((after(&disk, "/d/b"), after(&disk, "/c")), (Some(vec![]), None), "one of two directories");
    sync_dir(&disk, "/d");
    assert_eq!((after(&disk, "/d/b"), after(&disk, "/c")), (None, Some(vec![])));

    disk.remove_file(Path::new("/c")).expect("remove");
    sync_dir(&disk, "/d");
    assert_eq!(after(&disk, "/c"), Some(vec![]), "another directory");
    sync_dir(&disk, ROOT);
    assert_eq!(after(&disk, "/c"), None);
}

#[test]
fn a_rename_replaces_and_a_handle_keeps_its_file() {
    let disk = SimDisk::new(1);
    let (new, old) = (create(&disk, "/new"), create(&disk, "/old"));
    write_all_at(&*new, b"new", 0).expect("write");
    write_all_at(&*old, b"old", 0).expect("write");
    disk.settle();
    disk.rename(Path::new("/new"), Path::new("/old")).expect("rename");
    assert_eq!(disk.list(Path::new(ROOT)).expect("list"), ["old"]);
    assert_eq!(disk.contents("/old").expect("there"), b"new");
    let mut back = [0; 3];
    read_exact_at(&*old, &mut back, 0).expect("read");
    assert_eq!(&back, b"old");
    let crashed = disk.power_cut(Keep::Synced);
    assert_eq!(crashed.contents("/old").expect("there"), b"old");
    assert_eq!(crashed.contents("/new").expect("there"), b"new");
}

#[test]
fn a_state_by_lot_follows_from_its_seed() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    disk.settle();
    write_all_at(&*file, &[7; 64 * 512], 0).expect("write");
    let lot = |seed| disk.power_cut(Keep::Random(seed)).contents("/a").expect("there");
    assert_eq!(lot(1), lot(1));
    assert!((2..20).any(|seed| lot(seed) != lot(1)));
    for seed in 0..20 {
        for sector in lot(seed).chunks(512) {
            assert!(sector == [0; 512] || sector == [7; 512], "a sector is whole");
        }
    }
}

#[test]
fn names_behave_as_those_of_the_real_disk() {
    let disk = SimDisk::new(1);
    let path = Path::new;
    let error = |result: std::io::Result<Arc<dyn File>>| result.expect_err("refused").kind();
    disk.create_dir(path("/d")).expect("create");
    create(&disk, "/d/b");
    create(&disk, "/d/a");
    assert_eq!(disk.list(path("/d")).expect("list"), ["a", "b"]);
    assert_eq!(disk.create_dir(path("/d")).expect_err("there").kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.create_dir(path("/x/y")).expect_err("no parent").kind(), ErrorKind::NotFound);
    assert_eq!(disk.kind(path("/d")).expect("kind"), Some(PathKind::Directory));
    assert_eq!(disk.kind(path(ROOT)).expect("kind"), Some(PathKind::Directory));
    assert_eq!(disk.kind(path("d/a")).expect("kind"), Some(PathKind::File));
    assert_eq!(disk.kind(path("/d/c")).expect("kind"), None);
    assert_eq!(disk.kind(path("/x/c")).expect("kind"), None);
    for create in [Create::Existing, Create::OpenOrNew] {
        let how = OpenHow { create, write: true, direct: OFF };
        assert_eq!(error(disk.open(path("/d"), &how)), ErrorKind::InvalidInput);
        assert_eq!(error(disk.open(path("/d/a/b"), &how)), ErrorKind::NotADirectory);
        disk.open(path("/d/a"), &how).expect("open");
    }
    assert_eq!(error(disk.open(path("/d/a"), &OpenHow::create_new(OFF))), ErrorKind::AlreadyExists);
    assert_eq!(error(disk.open(path("/d/c"), &OpenHow::read(OFF))), ErrorKind::NotFound);
    assert_eq!(disk.rename(path("/d"), path("/d/e")).expect_err("in itself").kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.rename(path("/d/a"), path("/d/a")).expect("nothing"), ());
    assert_eq!(disk.rename(path("/d/c"), path("/d/e")).expect_err("absent").kind(), ErrorKind::NotFound);
    disk.rename(path("/d"), path("/e")).expect("rename");
    assert_eq!(disk.list(path("/e")).expect("list"), ["a", "b"]);
    disk.remove_file(path("/e/a")).expect("remove");
    assert_eq!(disk.remove_file(path("/e/a")).expect_err("absent").kind(), ErrorKind::NotFound);
    assert_eq!(disk.list(path("/e/b")).expect_err("a file").kind(), ErrorKind::NotADirectory);

    let reader = disk.open(path("/e/b"), &OpenHow::read(OFF)).expect("open");
    assert!(reader.write_at(b"x", 0).is_err() && reader.set_len(1).is_err());
}

#[test]
fn a_lock_belongs_to_a_handle() {
    let disk = SimDisk::new(1);
    let first = create(&disk, "/a");
    let second = disk.open(Path::new("/a"), &OpenHow::write(OFF)).expect("open");
    assert!(first.try_lock().expect("free") && first.try_lock().expect("ours"));
    assert!(!second.try_lock().expect("taken"));
    sync_dir(&disk, ROOT);
    let crashed = disk.power_cut(Keep::Synced);
    let other = crashed.open(Path::new("/a"), &OpenHow::write(OFF)).expect("open");
    assert!(other.try_lock().expect("a power cut ends every lock"));
    drop(first);
    assert!(second.try_lock().expect("free"));
}

#[test]
fn direct_files_refuse_what_is_not_aligned() {
    let disk = SimDisk::new(1);
    let path = Path::new("/a");
    let file = disk.open(path, &OpenHow::create_new(DirectIo::Prefer)).expect("create");
    assert!(file.is_direct());
    let mut buf = AlignedBuf::zeroed(8192);
    write_all_at(&*file, &buf, 4096).expect("aligned");
    for (range, offset) in [(0..4096, 512), (0..512, 0), (512..4608, 0)] {
        let error = file.write_at(&buf[range.clone()], offset).expect_err("not aligned");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            file.read_at(&mut buf[range], offset).expect_err("not aligned").kind(),
            ErrorKind::InvalidInput
        );
    }
    file.set_len(5000).expect("cut");
    assert_eq!(read_exact_at(&*file, &mut buf, 0).expect("read"), 5000);

    let plain = SimDisk::with(SimOptions { direct: false, ..SimOptions::default() });
    let error = plain.open(path, &OpenHow::create_new(DirectIo::Required)).expect_err("no direct I/O");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!plain.open(path, &OpenHow::create_new(DirectIo::Prefer)).expect("create").is_direct());
}

#[test]
fn impossible_ranges_are_refused() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    assert_eq!(file.read_at(&mut [0; 8], u64::MAX - 3).expect("past the end"), 0);
    assert_eq!(file.write_at(&[0; 8], u64::MAX - 3).expect_err("write").kind(), ErrorKind::InvalidInput);
    assert_eq!(file.write_at(&[0; 8], 1 << 60).expect_err("write").kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.set_len(1 << 60).expect_err("length").kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.reserve(1 << 60, 1).expect_err("reserve").kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.len().expect("len"), 0);
}
