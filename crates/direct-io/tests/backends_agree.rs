//! Prevents: a batch through io_uring that reads or writes other bytes than blocking calls do, or mixes up its results (I17).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    Backend, DirectIo, Disk, File, OpenHow, ReadAt, RealDisk, WriteAt, read_exact_batch, write_all_batch,
};
use pagestone_page_format::AlignedBuf;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 2048;

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
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let files = [open(&one, Backend::Best, direct), open(&other, Backend::Blocking, direct)];
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
                let mut batch: Vec<WriteAt<'_>> =
                    ranges.map(|(block, place)| WriteAt::new(block, place * BLOCK as u64)).collect();
                write_all_batch(&**file, &mut batch);
                assert!(batch.iter().all(|write| matches!(write.result, Ok(BLOCK))));
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
        assert!(std::fs::read(&one).expect("there") == std::fs::read(&other).expect("there"));
    }
}

#[test]
fn each_transfer_has_its_own_result() {
    for backend in [Backend::Best, Backend::Blocking] {
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
        let mut back = [0; BLOCK];
        file.read_at(&mut back, 0).expect("reads");
        assert_eq!(back, [9; BLOCK]);
    }
}

#[test]
fn many_threads_share_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = open(&dir.path().join("file"), Backend::Best, DirectIo::Prefer);
    file.reserve(0, BLOCKS * BLOCK as u64).expect("room");
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let file = &file;
            scope.spawn(move || {
                let own: Vec<u64> = (0..BLOCKS).filter(|block| block % 8 == thread).collect();
                for round in 0..10_u8 {
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
