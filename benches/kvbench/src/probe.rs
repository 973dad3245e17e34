//! What the disk does meanwhile: one block written and synced again and again, in a file of its own.
//!
//! Invariant: it writes the same block of a file whose blocks are written, so that its time is the device's and the file system's,
//! and no store's. It pauses between two syncs, in order not to be the load itself; how late it comes back from a pause tells how
//! long a thread that wants nothing but a processor had to wait for one.

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

/// One turn of the probe: a pause, then a write and a sync.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    began: Instant,
    /// How much longer than asked for it slept: the processors were busy with others.
    pub(crate) late: Duration,
    /// What the write and the sync took.
    pub(crate) sync: Duration,
}

/// The longest that the disk and the processors kept the probe.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Longest {
    pub(crate) late: Duration,
    pub(crate) sync: Duration,
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

    /// Goes on until told to stop.
    pub(crate) fn run(&self, stop: &AtomicBool) -> std::io::Result<Vec<Turn>> {
        let block = AlignedBuf::zeroed(BLOCK);
        let mut turns = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            std::thread::sleep(PAUSE);
            let awake = Instant::now();
            write_all_at(&*self.file, &block, (turns.len() as u64 % BLOCKS) * BLOCK as u64)?;
            self.file.sync()?;
            let late = awake.duration_since(began).saturating_sub(PAUSE);
            turns.push(Turn { began, late, sync: awake.elapsed() });
        }
        Ok(turns)
    }
}

/// The longest of these turns.
pub(crate) fn longest(turns: &[Turn]) -> Longest {
    of(turns.iter())
}

/// The longest of those that overlapped `took` from `began` on.
pub(crate) fn longest_during(turns: &[Turn], began: Instant, took: Duration) -> Longest {
    let end = began + took;
    of(turns.iter().filter(|turn| turn.began < end && turn.began + PAUSE + turn.late + turn.sync > began))
}

fn of<'a>(turns: impl Iterator<Item = &'a Turn>) -> Longest {
    turns.fold(Longest::default(), |longest, turn| Longest {
        late: longest.late.max(turn.late),
        sync: longest.sync.max(turn.sync),
    })
}
