//! Prevents: a batch through io_uring or through threads that reads or writes other bytes than blocking calls do, or mixes up its
//! results (I17); and a backend that is not the one that was asked for, in silence.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    Backend, DirectIo, Disk, File, OpenHow, ReadAt, RealDisk, SharedSync, WriteAt, read_exact_at,
    read_exact_batch, write_all_batch, write_all_stream,
};
use pagestone_page_format::AlignedBuf;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 2048;

/// Those of this system: one that is missing is told.
fn backends() -> Vec<Backend> {
    let dir = tempfile::tempdir().expect("a directory");
    let how = OpenHow { create: pagestone_direct_io::Create::OpenOrNew, write: true, direct: DirectIo::Off };
    let mut backends = vec![Backend::Blocking, Backend::Threads];
    match RealDisk::with_backend(Backend::IoUring).open(&dir.path().join("file"), &how) {
        Ok(_) => backends.push(Backend::IoUring),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            println!("NOT TESTED: io_uring: {error}");
        }
    }
    backends
}

fn open(path: &Path, backend: Backend, direct: DirectIo) -> Arc<dyn File> {
    let how = OpenHow { create: pagestone_direct_io::Create::OpenOrNew, write: true, direct };
    RealDisk::with_backend(backend).open(path, &how).expect("opens")
}

/// A generator of numbers: xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn random_batches_give_the_same_bytes() {
    for direct in [DirectIo::Prefer, DirectIo::Off] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |backend| dir.path().join(format!("{backend:?}"));
        let files: Vec<_> =
            backends().into_iter().map(|backend| open(&path(backend), backend, direct)).collect();
        files.iter().for_each(|file| file.reserve(0, BLOCKS * BLOCK as u64).expect("room"));
        let mut random = 7;
        for round in 0..60_u8 {
            // Up to 200 transfers, more than a ring holds; blocks of a batch do not overlap.
            let mut places: Vec<u64> =
                (0..1 + next(&mut random) % 200).map(|_| next(&mut random) % BLOCKS).collect();
            places.sort_unstable();
            places.dedup();
            let rotate = next(&mut random) as usize % places.len();
            places.rotate_left(rotate);
            let mut bytes = AlignedBuf::zeroed(places.len() * BLOCK);
            for (block, place) in bytes.chunks_mut(BLOCK).zip(&places) {
                block.fill(round ^ *place as u8);
                block[..8].copy_from_slice(&place.to_le_bytes());
            }
            for file in &files {
                let ranges = bytes.chunks(BLOCK).zip(&places);
                let mut writes = ranges.map(|(block, place)| WriteAt::new(block, place * BLOCK as u64));
                let batch = if round % 2 == 0 {
                    write_all_stream(&**file, &mut writes)
                } else {
                    let mut batch = writes.collect::<Vec<_>>();
                    write_all_batch(&**file, &mut batch);
                    batch
                };
                assert!(batch.iter().all(|write| matches!(write.result, Ok(BLOCK))));
                assert!(batch.iter().map(|write| write.offset / BLOCK as u64).eq(places.iter().copied()));
                let mut back = AlignedBuf::zeroed(bytes.len());
                let ranges = back.chunks_mut(BLOCK).zip(&places);
                let mut batch: Vec<ReadAt<'_>> =
                    ranges.map(|(block, place)| ReadAt::new(block, place * BLOCK as u64)).collect();
                read_exact_batch(&**file, &mut batch);
                assert!(batch.iter().all(|read| matches!(read.result, Ok(BLOCK))));
                assert!(*back == *bytes, "round {round}");
            }
        }
        drop(files);
        let whole = |backend| std::fs::read(path(backend)).expect("there");
        assert!(backends().into_iter().all(|backend| whole(backend) == whole(Backend::Blocking)));
    }
}

#[test]
fn each_transfer_has_its_own_result() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = open(&dir.path().join("file"), backend, DirectIo::Off);
        file.write_at(&[9; 3 * BLOCK], 0).expect("written");
        let mut buffers = [[0; BLOCK]; 5];
        let mut batch: Vec<ReadAt<'_>> = Vec::new();
        for (buf, offset) in
            buffers.iter_mut().zip([0, 2 * BLOCK as u64 + 96, 1 << 40, BLOCK as u64, u64::MAX])
        {
            batch.push(ReadAt::new(buf, offset));
        }
        read_exact_batch(&*file, &mut batch);
        let results: Vec<_> =
            batch.into_iter().map(|read| read.result.map_err(|error| error.kind())).collect();
        let short = BLOCK - 96;
        assert_eq!(
            results,
            [Ok(BLOCK), Ok(short), Ok(0), Ok(BLOCK), Err(ErrorKind::InvalidInput)],
            "{backend:?}"
        );
        assert!(
            buffers[1][..short].iter().all(|byte| *byte == 9)
                && buffers[1][short..].iter().all(|byte| *byte == 0)
        );
        // A file that may not be written: every write of the batch says so.
        let read_only = RealDisk::with_backend(backend)
            .open(&dir.path().join("file"), &OpenHow::read(DirectIo::Off))
            .expect("opens");
        let mut batch = [WriteAt::new(&[1; BLOCK], 0), WriteAt::new(&[2; BLOCK], BLOCK as u64)];
        write_all_batch(&*read_only, &mut batch);
        assert!(batch.iter().all(|write| write.result.is_err()), "{backend:?}");
        let mut writes = [1_u8, 2].iter().map(|_| WriteAt::new(&[1; BLOCK], 0));
        let written = write_all_stream(&*read_only, &mut writes);
        assert!(written.len() == 2 && written.iter().all(|write| write.result.is_err()), "{backend:?}");
        let mut back = [0; BLOCK];
        file.read_at(&mut back, 0).expect("reads");
        assert_eq!(back, [9; BLOCK]);
    }
}

/// Writes that were begun have ended before whoever makes them unwinds: their buffers are gone then.
#[test]
fn a_stream_that_breaks_off_leaves_the_file_whole() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = open(&dir.path().join("file"), backend, DirectIo::Prefer);
        file.reserve(0, 64 * BLOCK as u64).expect("room");
        for round in 0..20_u8 {
            let mut bytes = AlignedBuf::zeroed(64 * BLOCK);
            bytes.fill(round + 1);
            let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut writes = bytes.chunks(BLOCK).zip(0..).map(|(block, at)| {
                    assert!(at < 40, "no more of them");
                    WriteAt::new(block, at * BLOCK as u64)
                });
                write_all_stream(&*file, &mut writes)
            }));
            assert!(broken.is_err());
            bytes.fill(0); // what is still read of it would show
            drop(bytes);
            let mut back = AlignedBuf::zeroed(64 * BLOCK);
            read_exact_at(&*file, &mut back, 0).expect("reads");
            assert!(
                back.chunks(BLOCK).all(|block| block.iter().all(|byte| *byte == block[0])),
                "{backend:?}"
            );
            assert!(back[40 * BLOCK..].iter().all(|byte| *byte == 0), "they were never made");
            let whole = AlignedBuf::zeroed(64 * BLOCK);
            let mut writes =
                whole.chunks(BLOCK).zip(0..).map(|(block, at)| WriteAt::new(block, at * BLOCK as u64));
            let written = write_all_stream(&*file, &mut writes);
            assert!(written.iter().all(|write| matches!(write.result, Ok(BLOCK))), "{backend:?}");
            read_exact_at(&*file, &mut back, 0).expect("reads");
            assert!(back.iter().all(|byte| *byte == 0), "{backend:?}");
        }
    }
}

#[test]
fn the_backend_in_use_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    for backend in backends() {
        let file = open(&dir.path().join("file"), backend, DirectIo::Off);
        assert_eq!(file.backend(), backend);
        assert_eq!(SharedSync::new(file).backend(), backend, "what stands above tells the same");
    }
    let best = open(&dir.path().join("file"), Backend::Best, DirectIo::Off).backend();
    let expected = if backends().contains(&Backend::IoUring) { Backend::IoUring } else { Backend::Threads };
    assert_eq!(best, expected);
}

/// A lock that outlives its handle, in a ring or in a thread, locks the next one out (E1).
#[test]
fn nothing_of_a_handle_outlives_it() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        for _ in 0..50 {
            let file = open(&path, backend, DirectIo::Prefer);
            assert!(file.try_lock().expect("asked"), "{backend:?}: the handle before still has the lock");
            let bytes = AlignedBuf::zeroed(16 * BLOCK);
            let mut batch: Vec<WriteAt<'_>> = bytes
                .chunks(BLOCK)
                .zip(0..)
                .map(|(block, at)| WriteAt::new(block, at * BLOCK as u64))
                .collect();
            write_all_batch(&*file, &mut batch);
            assert!(batch.iter().all(|write| write.result.is_ok()));
        }
    }
}

#[test]
fn what_is_not_aligned_is_refused_alike() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let Ok(file) = RealDisk::with_backend(backend).open(&path, &OpenHow::create_new(DirectIo::Required))
        else {
            return println!("NOT TESTED: the file system has no direct I/O");
        };
        let mut bytes = AlignedBuf::zeroed(4 * BLOCK);
        write_all_batch(&*file, &mut [WriteAt::new(&bytes[..2 * BLOCK], 0)]);
        // Wine refuses nothing, and a batch must not either then.
        let alone = file.write_at(&bytes[100..100 + BLOCK], BLOCK as u64).map_err(|error| error.kind());
        assert!(!cfg!(target_os = "linux") || alone == Err(ErrorKind::InvalidInput), "{alone:?}");
        let mut batch =
            [WriteAt::new(&bytes[..BLOCK], 0), WriteAt::new(&bytes[100..100 + BLOCK], BLOCK as u64)];
        write_all_batch(&*file, &mut batch);
        let [aligned, other] = batch.map(|write| write.result.map_err(|error| error.kind()));
        assert_eq!((aligned, other), (Ok(BLOCK), alone), "{backend:?}");
        let mut writes = [0, 100, 2 * BLOCK]
            .into_iter()
            .zip(0..)
            .map(|(from, at)| WriteAt::new(&bytes[from..from + BLOCK], at * BLOCK as u64));
        let results = write_all_stream(&*file, &mut writes)
            .into_iter()
            .map(|write| write.result.map_err(|error| error.kind()));
        assert!(results.eq([Ok(BLOCK), alone, Ok(BLOCK)]), "{backend:?}");
        let (one, other) = bytes.split_at_mut(BLOCK);
        let mut batch = [ReadAt::new(one, 0), ReadAt::new(&mut other[..BLOCK], 100)];
        read_exact_batch(&*file, &mut batch);
        let [aligned, other] = batch.map(|read| read.result.map_err(|error| error.kind()));
        assert_eq!((aligned, other), (Ok(BLOCK), alone), "{backend:?}");
    }
}

#[test]
fn many_threads_share_a_file() {
    for backend in backends() {
        threads_share_a_file(backend, 8);
    }
}

/// More threads than a file keeps rings for.
#[test]
fn very_many_threads_share_a_file() {
    for backend in backends() {
        threads_share_a_file(backend, 32);
    }
}

fn threads_share_a_file(backend: Backend, threads: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = open(&dir.path().join("file"), backend, DirectIo::Prefer);
    file.reserve(0, BLOCKS * BLOCK as u64).expect("room");
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let file = &file;
            scope.spawn(move || {
                let own: Vec<u64> = (0..BLOCKS).filter(|block| block % threads == thread).collect();
                for round in 0..4_u8 {
                    for places in own.chunks(48) {
                        let mut bytes = AlignedBuf::zeroed(places.len() * BLOCK);
                        bytes.fill(round ^ thread as u8);
                        let ranges = bytes.chunks(BLOCK).zip(places);
                        let mut batch: Vec<WriteAt<'_>> =
                            ranges.map(|(block, place)| WriteAt::new(block, place * BLOCK as u64)).collect();
                        write_all_batch(&**file, &mut batch);
                        assert!(batch.iter().all(|write| write.result.is_ok()));
                        let mut back = AlignedBuf::zeroed(bytes.len());
                        let ranges = back.chunks_mut(BLOCK).zip(places);
                        let mut batch: Vec<ReadAt<'_>> =
                            ranges.map(|(block, place)| ReadAt::new(block, place * BLOCK as u64)).collect();
                        read_exact_batch(&**file, &mut batch);
                        assert!(*back == *bytes);
                    }
                }
            });
        }
    });
}
