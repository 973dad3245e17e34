//! What the disk does meanwhile: one block written and synced again and again, in a file of its own.
//!
//! Invariant: it writes the same block of a file whose blocks are written, so that its time is the device's and the file system's,
//! and no store's. It pauses between two syncs, in order not to be the load itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagestone::direct_io::{DirectIo, Disk, File, OpenHow, RealDisk, write_all_at};
use pagestone::page_format::AlignedBuf;

use crate::BenchResult;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 1024;
const PAUSE: Duration = Duration::from_millis(1);

/// One write and sync.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sync {
    began: Instant,
    took: Duration,
}

/// The file, ready to be written.
#[derive(Debug)]
pub(crate) struct Probe {
    file: Arc<dyn File>,
}

impl Probe {
    /// Makes the file, every block of it written.
    pub(crate) fn create(path: &Path) -> BenchResult<Self> {
        let file = RealDisk.open(path, &OpenHow::create_new(DirectIo::Prefer))?;
        let zeros = AlignedBuf::zeroed(BLOCK);
        for block in 0..BLOCKS {
            write_all_at(&*file, &zeros, block * BLOCK as u64)?;
        }
        file.sync()?;
        Ok(Self { file })
    }

    /// Writes and syncs until told to stop.
    pub(crate) fn run(&self, stop: &AtomicBool) -> std::io::Result<Vec<Sync>> {
        let block = AlignedBuf::zeroed(BLOCK);
        let mut syncs = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            write_all_at(&*self.file, &block, (syncs.len() as u64 % BLOCKS) * BLOCK as u64)?;
            self.file.sync()?;
            syncs.push(Sync { began, took: began.elapsed() });
            std::thread::sleep(PAUSE);
        }
        Ok(syncs)
    }
}

/// The longest of them.
pub(crate) fn longest(syncs: &[Sync]) -> Duration {
    syncs.iter().map(|sync| sync.took).max().unwrap_or_default()
}

/// The longest of those that overlapped `took` from `began` on.
pub(crate) fn longest_during(syncs: &[Sync], began: Instant, took: Duration) -> Duration {
    let end = began + took;
    let overlaps = |sync: &&Sync| sync.began < end && sync.began + sync.took > began;
    syncs.iter().filter(overlaps).map(|sync| sync.took).max().unwrap_or_default()
}
