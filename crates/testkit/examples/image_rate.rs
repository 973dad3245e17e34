//! How many crash images a second: built, told apart, opened as a disk and read.
//!
//! The workload is a small store's: a log that is synced block by block, pages that are written behind it and synced now
//! and then.

use std::path::Path;
use std::time::Instant;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, read_exact_at, write_all_at};
use pagestone_page_format::AlignedBuf;
use pagestone_testkit::{CrashOptions, Rng, SimDisk};

fn main() -> std::io::Result<()> {
    for (name, exhaustive_max, unsynced) in [
        ("few pending, all subsets", 4096, 2),
        ("30 pending, all or covering", 4096, 30),
        ("100 pending, covering", 16, 100),
    ] {
        let disk = workload(unsynced)?;
        let options = CrashOptions { exhaustive_max, ..CrashOptions::default() };
        for read in [false, true] {
            let begun = Instant::now();
            let mut states = disk.crash_states(&options);
            for image in states.by_ref().take(300_000) {
                if read {
                    look_at(&image.disk())?;
                }
            }
            let stats = states.stats();
            let rate = stats.images as f64 / begun.elapsed().as_secs_f64();
            let what = if read { "opened and read" } else { "built" };
            println!(
                "{name}: {} images of {} cuts {what}, {rate:.0} a second, {stats:?}",
                stats.images, stats.cuts
            );
        }
    }
    Ok(())
}

/// 600 rounds: a log block written, synced and acknowledged, and a page written that is synced every so many rounds.
fn workload(unsynced: u64) -> std::io::Result<SimDisk> {
    let (disk, mut rng) = (SimDisk::new(5), Rng::new(6));
    let how = OpenHow::create_new(DirectIo::Prefer);
    let (log, data) = (disk.open(Path::new("/log"), &how)?, disk.open(Path::new("/data"), &how)?);
    log.reserve(0, 256 << 10)?;
    data.reserve(0, 512 << 10)?;
    disk.settle();
    let mut block = AlignedBuf::zeroed(4096);
    for round in 0..600 {
        rng.fill(&mut block);
        write_all_at(&*log, &block, round % 64 * 4096)?;
        log.sync()?;
        disk.note(round);
        write_all_at(&*data, &block, rng.below(128) * 4096)?;
        if round % unsynced == unsynced - 1 {
            data.sync()?;
        }
    }
    Ok(disk)
}

fn look_at(disk: &SimDisk) -> std::io::Result<()> {
    let mut block = AlignedBuf::zeroed(4096);
    for path in ["/log", "/data"] {
        let file = disk.open(Path::new(path), &OpenHow::write(DirectIo::Prefer))?;
        for at in 0..16 {
            read_exact_at(&*file, &mut block, at * 4096)?;
        }
        write_all_at(&*file, &block, 0)?;
        file.sync()?;
    }
    Ok(())
}
