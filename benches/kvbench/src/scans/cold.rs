//! Full scans of a store that was just opened, its pool a tenth of the data; beside raw reads of as many bytes of the same file.
//!
//! Both sides read past the system's cache. The raw side is the faster of one thread that reads a mebibyte after the other, and one that
//! has eight of them under way.

use std::time::{Duration, Instant};

use pagestone::direct_io::{
    DirectIo, Disk, File, OpenHow, ReadAt, RealDisk, read_exact_at, read_exact_batch,
};
use pagestone::page_format::AlignedBuf;

use super::resident::by_cursor;
use super::{Args, Direction, PAGE, Row, Seen, bulk_load, open, over, rate, ratio};
use crate::{BenchResult, cpu_of_process, median};

const PIECE: usize = 1 << 20;
const DEPTH: usize = 8;
const GOAL: f64 = 0.8;
/// Bytes of the file for a row, nearly.
const ROW_BYTES: u64 = 130;

/// What a scan took, and what it read.
struct Scan {
    took: Duration,
    cpu: Duration,
    pages: u64,
}

pub(super) fn run(args: &Args, rows: &[Row]) -> BenchResult<()> {
    let dir = args.dir.join("cold");
    let pool_bytes = (args.rows * ROW_BYTES / 10).max(4 << 20);
    let store = open(&dir, pool_bytes)?;
    bulk_load(&store, rows)?;
    store.close()?;
    drop(store);
    let mut all = Seen::new(Direction::Forward);
    rows.iter().for_each(|(key, value)| all.see(key, value));
    let file = RealDisk.open(&dir.join("data"), &OpenHow::read(DirectIo::Prefer))?;
    println!(
        "\n### Cold: data file {} MiB, pool {} MiB, {}\n",
        file.len()? >> 20,
        pool_bytes >> 20,
        if file.is_direct() { "past the system's cache" } else { "NOT past the system's cache" }
    );
    println!("| | MB/s | pages | CPU µs a page | over raw |\n|---|---|---|---|---|");
    for direction in [Direction::Forward, Direction::Backward] {
        let (mut scans, mut raw) = (Vec::new(), [Vec::new(), Vec::new()]);
        for round in 0..=args.rounds {
            let scan = {
                let store = open(&dir, pool_bytes)?;
                let (cpu, began) = (cpu_of_process(), Instant::now());
                let seen = by_cursor(&store.default_tree(), direction)?;
                let took = began.elapsed();
                let cpu = cpu.zip(cpu_of_process()).map_or(Duration::ZERO, |(before, after)| after - before);
                seen.check(&all)?;
                let pages = store.stats()?.pool.misses;
                store.close()?;
                Scan { took, cpu, pages }
            };
            let bytes = scan.pages * PAGE;
            let times = [read_raw(&*file, bytes, 1)?, read_raw(&*file, bytes, DEPTH)?];
            if round > 0 {
                scans.push(scan);
                raw.iter_mut().zip(times).for_each(|(all, took)| all.push(took));
            }
        }
        let bytes = scans[0].pages * PAGE;
        let middle = |times: &[Duration]| median(times.iter().map(Duration::as_secs_f64));
        let best = if middle(&raw[0]) <= middle(&raw[1]) { 0 } else { 1 };
        for (times, depth) in raw.iter().zip([1, DEPTH]) {
            println!("| raw, {depth} of 1 MiB under way | {} | | | |", rate(bytes, times));
        }
        let took: Vec<Duration> = scans.iter().map(|scan| scan.took).collect();
        println!(
            "| **cursor**, {direction:?} | {} | {} | {:.2} | {} |",
            rate(bytes, &took),
            scans[0].pages,
            median(scans.iter().map(|scan| scan.cpu.as_secs_f64() * 1e6 / scan.pages as f64)),
            ratio(over(&raw[best], &took), GOAL)
        );
    }
    Ok(())
}

/// Reads so many bytes of the file from its start.
fn read_raw(file: &dyn File, bytes: u64, depth: usize) -> BenchResult<Duration> {
    let mut buffers = vec![AlignedBuf::zeroed(PIECE); depth];
    let (began, end) = (Instant::now(), bytes.min(file.len()?));
    let mut at = 0;
    while at < end {
        let piece = |from: u64| ((end - from.min(end)) as usize).min(PIECE);
        if depth == 1 {
            let len = piece(at);
            read_exact_at(file, &mut buffers[0][..len], at)?;
            at += len as u64;
            continue;
        }
        let mut batch = Vec::with_capacity(depth);
        for buffer in &mut buffers {
            let len = piece(at);
            if len > 0 {
                batch.push(ReadAt::new(&mut buffer[..len], at));
            }
            at += len as u64;
        }
        read_exact_batch(file, &mut batch);
        batch.into_iter().try_for_each(|read| read.result.map(drop))?;
    }
    Ok(began.elapsed())
}
