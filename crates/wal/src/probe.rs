//! Which of the system's durable writes is the fastest here.
//!
//! Invariant: only what the system has done once without an error is chosen, and only spare slots, which hold nothing, are written.
//!
//! Where the file system cannot go past the system's cache, nothing but `fdatasync` is asked for: such file systems are often in
//! user space or on another machine, and what they make of the flags is theirs to know. The clock decides which call is used and nothing that is
//! written depends on it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestone_direct_io::{Disk, DurableBy, File, WriteAt, write_durable};
use pagestone_page_format::AlignedBuf;

use crate::block::{BLOCK, WIPED};
use crate::error::{WalError, WalResult};
use crate::segment::{Segment, TAIL_SLOTS};

/// Writes that are timed of each, at most.
const ROUNDS: u32 = 24;
/// What each of them is given, unless a single write takes longer.
const PATIENCE: Duration = Duration::from_millis(5);

/// Finds the fastest, by writing to a spare slot of a segment.
pub(crate) fn fastest(disk: &dyn Disk, segment: &Segment) -> WalResult<DurableBy> {
    if !segment.file.is_direct() {
        return Ok(DurableBy::Fdatasync);
    }
    let mut best: Option<(Duration, DurableBy)> = None;
    for by in DurableBy::ALL {
        let Some(took) = time(disk, segment, by)? else { continue };
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, by));
        }
    }
    Ok(best.map_or(DurableBy::default(), |(_, by)| by))
}

/// Whether the system has this one.
pub(crate) fn works(disk: &dyn Disk, segment: &Segment, by: DurableBy) -> WalResult<bool> {
    let Some(file) = open(disk, segment, by)? else { return Ok(false) };
    write(&*file, by)
}

/// The median time of a durable write of one block. `None` if the system has no such call.
fn time(disk: &dyn Disk, segment: &Segment, by: DurableBy) -> WalResult<Option<Duration>> {
    let Some(file) = open(disk, segment, by)? else { return Ok(None) };
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS as usize && (times.len() < 2 || began.elapsed() < PATIENCE) {
        let before = Instant::now();
        if !write(&*file, by)? {
            return Ok(None);
        }
        times.push(before.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied())
}

/// The file as this one needs it. `None` if it cannot be had.
pub(crate) fn open(disk: &dyn Disk, segment: &Segment, by: DurableBy) -> WalResult<Option<Arc<dyn File>>> {
    if by != DurableBy::ODsync {
        return Ok(Some(Arc::clone(&segment.file)));
    }
    match disk.open_dsync(&segment.path, segment.direct) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(WalError::io("open of a segment")(error)),
    }
}

/// Writes a spare slot. False if the system has no such call; any other failure is that of a sync (I9).
fn write(file: &dyn File, by: DurableBy) -> WalResult<bool> {
    let mut block = AlignedBuf::zeroed(BLOCK);
    block.fill(WIPED);
    match write_durable(file, &mut [WriteAt::new(&block, TAIL_SLOTS * BLOCK as u64)], by) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(WalError::io("a durable write of a spare slot")(error)),
    }
}
