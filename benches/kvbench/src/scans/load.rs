//! Loads in the order of the keys into a new store, durable at their end; beside raw writes of as many bytes as the file grew by.
//!
//! The raw side reserves the blocks of a new file as a store does, writes a mebibyte after the other or eight of them at once, whichever
//! is faster, and syncs it once.

use std::path::Path;
use std::time::{Duration, Instant};

use pagestone::direct_io::{DirectIo, Disk, OpenHow, RealDisk, WriteAt, write_all_batch};
use pagestone::page_format::AlignedBuf;

use super::{Args, Direction, Row, Seen, bulk_load, open, over, rate, ratio, resident};
use crate::{BenchResult, cpu_of_process, median};

const PIECE: usize = 1 << 20;
const GOAL: f64 = 0.7;

pub(super) fn run(args: &Args, rows: &[Row]) -> BenchResult<()> {
    println!("\n### Load\n\n| | rows | MiB | MB/s | CPU ns a row | over raw |\n|---|---|---|---|---|---|");
    for rows in [&rows[..rows.len() / 4], rows] {
        of(args, rows)?;
    }
    Ok(())
}

fn of(args: &Args, rows: &[Row]) -> BenchResult<()> {
    let mut all = Seen::new(Direction::Forward);
    rows.iter().for_each(|(key, value)| all.see(key, value));
    let (mut took, mut cpu, mut raw, mut grown) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()], 0);
    let dir = args.dir.join("load");
    for round in 0..=args.rounds {
        let store = open(&dir, 64 << 20)?;
        let data = dir.join("data");
        let before = std::fs::metadata(&data)?.len();
        let (cpu_before, began) = (cpu_of_process(), Instant::now());
        bulk_load(&store, rows)?;
        store.sync()?;
        let load = began.elapsed();
        let cpu_after = cpu_of_process();
        grown = std::fs::metadata(&data)?.len() - before;
        if round == 0 {
            resident::by_cursor(&store.default_tree(), Direction::Forward)?.check(&all)?;
        }
        store.close()?;
        drop(store);
        std::fs::remove_dir_all(&dir)?;
        let times = [write_raw(&args.dir, grown, 1)?, write_raw(&args.dir, grown, 8)?];
        if round > 0 {
            took.push(load);
            cpu.push(cpu_before.zip(cpu_after).map_or(Duration::ZERO, |(before, after)| after - before));
            raw.iter_mut().zip(times).for_each(|(all, took)| all.push(took));
        }
    }
    let middle = |times: &[Duration]| median(times.iter().map(Duration::as_secs_f64));
    let best = if middle(&raw[0]) <= middle(&raw[1]) { 0 } else { 1 };
    for (times, depth) in raw.iter().zip([1, 8]) {
        println!("| raw, {depth} of 1 MiB at once | | {} | {} | | |", grown >> 20, rate(grown, times));
    }
    println!(
        "| **`bulk_load`** and `sync` | {} | {} | {} | {:.0} | {} |",
        rows.len(),
        grown >> 20,
        rate(grown, &took),
        median(cpu.iter().map(|cpu| cpu.as_secs_f64() * 1e9 / rows.len() as f64)),
        ratio(over(&raw[best], &took), GOAL)
    );
    Ok(())
}

/// Writes so many bytes to a new file and syncs them.
fn write_raw(dir: &Path, bytes: u64, depth: usize) -> BenchResult<Duration> {
    let (path, pieces) = (dir.join("raw"), vec![AlignedBuf::zeroed(PIECE); depth]);
    let began = Instant::now();
    let file = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Prefer))?;
    file.reserve(0, bytes)?;
    let mut at = 0;
    while at < bytes {
        let mut batch = Vec::with_capacity(depth);
        for piece in &pieces {
            let len = ((bytes - at) as usize).min(PIECE);
            if len > 0 {
                batch.push(WriteAt::new(&piece[..len], at));
            }
            at += len as u64;
        }
        write_all_batch(&*file, &mut batch);
        batch.into_iter().try_for_each(|write| write.result.map(drop))?;
    }
    file.sync()?;
    let took = began.elapsed();
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(took)
}
