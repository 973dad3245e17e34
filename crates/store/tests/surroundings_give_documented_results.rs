//! Prevents: a store that fails otherwise than documented, or changes or loses something, where the file system has no direct I/O
//! (I15), takes no writes (I13), is full (I10, I11), or is another user's (I14).
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pagestone_direct_io::DirectIo;
use pagestone_page_format::PageError;
use pagestone_store::{Options, Store, StoreError};
use pagestone_testkit::{Mount, OpenDir, as_another_user, is_superuser};
use pagestone_wal::WalError;
use support::{State, small, verified_contents};

fn key(number: u64) -> Vec<u8> {
    format!("key-{number:06}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    vec![number as u8; 900]
}

fn fill(store: &Store, keys: std::ops::Range<u64>) {
    for number in keys {
        store.default_tree().put(&key(number), &value(number)).expect("put");
    }
}

fn expected(keys: std::ops::Range<u64>) -> State {
    keys.map(|number| (key(number), value(number))).collect()
}

fn make(dir: &Path, keys: u64) {
    let store = Store::open(dir, small()).expect("made");
    fill(&store, 0..keys);
    store.close().expect("closed");
}

/// Every file beneath a directory with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    all
}

fn is_io(error: &StoreError, kind: ErrorKind) -> bool {
    matches!(error, StoreError::Page(PageError::Io { source, .. }) | StoreError::Wal(WalError::Io { source, .. })
        if source.kind() == kind)
}

fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Page(PageError::NoSpace { .. }) | StoreError::Wal(WalError::NoSpace { .. }))
        || is_io(error, ErrorKind::StorageFull)
}

#[test]
fn without_direct_io_preferred_falls_back_and_required_is_refused() {
    let Some(mount) = Mount::new("store-without-direct-io", "ramfs", "mode=755") else { return };
    let dir = mount.path().join("store");
    let required = Options { direct_io: DirectIo::Required, ..small() };
    let error = Store::open(&dir, required.clone()).expect_err("there is none");
    assert!(is_io(&error, ErrorKind::Unsupported), "{error}");
    make(&dir, 200);
    let before = files(&dir);
    let error = Store::open(&dir, required).expect_err("there is none");
    assert!(is_io(&error, ErrorKind::Unsupported), "{error}");
    assert!(files(&dir) == before, "a refused opening changes nothing");
    let store = Store::open(&dir, small()).expect("falls back");
    assert!(!store.open_report().direct_io, "the fallback is reported");
    assert!(verified_contents(&store).expect("whole") == expected(0..200));
    fill(&store, 200..300);
    store.close().expect("closed");
}

#[test]
fn read_only_mount_is_told_and_changes_nothing() {
    let Some(mount) = Mount::new("store-read-only", "tmpfs", "size=8m,mode=755") else { return };
    let dir = mount.path().join("store");
    make(&dir, 100);
    let before = files(mount.path());
    mount.remount("ro");
    for (path, create) in [(&dir, true), (&dir, false), (&mount.path().join("new"), true)] {
        let error = Store::open(path, Options { create, ..small() }).expect_err("takes no writes");
        assert!(matches!(error, StoreError::Page(PageError::ReadOnly { .. })), "{error}");
    }
    let error =
        Store::open(mount.path().join("new"), Options { create: false, ..small() }).expect_err("none");
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    mount.remount("rw");
    assert!(files(mount.path()) == before);
    let store = Store::open(&dir, small()).expect("opens");
    assert!(verified_contents(&store).expect("whole") == expected(0..100));
}

#[test]
fn full_disk_is_told_loses_nothing_and_passes() {
    let Some(mount) = Mount::new("store-full-disk", "tmpfs", "size=8m,mode=755") else { return };
    let (dir, ballast) = (mount.path().join("store"), mount.path().join("ballast"));
    // No room to make one at all.
    fs::write(&ballast, vec![1; (8 << 20) - (64 << 10)]).expect("room");
    let error = Store::open(&dir, small()).expect_err("no room");
    assert!(is_full(&error), "{error}");
    fs::write(&ballast, vec![1; 2 << 20]).expect("room");
    // No room for more.
    let store = Store::open(&dir, small()).expect("what was half made is made anew");
    let mut keys = 0;
    let error = loop {
        let put = store.default_tree().put(&key(keys), &value(keys));
        match put.map(drop).and_then(|()| if keys % 64 == 0 { store.tick().map(drop) } else { Ok(()) }) {
            Ok(()) => keys += 1,
            Err(error) => break error,
        }
    };
    assert!(is_full(&error), "{error}");
    assert!(keys > 500, "{keys}");
    // The one that failed may be there: it was a tick that was refused, or it was not.
    let holds = |found: State| {
        assert!(found == expected(0..keys) || found == expected(0..keys + 1), "of {keys}: {}", found.len());
    };
    holds(support::contents(&store).expect("reads still work"));
    drop(store);
    let opened = Store::open(&dir, small());
    if let Ok(store) = &opened {
        holds(verified_contents(store).expect("whole on a full disk"));
    } else if let Err(error) = &opened {
        assert!(is_full(error), "{error}");
    }
    drop(opened);
    fs::remove_file(&ballast).expect("freed");
    let store = Store::open(&dir, small()).expect("there is room again");
    holds(verified_contents(&store).expect("whole"));
    fill(&store, keys..keys + 300);
    assert!(verified_contents(&store).expect("whole") == expected(0..keys + 300));
    store.close().expect("closed");
}

/// The handle that was told lives on.
#[test]
fn full_disk_that_has_room_again_is_written_by_the_same_handle() {
    let Some(mount) = Mount::new("store-room-again", "tmpfs", "size=8m,mode=755") else { return };
    let (dir, ballast) = (mount.path().join("store"), mount.path().join("ballast"));
    fs::write(&ballast, vec![1; 2 << 20]).expect("room");
    let store = Store::open(&dir, small()).expect("made");
    let mut keys = 0;
    let error = loop {
        match store.default_tree().put(&key(keys), &value(keys)) {
            Ok(_) => keys += 1,
            Err(error) => break error,
        }
        if keys % 64 == 0
            && let Err(error) = store.tick()
        {
            break error;
        }
    };
    assert!(is_full(&error), "{error}");
    fs::remove_file(&ballast).expect("freed");
    fill(&store, keys..keys + 300);
    assert!(verified_contents(&store).expect("whole") == expected(0..keys + 300));
    store.close().expect("closed");
    drop(store);
    let store = Store::open(&dir, small()).expect("opens");
    assert!(verified_contents(&store).expect("whole") == expected(0..keys + 300));
}

/// The superuser runs this test again as somebody else; everybody else takes the permissions from files of their own.
#[test]
fn without_permission_the_system_says_so_and_nothing_is_changed() {
    const NAME: &str = "without_permission_the_system_says_so_and_nothing_is_changed";
    if is_superuser() {
        let dir = OpenDir::new("store-of-another-user");
        make(&dir.path().join("store"), 20);
        fs::set_permissions(dir.path().join("store"), fs::Permissions::from_mode(0o755)).expect("ours");
        let before = files(&dir.path().join("store"));
        let program = std::env::current_exe().expect("a test has a name");
        let arguments = ["--exact", NAME, "--nocapture"];
        let Some(output) = as_another_user(&program, &arguments, dir.path()) else { return };
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        assert!(files(&dir.path().join("store")) == before);
        return;
    }
    let own = tempfile::tempdir().expect("a directory");
    let here = if Path::new("store").exists() { PathBuf::from(".") } else { own.path().to_path_buf() };
    let dir = here.join("store");
    if here == own.path() {
        make(&dir, 20);
        fs::set_permissions(dir.join("data"), fs::Permissions::from_mode(0o0)).expect("ours");
        fs::set_permissions(&here, fs::Permissions::from_mode(0o555)).expect("ours");
    }
    for path in [dir, here.join("new")] {
        let error = Store::open(&path, small()).expect_err("another's");
        assert!(is_io(&error, ErrorKind::PermissionDenied), "{error}");
    }
    assert!(!here.join("new").exists());
    if here == own.path() {
        fs::set_permissions(&here, fs::Permissions::from_mode(0o755)).expect("ours");
    }
}
