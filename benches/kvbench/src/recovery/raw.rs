//! What the disk can do with the same files: the log read in order, pages of the data file read at random.
//!
//! Invariant: direct reads through the same seam as the store's, nothing checked, nothing kept; of two ways the faster one counts.

use std::path::Path;
use std::time::Instant;

use pagestone::direct_io::{DirectIo, Disk, File, OpenHow, ReadAt, RealDisk, read_exact_batch};
use pagestone::page_format::AlignedBuf;

use crate::BenchResult;
use crate::threads::on_threads;
use crate::writers::mix;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) log_bytes_per_s: f64,
    /// Pages of 4 KiB, 32 at a time.
    pub(crate) pages_per_s: f64,
}

const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;
const DEPTH: usize = 32;
/// Pages read at random.
const PAGES: u64 = 32_768;

/// Reads of a killed store's files. `log_bytes` at most are read of the log.
pub(crate) fn measure(dir: &Path, log_bytes: u64) -> BenchResult<Raw> {
    let log = [1, 4].map(|depth| log_rate(dir, log_bytes, depth));
    let pages = [1, 2].map(|threads| page_rate(dir, threads));
    let best = |rates: [BenchResult<f64>; 2]| {
        rates.into_iter().try_fold(0.0, |best, rate| rate.map(|rate| f64::max(best, rate)))
    };
    Ok(Raw { log_bytes_per_s: best(log)?, pages_per_s: best(pages)? })
}

/// Bytes a second, a mebibyte at a time, so many at once.
fn log_rate(dir: &Path, log_bytes: u64, depth: usize) -> BenchResult<f64> {
    let dir = dir.join("log");
    let mut bufs: Vec<AlignedBuf> = (0..depth).map(|_| AlignedBuf::zeroed(CHUNK)).collect();
    let (mut read, began) = (0, Instant::now());
    for name in RealDisk.list(&dir)? {
        let file = RealDisk.open(&dir.join(name), &OpenHow::read(DirectIo::Prefer))?;
        let mut offset = 0;
        while offset + CHUNK as u64 <= file.len()? && read < log_bytes {
            read += batch(&*file, &mut bufs, |at| offset + (at * CHUNK) as u64)?;
            offset += (depth * CHUNK) as u64;
        }
    }
    Ok(read as f64 / began.elapsed().as_secs_f64())
}

/// Pages a second, read by so many threads.
fn page_rate(dir: &Path, threads: u64) -> BenchResult<f64> {
    let file = RealDisk.open(&dir.join("data"), &OpenHow::read(DirectIo::Prefer))?;
    let (pages, began) = (file.len()? / PAGE as u64, Instant::now());
    on_threads(threads, |thread| random_reads(&*file, pages, thread, PAGES / threads))?;
    Ok(PAGES as f64 / began.elapsed().as_secs_f64())
}

fn random_reads(file: &dyn File, pages: u64, seed: u64, count: u64) -> BenchResult<()> {
    let mut bufs: Vec<AlignedBuf> = (0..DEPTH).map(|_| AlignedBuf::zeroed(PAGE)).collect();
    for round in 0..count / DEPTH as u64 {
        batch(file, &mut bufs, |at| {
            mix(seed << 32 | (round * DEPTH as u64 + at as u64)) % pages * PAGE as u64
        })?;
    }
    Ok(())
}

/// Fills the buffers from these offsets, all at once. Gives the bytes.
fn batch(file: &dyn File, bufs: &mut [AlignedBuf], offset: impl Fn(usize) -> u64) -> BenchResult<u64> {
    let mut reads: Vec<ReadAt<'_>> =
        bufs.iter_mut().enumerate().map(|(at, buf)| ReadAt::new(buf, offset(at))).collect();
    read_exact_batch(file, &mut reads);
    let got = reads.into_iter().map(|read| read.result.map(|got| got as u64)).sum::<std::io::Result<u64>>();
    Ok(got?)
}
