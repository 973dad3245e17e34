//! Prevents: a group that survives a power cut while the bytes outside the log that it refers to do not (L12).
#![cfg(not(loom))]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{append, commit, fresh, group, options, recover, start};
use pagestone_direct_io::{DirectIo, Disk, File, OpenHow, read_exact_at, write_all_at};
use pagestone_page_format::PageError;
use pagestone_testkit::{CrashOptions, Keep, SimDisk};
use pagestone_wal::{Wal, WalError};

const DATA: &str = "/data";
const CHUNK: u64 = 1024;

fn data_file(disk: &SimDisk) -> Arc<dyn File> {
    let file = disk.open(Path::new(DATA), &OpenHow::create_new(DirectIo::Off)).expect("a new file");
    disk.sync_dir(Path::new("/")).expect("a healthy disk");
    file.set_len(64 * CHUNK).expect("a healthy disk");
    file.sync().expect("a healthy disk");
    file
}

/// Writes chunk `number` and appends a group that refers to it. Gives what to wait for.
fn refer(wal: &Wal, data: &dyn File, number: u32, len: usize) -> pagestone_page_format::Lsn {
    write_all_at(data, &[number as u8; CHUNK as usize], u64::from(number) * CHUNK).expect("a healthy disk");
    let mut group = group((7, number), len);
    group.refer_to_data();
    let space = wal.reserve(group.encoded_len()).expect("room");
    wal.append(space, &mut group).end
}

/// Runs a few batches, and gives in how many images a group was found whose chunk was not.
fn lost(
    barrier: impl FnOnce(Arc<dyn File>) -> Box<dyn Fn() -> pagestone_page_format::PageResult<()> + Send + Sync>,
) -> (u64, u64) {
    let options = options();
    let (disk, wal) = fresh(&options);
    let data = data_file(&disk);
    wal.set_write_barrier(barrier(Arc::clone(&data)));
    for number in 1..12 {
        // Groups of all lengths, so that blocks are shared by groups that refer to data and groups that do not.
        append(&wal, (1, number), 30);
        let end = refer(&wal, &*data, number, 100 + 700 * number as usize % 4500);
        append(&wal, (2, number), 60);
        if number % 3 != 0 {
            wal.wait_durable(end).expect("a healthy disk");
            disk.note(number.into());
        }
        commit(&wal, (3, number), 40);
    }
    assert_eq!(disk.audit(), []);
    let (mut images, mut broken) = (0, 0);
    for image in disk.crash_states(&CrashOptions { exhaustive_max: 256, ..CrashOptions::default() }) {
        let crashed = image.disk();
        let Ok((found, _)) = recover(&crashed, &options, start(1)) else {
            assert!(image.acknowledged().is_empty(), "{}", image.explain());
            continue; // the log was not made yet
        };
        images += 1;
        let file = crashed.open(Path::new(DATA), &OpenHow::read(DirectIo::Off));
        let mut bytes = [0; CHUNK as usize];
        let whole = found.iter().filter(|(writer, _)| *writer == 7).all(|(_, number)| {
            let file = file.as_ref().expect("the data file was synced before anything referred to it");
            read_exact_at(&**file, &mut bytes, u64::from(*number) * CHUNK).expect("it has its length");
            bytes == [*number as u8; CHUNK as usize]
        });
        broken += u64::from(!whole);
        for number in image.acknowledged() {
            assert!(found.contains(&(7, *number as u32)), "{}", image.explain());
        }
    }
    (images, broken)
}

#[test]
fn data_is_durable_before_the_first_byte_that_refers_to_it() {
    let (images, broken) =
        lost(|data| Box::new(move || data.sync().map_err(|error| PageError::io("sync", error))));
    assert!(images > 500, "only {images} images");
    assert_eq!(broken, 0);
}

#[test]
fn without_the_barrier_the_enumeration_finds_the_loss() {
    let (images, broken) = lost(|_| Box::new(|| Ok(())));
    assert!(broken > 0, "{images} images and none of them shows the missing sync");
}

#[test]
fn one_barrier_covers_a_batch_and_batches_without_data_pass_none() {
    let (disk, wal) = fresh(&options());
    let data = data_file(&disk);
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    wal.set_write_barrier(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let passed = || calls.load(Ordering::Relaxed);
    commit(&wal, (1, 1), 100);
    assert_eq!(passed(), 0);
    refer(&wal, &*data, 1, 50);
    refer(&wal, &*data, 2, 50);
    wal.wait_durable(refer(&wal, &*data, 3, 50)).expect("a healthy disk");
    assert_eq!(passed(), 1, "one for all three");
    // The block that they stand in is written again, with a group behind them that refers to nothing.
    commit(&wal, (1, 2), 100);
    assert_eq!(passed(), 1);
    wal.wait_durable(refer(&wal, &*data, 4, 50)).expect("a healthy disk");
    assert_eq!(passed(), 2);
}

#[test]
fn failed_barrier_ends_the_handle_and_writes_nothing() {
    let (disk, wal) = fresh(&options());
    let data = data_file(&disk);
    wal.set_write_barrier(|| Err(PageError::io("sync", std::io::Error::other("planted"))));
    let durable = commit(&wal, (1, 1), 100);
    let end = refer(&wal, &*data, 1, 50);
    assert!(matches!(wal.wait_durable(end), Err(WalError::Poisoned { .. })));
    assert_eq!(wal.durable_lsn(), durable);
    assert!(matches!(wal.flush(), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.reserve(10), Err(WalError::Poisoned { .. })));
    drop(wal);
    for keep in [Keep::Synced, Keep::Everything] {
        let crashed = disk.power_cut(keep);
        let (found, _) = recover(&crashed, &options(), start(1)).expect("recovers");
        assert_eq!(found, [(1, 1)], "no byte of the group reached the disk");
    }
}

#[test]
#[should_panic(expected = "L12")]
fn group_that_refers_to_data_needs_a_barrier() {
    let (disk, wal) = fresh(&options());
    let data = data_file(&disk);
    refer(&wal, &*data, 1, 50);
}
