//! Prevents: a read that was begun beside others and comes with another's bytes or result, twice or never; and a buffer that is freed while the
//! system still fills it.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    Backend, Create, DirectIo, Disk, File, OpenHow, OwnedRead, RealDisk, SharedSync, wait_exact,
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
        let file = match open(backend, &dir.path().join("file")) {
            Ok(file) => file,
            Err(error) if backend == Backend::IoUring && error.kind() == ErrorKind::Unsupported => {
                println!("NOT TESTED: io_uring: {error}");
                continue;
            }
            Err(error) => panic!("{backend:?}: {error}"),
        };
        let mut bytes = AlignedBuf::zeroed(BLOCKS as usize * BLOCK);
        for (block, number) in bytes.chunks_mut(BLOCK).zip(0..) {
            block.fill(number as u8);
            block[..8].copy_from_slice(&u64::to_le_bytes(number));
        }
        pagestone_direct_io::write_all_at(&*file, &bytes, 0).expect("written");
        files.push((backend, file, dir));
    }
    files
}

fn read(block: u64, tag: u64) -> OwnedRead {
    OwnedRead::new(AlignedBuf::zeroed(BLOCK), block * BLOCK as u64, tag)
}

fn has_block(read: &OwnedRead, block: u64) -> bool {
    read.buf[..8] == block.to_le_bytes() && read.buf[8..].iter().all(|byte| *byte == block as u8)
}

/// A generator of numbers: xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn each_comes_back_once_with_its_own_bytes() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        for (backend, file, _dir) in files(direct) {
            let shared = SharedSync::new(Arc::clone(&file));
            for file in [&*file, &shared] {
                let (mut random, mut reads, mut ended) = (7, file.reads(), Vec::new());
                let (mut begun, mut open) = (0, HashSet::new());
                while begun < 2000 || !open.is_empty() {
                    // Now and then more than a ring holds.
                    let most = if next(&mut random).is_multiple_of(16) { 200 } else { 32 };
                    while begun < 2000 && open.len() < most {
                        let block = next(&mut random) % BLOCKS;
                        reads.begin(read(block, begun << 16 | block));
                        open.insert(begun << 16 | block);
                        begun += 1;
                    }
                    let least = next(&mut random) as usize % (open.len() + 2);
                    wait_exact(file, &mut *reads, least, &mut ended);
                    assert!(ended.len() >= least.min(open.len()), "{backend:?}: {least} were waited for");
                    for read in ended.drain(..) {
                        assert!(matches!(read.result, Ok(BLOCK)), "{backend:?}: {:?}", read.result);
                        assert!(open.remove(&read.tag), "{backend:?}: given twice");
                        assert!(has_block(&read, read.tag & 0xffff), "{backend:?}");
                        assert_eq!(read.offset, (read.tag & 0xffff) * BLOCK as u64);
                    }
                }
                wait_exact(file, &mut *reads, 5, &mut ended);
                assert!(ended.is_empty(), "{backend:?}: nothing is left");
            }
        }
    }
}

#[test]
fn each_has_its_own_result() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        for (backend, file, _dir) in files(direct) {
            let end = BLOCKS * BLOCK as u64;
            file.set_len(end - 100).expect("cut");
            let (mut reads, mut ended) = (file.reads(), Vec::new());
            reads.begin(read(3, 0));
            reads.begin(read(BLOCKS - 1, 1));
            reads.begin(read(1 << 30, 2));
            reads.begin(OwnedRead::new(AlignedBuf::zeroed(BLOCK), u64::MAX, 3));
            reads.begin(OwnedRead::new(AlignedBuf::zeroed(BLOCK), BLOCK as u64 + 96, 4));
            reads.begin(read(5, 5));
            wait_exact(&*file, &mut *reads, usize::MAX, &mut ended);
            ended.sort_by_key(|read| read.tag);
            let results: Vec<_> = ended
                .iter()
                .map(|read| read.result.as_ref().map_err(|error| error.kind()).copied())
                .collect();
            // What stands at an uneven offset is read alike alone.
            let mut alone = AlignedBuf::zeroed(BLOCK);
            let alone = file.read_at(&mut alone, BLOCK as u64 + 96).map_err(|error| error.kind());
            let expected =
                [Ok(BLOCK), Ok(BLOCK - 100), Ok(0), Err(ErrorKind::InvalidInput), alone, Ok(BLOCK)];
            assert_eq!(results, expected, "{backend:?}, {direct:?}");
            assert!(has_block(&ended[0], 3) && has_block(&ended[5], 5));
        }
    }
}

#[test]
fn who_leaves_reads_under_way_harms_nobody() {
    for (backend, file, _dir) in files(DirectIo::Prefer) {
        for round in 0..100_u64 {
            let (mut reads, mut ended) = (file.reads(), Vec::new());
            (0..40).for_each(|block| reads.begin(read(block, block)));
            if round.is_multiple_of(2) {
                reads.wait(3, &mut ended); // the others are under way now
            }
            (40..60).for_each(|block| reads.begin(read(block, block)));
            drop(ended);
            if round.is_multiple_of(10) {
                std::mem::forget(reads); // their buffers with them
            } else {
                drop(reads);
            }
            // Memory that they had, for others: what is still filled would show.
            let others: Vec<Vec<u8>> = (0..60).map(|_| vec![0xee; 2 * BLOCK]).collect();
            let (mut reads, mut ended) = (file.reads(), Vec::new());
            (0..60).for_each(|block| reads.begin(read(round, block)));
            wait_exact(&*file, &mut *reads, 60, &mut ended);
            assert!(ended.iter().all(|read| has_block(read, round)), "{backend:?}");
            assert!(others.iter().flatten().all(|byte| *byte == 0xee), "{backend:?}");
        }
    }
}
