//! Prevents: a record of several buffers that is written in part, or read back out of order, because one call takes fewer buffers or
//! bytes than it was given (I1, I3).

use std::io::{ErrorKind, IoSlice, IoSliceMut};

use pagestone_direct_io::{
    DirectIo, Disk, OpenHow, RealDisk, read_exact_at, read_exact_vectored_at, write_all_vectored_at,
};
use pagestone_page_format::AlignedBuf;

const BLOCK: usize = 4096;

#[test]
fn more_buffers_than_one_call_takes() {
    for (direct, part) in [(DirectIo::Prefer, BLOCK), (DirectIo::Off, BLOCK), (DirectIo::Off, 7)] {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealDisk.open(&dir.path().join("file"), &OpenHow::create_new(direct)).expect("create");
        let mut bytes = AlignedBuf::zeroed(2500 * part);
        bytes.iter_mut().zip(0u64..).for_each(|(byte, at)| *byte = (at * 31 % 251) as u8);
        // Empty buffers stand between the others.
        let parts = bytes.chunks(part).flat_map(|part| [part, &[]]).map(IoSlice::new).collect::<Vec<_>>();
        write_all_vectored_at(&*file, &parts, 2 * BLOCK as u64).expect("written");
        assert_eq!(file.len().expect("len"), (2 * BLOCK + bytes.len()) as u64);

        let mut whole = AlignedBuf::zeroed(bytes.len());
        assert_eq!(read_exact_at(&*file, &mut whole, 2 * BLOCK as u64).expect("read"), bytes.len());
        assert!(*whole == *bytes);
        let mut back = AlignedBuf::zeroed(bytes.len());
        let mut parts = back.chunks_mut(part).map(IoSliceMut::new).collect::<Vec<_>>();
        let got = read_exact_vectored_at(&*file, &mut parts, 2 * BLOCK as u64).expect("read");
        assert_eq!(got, bytes.len());
        assert!(*back == *bytes);
    }
}

#[test]
fn the_end_of_the_file_is_told_by_the_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = RealDisk.open(&dir.path().join("file"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    write_all_vectored_at(&*file, &[IoSlice::new(&[1; 100]), IoSlice::new(&[2; 50])], 0).expect("written");
    for (offset, expected) in [(0, 150), (30, 120), (150, 0), (1000, 0)] {
        let (mut one, mut other, mut third) = ([9; 60], [9; 60], [9; 60]);
        let mut parts = [&mut one, &mut other, &mut third].map(|part| IoSliceMut::new(part));
        let got = read_exact_vectored_at(&*file, &mut parts, offset).expect("read");
        assert_eq!(got, expected);
        let all = [one, other, third].concat();
        let right = |at: usize| if offset as usize + at < 100 { 1 } else { 2 };
        assert!((0..got).all(|at| all[at] == right(at)) && all[got..].iter().all(|byte| *byte == 9));
    }
    assert_eq!(read_exact_vectored_at(&*file, &mut [], 0).expect("nothing"), 0);
    write_all_vectored_at(&*file, &[], 0).expect("nothing");
    let past = write_all_vectored_at(&*file, &[IoSlice::new(&[1]), IoSlice::new(&[1; 8])], i64::MAX as u64);
    assert_eq!(past.expect_err("no such offset").kind(), ErrorKind::InvalidInput);
}

#[test]
fn one_buffer_that_is_not_aligned_is_refused_with_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let how = OpenHow::create_new(DirectIo::Required);
    let Ok(file) = RealDisk.open(&dir.path().join("file"), &how) else {
        return println!("NOT TESTED: the file system has no direct I/O");
    };
    let bytes = AlignedBuf::zeroed(4 * BLOCK);
    for odd in [&bytes[BLOCK..2 * BLOCK - 1], &bytes[100..100 + BLOCK]] {
        let error = file.write_vectored_at(&[IoSlice::new(&bytes[..BLOCK]), IoSlice::new(odd)], 0);
        assert_eq!(error.expect_err("not aligned").kind(), ErrorKind::InvalidInput);
        assert!(file.is_direct());
    }
    let good = [IoSlice::new(&bytes[..BLOCK]), IoSlice::new(&bytes[BLOCK..])];
    assert_eq!(file.write_vectored_at(&good, 0).expect("aligned"), 4 * BLOCK);
}
