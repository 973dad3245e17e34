//! Two handles that write one store destroy it; so the second one is told `Locked`, soon, and never waits for ever (E1,
//! I18).

use std::time::{Duration, Instant};

use pagestone_direct_io::{DirectIo, Disk, OpenHow, RealDisk, lock_within};
use pagestone_page_format::PageError;

const LIMIT: Duration = Duration::from_millis(200);

#[test]
fn a_second_handle_is_refused_and_later_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let first = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Prefer)).expect("create");
    lock_within(&*first, &path, LIMIT).expect("free");

    let second = RealDisk.open(&path, &OpenHow::write(DirectIo::Off)).expect("open");
    let begun = Instant::now();
    let error = lock_within(&*second, &path, LIMIT).expect_err("taken");
    assert!(
        matches!(&error, PageError::Locked { path: told } if *told == path.display().to_string()),
        "{error}"
    );
    assert!(begun.elapsed() >= LIMIT, "a lock that outlives its holder briefly is waited for");
    assert!(begun.elapsed() < Duration::from_millis(300));

    drop(first);
    lock_within(&*second, &path, LIMIT).expect("free again");
}

#[test]
fn a_lock_that_ends_within_the_limit_is_had() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let first = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off)).expect("create");
    assert!(first.try_lock().expect("free"));
    let second = RealDisk.open(&path, &OpenHow::write(DirectIo::Off)).expect("open");
    assert!(!second.try_lock().expect("taken"));
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(first);
    });
    lock_within(&*second, &path, Duration::from_secs(10)).expect("free after a moment");
    holder.join().expect("the holder");
}
