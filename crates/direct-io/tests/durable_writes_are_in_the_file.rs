//! Prevents: a way of making bytes durable that writes others, drops some, or pretends to be there where it is not (I3, I9, I17).

use std::io::ErrorKind;
use std::sync::Arc;

use pagestone_direct_io::{
    Backend, DirectIo, Disk, DurableBy, File, OpenHow, RealDisk, WriteAt, read_exact_at, write_durable,
};
use pagestone_page_format::AlignedBuf;
use pagestone_testkit::{AfterFailedSync, DiskOp, FaultPlan, Keep, SimDisk};

const BLOCK: usize = 4096;

fn filled(len: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    buf.fill(byte);
    buf
}

fn read(file: &dyn File, len: usize) -> AlignedBuf {
    let mut back = AlignedBuf::zeroed(len);
    assert_eq!(read_exact_at(file, &mut back, 0).expect("reads"), len);
    back
}

#[test]
fn each_writes_every_byte_and_nothing_else() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        for backend in [Backend::Best, Backend::Blocking] {
            for by in DurableBy::ALL {
                let dir = tempfile::tempdir().expect("a directory");
                let path = dir.path().join("file");
                let disk = RealDisk::with_backend(backend);
                let plain = disk.open(&path, &OpenHow::create_new(direct)).expect("opens");
                let file = match by {
                    DurableBy::ODsync => disk.open_dsync(&path, direct).expect("this system has it"),
                    _ => Arc::clone(&plain),
                };
                // More than a ring holds at once, every other block.
                let bytes: Vec<AlignedBuf> = (0..90).map(|at| filled(BLOCK, at + 1)).collect();
                let mut batch: Vec<WriteAt<'_>> =
                    (0..).zip(&bytes).map(|(at, bytes)| WriteAt::new(bytes, at * 2 * BLOCK as u64)).collect();
                match write_durable(&*file, &mut batch, by) {
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        assert_eq!(
                            (by, plain.len().expect("len")),
                            (DurableBy::IoUring, 0),
                            "nothing is written"
                        );
                        if backend == Backend::Best {
                            println!("NOT TESTED: {by}: this system has no rings");
                        }
                        continue;
                    }
                    other => other.expect("written"),
                }
                let back = read(&*plain, 179 * BLOCK);
                for (at, block) in back.chunks(BLOCK).enumerate() {
                    let wanted = if at % 2 == 0 { at / 2 + 1 } else { 0 };
                    assert!(block.iter().all(|byte| usize::from(*byte) == wanted), "{by}: block {at}");
                }
            }
        }
    }
}

/// A write of a chain that the system refuses keeps those behind it from being begun: they are short, and not failures of their own.
#[test]
fn writes_behind_one_that_failed_are_told_as_not_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    drop(RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off)).expect("made"));
    let file = RealDisk.open(&path, &OpenHow::read(DirectIo::Off)).expect("opens");
    let bytes = filled(BLOCK, 1);
    let mut batch: Vec<WriteAt<'_>> = (0..3).map(|at| WriteAt::new(&bytes, at * BLOCK as u64)).collect();
    match file.write_batch_and_sync(&mut batch) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("NOT TESTED: a chain that is cut: this system has no rings");
        }
        synced => {
            assert!(!synced.expect("no sync was tried"));
            batch[0].result.as_ref().expect_err("opened to read");
            assert!(batch[1..].iter().all(|write| matches!(write.result, Ok(0))), "{batch:?}");
        }
    }
}

#[test]
fn only_a_regular_file_that_is_there_is_opened_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let kind = |path: &std::path::Path| RealDisk.open_dsync(path, DirectIo::Prefer).expect_err("none").kind();
    assert_eq!(kind(&dir.path().join("none")), ErrorKind::NotFound);
    assert_eq!(kind(dir.path()), ErrorKind::InvalidInput);
}

/// What the simulated disk proves things with: a write that is durable by itself, and nothing beside it.
#[test]
fn on_the_simulated_disk_each_is_durable_and_only_a_sync_takes_the_rest_along() {
    for by in DurableBy::ALL {
        let disk = SimDisk::new(1);
        let path = std::path::Path::new("/file");
        let plain = disk.open(path, &OpenHow::create_new(DirectIo::Off)).expect("opens");
        plain.set_len(16 * BLOCK as u64).expect("length");
        plain.sync().expect("sync");
        disk.sync_dir(std::path::Path::new("/")).expect("sync");
        plain.write_at(&[9; BLOCK], 0).expect("another write");
        let file = match by {
            DurableBy::ODsync => disk.open_dsync(path, DirectIo::Off).expect("opens"),
            _ => Arc::clone(&plain),
        };
        let (one, other) = (filled(BLOCK, 1), filled(2 * BLOCK, 2));
        let mut batch = [WriteAt::new(&one, BLOCK as u64), WriteAt::new(&other, 4 * BLOCK as u64)];
        write_durable(&*file, &mut batch, by).expect("durable");
        let cut = disk.power_cut(Keep::Synced);
        let back = read(&*cut.open(path, &OpenHow::read(DirectIo::Off)).expect("opens"), 16 * BLOCK);
        let along = matches!(by, DurableBy::Fdatasync | DurableBy::IoUring);
        assert_eq!(back[0], if along { 9 } else { 0 }, "{by}");
        assert_eq!(
            (back[BLOCK], back[2 * BLOCK - 1], back[4 * BLOCK], back[6 * BLOCK - 1]),
            (1, 1, 2, 2),
            "{by}"
        );

        // A failure is one of a sync: the cache shows the bytes, the disk has what it had.
        disk.fail(FaultPlan::failed_sync(5, AfterFailedSync::CleanWithNew).on(DiskOp::Sync));
        write_durable(&*file, &mut [WriteAt::new(&filled(BLOCK, 7), BLOCK as u64)], by).expect_err("failed");
        assert_eq!(read(&*plain, 2 * BLOCK)[BLOCK], 7);
        let cut = disk.power_cut(Keep::Everything);
        let back = read(&*cut.open(path, &OpenHow::read(DirectIo::Off)).expect("opens"), 2 * BLOCK);
        assert_eq!(back[BLOCK], 1, "{by}");
    }
}
