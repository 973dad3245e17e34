//! Prevents: deciding what is durable by what the system's cache shows, which after a failed sync is on no device (I9).
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, RealDisk, read_exact_at, write_all_at};

const LEN: usize = 1 << 20;

/// Bytes of the file that the system has cached, as util-linux's `fincore` tells. `None` without it, and where no device is
/// below the file system.
fn cached(path: &Path) -> Option<u64> {
    let told = |program: &str, options: &[&str]| {
        let told = Command::new(program).args(options).arg(path).output().ok()?;
        told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().to_owned())
    };
    let file_system = told("stat", &["--file-system", "--format=%T"])?;
    let on_a_device = ["ext2/ext3", "xfs", "btrfs", "f2fs"].contains(&file_system.as_str());
    on_a_device
        .then(|| told("fincore", &["--bytes", "--raw", "--noheadings", "--output", "RES"]))??
        .parse()
        .ok()
}

#[test]
fn what_is_synced_leaves_the_cache_and_is_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let file = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off)).expect("create");
    write_all_at(&*file, &[7; LEN], 0).expect("write");
    file.drop_cache().expect("nothing is lost that is still to be written");
    let mut back = vec![0; LEN];
    assert_eq!(read_exact_at(&*file, &mut back, 0).expect("read"), LEN);
    assert!(back.iter().all(|byte| *byte == 7));

    file.sync().expect("sync");
    let before = cached(&path);
    file.drop_cache().expect("drop");
    match (before, cached(&path)) {
        (Some(before), Some(after)) => assert!(before > 0 && after == 0, "{before} bytes, then {after}"),
        _ => {
            println!("NOT TESTED: that pages leave the cache: no fincore, or no device below the file system")
        }
    }
    assert_eq!(read_exact_at(&*file, &mut back, 0).expect("read"), LEN);
    assert!(back.iter().all(|byte| *byte == 7));
}
