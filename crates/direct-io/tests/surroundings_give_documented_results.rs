//! Prevents: a page file that fails otherwise than documented, or changes something, where the file system has no direct I/O (I15),
//! takes no writes (I13), is full (I11), or is another user's (I14).
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pagestone_direct_io::{DirectIo, PageFile, PageFileOptions};
use pagestone_page_format::{PageError, PageId, PageResult, PageStore};
use pagestone_testkit::{Mount, OpenDir, SimDisk, as_another_user, is_superuser};

fn put(file: &PageFile, id: u64) -> PageResult<()> {
    let mut page = file.allocate_page(PageId::new(id));
    page.payload_mut().fill(id as u8 ^ 0x5a);
    file.write_page(&mut page)
}

fn make(path: &Path, pages: u64) {
    let file = PageFileOptions::new().open(path).expect("made");
    (0..pages).for_each(|id| put(&file, id).expect("written"));
    file.sync().expect("durable");
}

/// Pages `0..pages` are what [`put`] wrote.
fn agrees(file: &PageFile, pages: u64) {
    for id in 0..pages {
        let page = file.read_page(PageId::new(id)).expect("written");
        assert!(page.payload().iter().all(|byte| *byte == id as u8 ^ 0x5a), "page {id}");
    }
}

/// Every file of a directory with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

fn is_io(error: &PageError, kind: ErrorKind) -> bool {
    matches!(error, PageError::Io { source, .. } if source.kind() == kind)
}

#[test]
fn without_direct_io_preferred_falls_back_and_required_is_refused() {
    let Some(mount) = Mount::new("page-file-without-direct-io", "ramfs", "mode=755") else { return };
    let path = mount.path().join("pages");
    let error = PageFileOptions::new().direct_io(DirectIo::Required).open(&path).expect_err("there is none");
    assert!(is_io(&error, ErrorKind::Unsupported), "{error}");
    assert_eq!(contents(mount.path()).len(), 0, "a refused open leaves nothing behind");
    make(&path, 50);
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        let file = PageFileOptions::new().direct_io(direct).open(&path).expect("falls back");
        assert!(!file.is_direct(), "the fallback is reported");
        agrees(&file, 50);
        file.grow(100).expect("zeros where nothing can be allocated ahead");
        put(&file, 99).expect("written");
        file.sync().expect("durable");
    }
    let before = contents(mount.path());
    let error = PageFileOptions::new().direct_io(DirectIo::Required).open(&path).expect_err("there is none");
    assert!(is_io(&error, ErrorKind::Unsupported), "{error}");
    assert!(contents(mount.path()) == before);
}

#[test]
fn read_only_mount_is_told_and_can_be_read() {
    let Some(mount) = Mount::new("page-file-read-only", "tmpfs", "size=1m,mode=755") else { return };
    let path = mount.path().join("pages");
    make(&path, 20);
    let before = contents(mount.path());
    mount.remount("ro");
    for options in [PageFileOptions::new(), PageFileOptions::new().create(false)] {
        let error = options.open(&path).expect_err("takes no writes");
        assert!(matches!(error, PageError::ReadOnly { .. }), "{error}");
    }
    let error = PageFileOptions::new().open(mount.path().join("new")).expect_err("takes no writes");
    assert!(matches!(error, PageError::ReadOnly { .. }), "{error}");

    let read_only = PageFileOptions::new().read_only(true);
    let error = read_only.open(mount.path().join("new")).expect_err("none there");
    assert!(is_io(&error, ErrorKind::NotFound), "{error}");
    let readers = [(); 2].map(|()| read_only.open(&path).expect("readers share"));
    readers.iter().for_each(|file| agrees(file, 20));
    for refused in [
        put(&readers[0], 1),
        put(&readers[0], 100),
        readers[0].write_many(&mut [readers[0].allocate_page(PageId::new(2))]),
        readers[0].grow(1000),
    ] {
        assert!(matches!(refused, Err(PageError::ReadOnly { .. })), "{refused:?}");
    }
    readers[0].sync().expect("nothing to sync");
    drop(readers);
    mount.remount("rw");
    assert!(contents(mount.path()) == before);
    agrees(&PageFileOptions::new().open(&path).expect("opens"), 20);
}

/// On a file system that would take it.
#[test]
fn read_only_open_writes_nothing_and_keeps_writers_out() {
    let path = Path::new("/pages");
    let disk = SimDisk::new(1);
    let file = PageFileOptions::new().open_on(&disk, path).expect("made");
    put(&file, 0).expect("written");
    file.sync().expect("durable");
    drop(file);
    let journal = disk.journal_len();
    let file = PageFileOptions::new().read_only(true).open_on(&disk, path).expect("opens");
    agrees(&file, 1);
    assert!(matches!(put(&file, 0), Err(PageError::ReadOnly { .. })));
    file.sync().expect("nothing to sync");
    drop(file);
    assert_eq!(disk.journal_len(), journal, "not even a sync");

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pages");
    make(&path, 3);
    let reader = PageFileOptions::new().read_only(true).open(&path).expect("opens");
    let error = PageFileOptions::new().open(&path).expect_err("a reader is there");
    assert!(matches!(error, PageError::Locked { .. }), "{error}");
    drop(reader);
    let writer = PageFileOptions::new().open(&path).expect("opens");
    let error = PageFileOptions::new().read_only(true).open(&path).expect_err("a writer is there");
    assert!(matches!(error, PageError::Locked { .. }), "{error}");
    agrees(&writer, 3);
}

#[test]
fn full_disk_is_told_loses_nothing_and_passes() {
    let Some(mount) = Mount::new("page-file-full-disk", "tmpfs", "size=1m,mode=755") else { return };
    let path = mount.path().join("pages");
    fs::write(mount.path().join("ballast"), vec![1; 512 << 10]).expect("room");
    let file = PageFileOptions::new().open(&path).expect("made");
    let mut pages = 0;
    let error = loop {
        match put(&file, pages) {
            Ok(()) => pages += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PageError::NoSpace { needed } if needed >= 4096), "{error}");
    assert!(pages > 50, "{pages}");
    assert_eq!(file.page_count().expect("a length"), pages, "nothing was changed");
    for refused in [
        file.grow(pages + 1000),
        file.write_many(&mut [5, 6].map(|more| file.allocate_page(PageId::new(pages + more)))),
    ] {
        assert!(matches!(refused, Err(PageError::NoSpace { .. })), "{refused:?}");
    }
    assert_eq!(file.page_count().expect("a length"), pages);
    agrees(&file, pages);
    put(&file, 3).expect("what has a place can be written");
    file.sync().expect("durable");
    drop(file);
    agrees(&PageFileOptions::new().open(&path).expect("opens on a full disk"), pages);
    let error = PageFileOptions::new().open(mount.path().join("another")).expect_err("no room");
    assert!(matches!(error, PageError::NoSpace { .. }) || is_io(&error, ErrorKind::StorageFull), "{error}");
    assert!(!mount.path().join("another").exists(), "half a page file has no name");

    let file = PageFileOptions::new().open(&path).expect("opens");
    fs::remove_file(mount.path().join("ballast")).expect("freed");
    for id in pages..pages + 50 {
        put(&file, id).expect("there is room again");
    }
    file.sync().expect("durable");
    agrees(&file, pages + 50);
    PageFileOptions::new().open(mount.path().join("another")).expect("what was half made is made anew");
}

/// The superuser runs this test again as somebody else; everybody else takes the permissions from a file of their own.
#[test]
fn without_permission_the_system_says_so_and_nothing_is_changed() {
    const NAME: &str = "without_permission_the_system_says_so_and_nothing_is_changed";
    if is_superuser() {
        let dir = OpenDir::new("page-file-of-another-user");
        make(&dir.path().join("pages"), 2);
        let before = fs::read(dir.path().join("pages")).expect("read");
        let program = std::env::current_exe().expect("a test has a name");
        let Some(output) = as_another_user(&program, &["--exact", NAME, "--nocapture"], dir.path()) else {
            return;
        };
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        assert_eq!(fs::read(dir.path().join("pages")).expect("read"), before);
        return;
    }
    let own = tempfile::tempdir().expect("a directory");
    let here = if Path::new("pages").exists() { PathBuf::from(".") } else { own.path().to_path_buf() };
    let path = here.join("pages");
    if here == own.path() {
        make(&path, 2);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).expect("ours");
        fs::set_permissions(&here, fs::Permissions::from_mode(0o555)).expect("ours");
    }
    for options in [PageFileOptions::new(), PageFileOptions::new().read_only(true)] {
        let error = options.open(&path).expect_err("another's");
        assert!(is_io(&error, ErrorKind::PermissionDenied), "{error}");
    }
    let error = PageFileOptions::new().open(here.join("new")).expect_err("another's directory");
    assert!(is_io(&error, ErrorKind::PermissionDenied), "{error}");
    assert!(!here.join("new").exists() && !here.join("new.new").exists());
    if here == own.path() {
        fs::set_permissions(&here, fs::Permissions::from_mode(0o755)).expect("ours");
    }
}
