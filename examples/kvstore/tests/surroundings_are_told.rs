//! What the file system or the user cannot do is told by exit code 2 and a reason, and harms nothing: no direct I/O (I15), no writes
//! (I13), no room (I10, I11), no permission (I14).
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use pagestone_testkit::{Mount, OpenDir, as_another_user, is_superuser};
use support::{Ran, command, contents};

const BINARY: &str = env!("CARGO_BIN_EXE_kvstore");

fn run(dir: &Path, arguments: &[&str]) -> Ran {
    let mut command: Command = command(Path::new(BINARY), dir, arguments);
    Ran::of(command.stdin(Stdio::null()).output().expect("the command starts"))
}

#[test]
fn without_direct_io_it_works() {
    let Some(mount) = Mount::new("kvstore-without-direct-io", "ramfs", "mode=755") else { return };
    let dir = mount.path().join("store");
    run(&dir, &["put", "a", "1"]).done();
    assert_eq!(run(&dir, &["get", "a"]).done(), "1\n");
    run(&dir, &["verify"]).done();
}

#[test]
fn read_only_mount_is_told() {
    let Some(mount) = Mount::new("kvstore-read-only", "tmpfs", "size=16m,mode=755") else { return };
    let dir = mount.path().join("store");
    run(&dir, &["put", "a", "1"]).done();
    let before = contents(mount.path());
    mount.remount("ro");
    for arguments in [&["put", "b", "2"][..], &["get", "a"], &["scan"], &["checkpoint"]] {
        let reason = run(&dir, arguments).failed();
        assert!(reason.contains("read-only"), "{arguments:?}: {reason}");
    }
    let reason = run(&mount.path().join("new"), &["put", "b", "2"]).failed();
    assert!(reason.contains("read-only"), "{reason}");
    mount.remount("rw");
    assert!(contents(mount.path()) == before);
    assert_eq!(run(&dir, &["get", "a"]).done(), "1\n");
}

#[test]
fn full_disk_is_told_and_passes() {
    let Some(mount) = Mount::new("kvstore-full-disk", "tmpfs", "size=16m,mode=755") else { return };
    let dir = mount.path().join("store");
    run(&dir, &["put", "a", "1"]).done();
    let lines: String = (0..20_000).map(|number| format!("key-{number:06}\t{}\n", "v".repeat(900))).collect();
    let file = mount.path().with_extension("tsv");
    fs::write(&file, lines).expect("written");
    let reason = run(&dir, &["import", &file.display().to_string()]).failed();
    fs::remove_file(&file).expect("removed");
    assert!(reason.to_lowercase().contains("no space"), "{reason}");
    mount.remount("size=64m");
    assert_eq!(run(&dir, &["get", "a"]).done(), "1\n");
    run(&dir, &["verify"]).done();
    run(&dir, &["put", "b", "2"]).done();
    assert_eq!(run(&dir, &["get", "b"]).done(), "2\n");
}

#[test]
fn no_permission_is_told() {
    if is_superuser() {
        let place = OpenDir::new("kvstore-of-another-user");
        run(&place.path().join("store"), &["put", "a", "1"]).done();
        fs::set_permissions(place.path().join("store"), fs::Permissions::from_mode(0o755)).expect("ours");
        let before = contents(&place.path().join("store"));
        for dir in ["store", "new"] {
            let ran = as_another_user(Path::new(BINARY), &["--data-dir", dir, "put", "a", "2"], place.path());
            let Some(output) = ran else { return };
            let reason = Ran::of(output).failed();
            assert!(reason.contains("ermission denied"), "{reason}");
        }
        assert!(contents(&place.path().join("store")) == before);
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("store");
    run(&dir, &["put", "a", "1"]).done();
    fs::set_permissions(dir.join("data"), fs::Permissions::from_mode(0o0)).expect("ours");
    let reason = run(&dir, &["get", "a"]).failed();
    assert!(reason.contains("ermission denied"), "{reason}");
}
