//! Prevents: a write that was begun beside others and takes another's bytes or result, ends twice or never; and a buffer that is freed or used
//! again while the system still reads it.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    Backend, Create, DirectIo, Disk, File, OpenHow, OwnedWrite, RealDisk, SharedSync, read_exact_at, wait_all,
};
use pagestone_page_format::AlignedBuf;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 512;

/// Those of this system: one that is missing is told.
fn files(direct: DirectIo) -> Vec<(Backend, Arc<dyn File>, tempfile::TempDir)> {
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct };
    let open = |backend: Backend, path: &Path| RealDisk::with_backend(backend).open(path, &how);
    let mut files = Vec::new();
    for backend in [Backend::Blocking, Backend::Threads, Backend::IoUring] {
        let dir = tempfile::tempdir().expect("a directory");
        match open(backend, &dir.path().join("file")) {
            Ok(file) => files.push((backend, file, dir)),
            Err(error) if backend == Backend::IoUring && error.kind() == ErrorKind::Unsupported => {
                println!("NOT TESTED: io_uring: {error}");
            }
            Err(error) => panic!("{backend:?}: {error}"),
        }
    }
    files
}

/// Fills a buffer, one of two blocks behind which there is more.
fn write(mut buf: AlignedBuf, block: u64, round: u64) -> OwnedWrite {
    for (part, number) in buf.chunks_mut(BLOCK).zip(block..) {
        part.fill((number ^ round) as u8);
        part[..8].copy_from_slice(&u64::to_le_bytes(number << 32 | round));
    }
    OwnedWrite::new(buf, 2 * BLOCK, block * BLOCK as u64)
}

fn check(file: &dyn File, block: u64, round: u64) {
    let mut bytes = AlignedBuf::zeroed(BLOCK);
    assert_eq!(read_exact_at(file, &mut bytes, block * BLOCK as u64).expect("readable"), BLOCK);
    assert_eq!(bytes[..8], u64::to_le_bytes(block << 32 | round), "block {block}");
    assert!(bytes[8..].iter().all(|byte| *byte == (block ^ round) as u8), "block {block}");
}

#[test]
fn each_ends_once_at_its_place_and_its_buffer_is_used_again() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        for (backend, file, _dir) in files(direct) {
            let shared = SharedSync::new(Arc::clone(&file));
            for (round, file) in (0..).zip([&*file, &shared, &*file]) {
                // More than a ring holds, or few.
                let most = [100, 6, 64][round as usize];
                let (mut writes, mut ended) = (file.writes(), Vec::new());
                let (mut buffers, mut open) = (Vec::new(), HashSet::new());
                buffers.resize_with(most, || AlignedBuf::zeroed(3 * BLOCK));
                for block in (0..BLOCKS).step_by(2) {
                    while buffers.is_empty() {
                        wait_all(file, &mut *writes, 1, &mut ended);
                        assert!(!ended.is_empty(), "{backend:?}: one was waited for");
                        for write in ended.drain(..) {
                            assert!(
                                matches!(write.result, Ok(len) if len == 2 * BLOCK),
                                "{:?}",
                                write.result
                            );
                            assert!(open.remove(&write.offset), "{backend:?}: given twice");
                            buffers.push(write.buf);
                        }
                    }
                    open.insert(block * BLOCK as u64);
                    writes.begin(write(buffers.pop().expect("one is free"), block, round));
                }
                wait_all(file, &mut *writes, usize::MAX, &mut ended);
                assert!(ended.iter().all(|write| write.result.is_ok() && open.remove(&write.offset)));
                assert!(open.is_empty(), "{backend:?}: all have ended");
                (0..BLOCKS).for_each(|block| check(file, block, round));
                assert_eq!(
                    file.len().expect("a length"),
                    BLOCKS * BLOCK as u64,
                    "the rest of a buffer is none"
                );
            }
        }
    }
}

#[test]
fn each_has_its_own_result() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        for (backend, file, _dir) in files(direct) {
            let (mut writes, mut ended) = (file.writes(), Vec::new());
            writes.begin(write(AlignedBuf::zeroed(2 * BLOCK), 0, 1));
            writes.begin(OwnedWrite::new(AlignedBuf::zeroed(BLOCK), BLOCK, u64::MAX));
            writes.begin(OwnedWrite::new(AlignedBuf::zeroed(BLOCK), 100, 3 * BLOCK as u64));
            writes.begin(write(AlignedBuf::zeroed(2 * BLOCK), 4, 1));
            wait_all(&*file, &mut *writes, usize::MAX, &mut ended);
            ended.sort_by_key(|write| write.offset);
            let results: Vec<_> = ended
                .iter()
                .map(|write| write.result.as_ref().map_err(|error| error.kind()).copied())
                .collect();
            // What is no block is written alike alone.
            let alone = AlignedBuf::zeroed(BLOCK);
            let alone = file.write_at(&alone[..100], 3 * BLOCK as u64).map_err(|error| error.kind());
            let expected = [Ok(2 * BLOCK), alone, Ok(2 * BLOCK), Err(ErrorKind::InvalidInput)];
            assert_eq!(results, expected, "{backend:?}, {direct:?}");
            [0, 1, 4, 5].into_iter().for_each(|block| check(&*file, block, 1));
        }
    }
}

#[test]
fn who_leaves_writes_under_way_harms_nobody() {
    for (backend, file, _dir) in files(DirectIo::Prefer) {
        for round in 0..100 {
            let (mut writes, mut ended) = (file.writes(), Vec::new());
            (0..40).for_each(|pair| writes.begin(write(AlignedBuf::zeroed(2 * BLOCK), 2 * pair, round)));
            if round.is_multiple_of(2) {
                writes.wait(3, &mut ended);
            }
            drop(ended);
            if round.is_multiple_of(10) {
                std::mem::forget(writes); // their buffers with them
            } else {
                drop(writes);
            }
            // Memory that they had, for others: what is still read would show.
            let _others: Vec<Vec<u8>> = (0..60).map(|_| vec![0xee; 4 * BLOCK]).collect();
            let (mut writes, mut ended) = (file.writes(), Vec::new());
            writes.begin(write(AlignedBuf::zeroed(2 * BLOCK), 100, round));
            wait_all(&*file, &mut *writes, 1, &mut ended);
            [100, 101].into_iter().for_each(|block| check(&*file, block, round));
            // Those that were left are written as they were, or not at all.
            let mut bytes = AlignedBuf::zeroed(BLOCK);
            for block in 0..80_u64 {
                read_exact_at(&*file, &mut bytes, block * BLOCK as u64).expect("readable");
                assert!(!bytes.contains(&0xee), "{backend:?}: block {block} has bytes of others");
            }
        }
    }
}
