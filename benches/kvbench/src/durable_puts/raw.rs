//! What the disk gives to a program without a store: one block written and made durable again and again, by each of the system's calls;
//! and a log of records without anything above it.
//!
//! Invariant: the blocks that are written were written before, so that no file grows and no extent changes while it is measured.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use pagestone::direct_io::{
    DirectIo, Disk, DurableBy, File, OpenHow, RealDisk, WriteAt, write_all_at, write_durable,
};
use pagestone::page_format::AlignedBuf;

use super::clients::Contender;
use crate::BenchResult;

const BLOCK: usize = 4096;
const FILE_BLOCKS: u64 = 16 << 10;
/// Bytes of a record, with what a group of one put has around 16 + 100 bytes.
const RECORD: usize = 150;

fn create(path: &Path) -> BenchResult<Arc<dyn File>> {
    let file = RealDisk.open(path, &OpenHow::create_new(DirectIo::Prefer))?;
    let zeros = AlignedBuf::zeroed(1 << 20);
    for at in 0..(FILE_BLOCKS * BLOCK as u64) >> 20 {
        write_all_at(&*file, &zeros, at << 20)?;
    }
    file.sync()?;
    Ok(file)
}

/// Loops of one client. Those that this system lacks are told.
pub(super) fn loops(dir: &Path) -> BenchResult<Vec<Contender<'static>>> {
    let path = dir.join("raw");
    let file = create(&path)?;
    let mut loops = Vec::new();
    let ways = [
        ("raw `pwrite` + `fdatasync`", DurableBy::Fdatasync, file.clone()),
        ("raw `pwritev2`, `RWF_DSYNC`", DurableBy::Pwritev2Dsync, file),
    ];
    let dsync = RealDisk.open_dsync(&path, DirectIo::Prefer);
    if let Err(error) = &dsync {
        println!("NOT MEASURED: O_DSYNC: {error}");
    }
    let dsync = dsync.ok().map(|file| ("raw `pwrite`, `O_DSYNC`", DurableBy::ODsync, file));
    for (name, by, file) in ways.into_iter().chain(dsync) {
        let block = AlignedBuf::zeroed(BLOCK);
        let step = move |_, number: u64| {
            let offset = number % FILE_BLOCKS * BLOCK as u64;
            Ok(write_durable(&*file, &mut [WriteAt::new(&block, offset)], by)?)
        };
        loops.push(Contender::new(name, step)?);
    }
    Ok(loops)
}

/// A follower's place to wait in.
struct Slot {
    state: AtomicU32,
    thread: Thread,
}

const WAITS: u32 = 0;
const LEADS: u32 = 1;
const DURABLE: u32 = 2;

/// Leader and followers, and nothing that they would log.
struct Leaders {
    file: Arc<dyn File>,
    state: Mutex<State>,
    at: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Records that wait for the next leader.
    filled: usize,
    followers: Vec<Arc<Slot>>,
    leads: bool,
    buffers: Vec<AlignedBuf>,
    taken: Vec<Vec<Arc<Slot>>>,
}

/// The most bytes of a batch: that of more clients than are measured.
const BUFFER: usize = 64 << 10;

impl Leaders {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record and returns when it is durable.
    fn commit(&self, record: &[u8; RECORD]) -> BenchResult<()> {
        let mut state = self.lock();
        if state.buffers.is_empty() {
            state.buffers.extend([AlignedBuf::zeroed(BUFFER), AlignedBuf::zeroed(BUFFER)]);
        }
        let filled = state.filled;
        state.buffers[0][filled..filled + RECORD].copy_from_slice(record);
        state.filled += RECORD;
        if state.leads {
            let slot = Arc::new(Slot { state: AtomicU32::new(WAITS), thread: std::thread::current() });
            state.followers.push(Arc::clone(&slot));
            drop(state);
            loop {
                // Acquire: pairs with the store of who wakes.
                match slot.state.load(Ordering::Acquire) {
                    WAITS => std::thread::park(),
                    DURABLE => return Ok(()),
                    _ => break,
                }
            }
            state = self.lock();
        }
        state.leads = true;
        let buffer = state.buffers.remove(0);
        let len = std::mem::take(&mut state.filled).next_multiple_of(BLOCK);
        let spare = state.taken.pop().unwrap_or_default();
        let mut followers = std::mem::replace(&mut state.followers, spare);
        drop(state);
        let blocks = (len / BLOCK) as u64;
        let mut block = self.at.fetch_add(blocks, Ordering::Relaxed) % FILE_BLOCKS;
        block = block.min(FILE_BLOCKS - blocks);
        let batch = &mut [WriteAt::new(&buffer[..len], block * BLOCK as u64)];
        let written = write_durable(&*self.file, batch, DurableBy::ODsync);
        let mut state = self.lock();
        state.buffers.push(buffer);
        state.leads = !state.followers.is_empty();
        if state.leads {
            let next = state.followers.remove(0);
            wake(&next, LEADS);
        }
        drop(state);
        followers.drain(..).for_each(|slot| wake(&slot, DURABLE));
        self.lock().taken.push(followers);
        Ok(written?)
    }
}

fn wake(slot: &Slot, state: u32) {
    // Release: pairs with the load of who waits.
    slot.state.store(state, Ordering::Release);
    slot.thread.unpark();
}

/// A bare log: the leader writes what the others appended meanwhile. `None`, which is told, where no file is durable by itself.
pub(super) fn leaders(dir: &Path) -> BenchResult<Option<Contender<'static>>> {
    let path = dir.join("leaders");
    create(&path)?;
    let file = match RealDisk.open_dsync(&path, DirectIo::Prefer) {
        Ok(file) => file,
        Err(error) => {
            println!("NOT MEASURED: a bare loop of leaders: {error}");
            return Ok(None);
        }
    };
    let leaders = Leaders { file, state: Mutex::default(), at: AtomicU64::new(0) };
    let step = move |_, number: u64| {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&number.to_le_bytes());
        leaders.commit(&record)
    };
    Ok(Some(Contender::new("bare leader and followers", step)?))
}
