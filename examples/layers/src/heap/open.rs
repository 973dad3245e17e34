//! Opening: from whatever a crash left to a heap that is ready.
//!
//! Invariant: nothing is built on what a second crash could take back, and nothing is overwritten that was not explained (L10, R7).
//! So the order of the steps is the whole of it.
//!
//! ```text
//!   pages        superblock, page 0 the space map, page 1 the heap's first     locked: the heap's lock
//!   master       where recovery begins, twice
//!   doublewrite  what is being written into its place
//!   log/         segments
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex};

use pagestone::alloc::{FormatMap, LoggedAllocator, SetBits};
use pagestone::direct_io::{Create, DirectIo, Disk, DoubleWriteFile, OpenHow, PageFileOptions};
use pagestone::mini_txn::{LateLog, LoggedPool, MasterRecord, Redo, Reserve};
use pagestone::page_format::{PageKind, Poison, RedoTable};
use pagestone::swip::MAX_SWIP_PAGE;
use pagestone::wal::Recovery;
use pagestone::{
    BufferPool, ChecksumKind, DEFAULT_PAGE_SIZE, PageError, PageId, PageResult, PoolOptions, Wal, WalOptions,
};

use super::ops::{HeapOp, redo_range};
use super::{FIRST, HeapFile};

/// What a heap may use.
#[derive(Debug, Clone)]
pub struct HeapOptions {
    /// Frames of the pool, of 4 KiB each.
    pub frames: usize,
    /// The log's segments and budget.
    pub log: WalOptions,
}

impl Default for HeapOptions {
    /// 4 MiB of frames, 8 MiB of log.
    fn default() -> Self {
        let log = WalOptions { segment_bytes: 1 << 20, log_bytes: 8 << 20, ..WalOptions::default() };
        Self { frames: 1024, log }
    }
}

/// What opening found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// Groups of the log from the last checkpoint on.
    pub groups: u64,
    /// Pages that a group was applied to, counted once a group.
    pub applied: u64,
    /// Torn pages that were restored.
    pub restored: u64,
}

pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, options: &HeapOptions) -> PageResult<HeapFile> {
    let poison = Poison::new();
    // 1. The page file says who we are, and is locked for us; the master record says where recovery begins.
    make_dir(&*disk, dir)?;
    let file = PageFileOptions::new().page_size(DEFAULT_PAGE_SIZE).checksum(ChecksumKind::Crc32c);
    let pages = file.open_on(&*disk, &dir.join("pages"))?;
    let uuid = pages.uuid().expect("a page file that was opened by its name has a UUID");
    let mut master = MasterRecord::open(&*disk, &dir.join("master"), uuid)?;
    master.check_len(&pages)?;
    // 2. The log: read to its end, then made durable, so that it can be believed.
    if master.generation() == 0 {
        Wal::create(disk.clone(), dir.join("log"), &options.log, uuid)?; // no block was ever written
    }
    let mut log = Recovery::open(disk.clone(), dir.join("log"), &options.log, master.log_start(&poison))?;
    let found = log.replay(|_| Ok(()))?;
    log.secure()?;
    // 3. Pages that a power cut tore are restored from their copies: redo needs whole ones. From here on pages are written twice.
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Prefer };
    let copies = disk.open(&dir.join("doublewrite"), &how).map_err(io("open the double-write file"))?;
    disk.sync_dir(dir).map_err(io("sync the heap's directory"))?;
    let copies = DoubleWriteFile::read(copies, pages.page_size(), uuid, pages.checksum().clone())?;
    let restored = copies.restore(&pages, master.checkpoint(), found.end)?;
    let torn = restored.pages();
    let pages = restored.write_twice(pages, poison.clone());
    // 4. Redo, into a pool that may evict as it goes: the allocator's operations and the heap's.
    let late_log = Arc::new(LateLog::reading(found.end));
    let pool_options = PoolOptions {
        log: Some(late_log.clone()),
        poison: poison.clone(),
        ..PoolOptions::new(options.frames)
    };
    let pool = Arc::new(BufferPool::with_options(Box::new(pages), pool_options)?);
    let mut redo = Redo::new(&pool, RedoTable::new(vec![pagestone::alloc::redo_range(), redo_range()]));
    log.replay(|group| redo.group(&group))?;
    let counts = redo.finish()?;
    // 5. The next generation, durable before the first block that carries it; then the log can be written.
    let log = Arc::new(log.start(master.next_generation(&found, &poison)?)?);
    late_log.open(log.clone());
    // 6. A log in which nothing ever happened is a new heap's.
    let is_new = found.groups == 0 && master.checkpoint() == pagestone::Lsn::ZERO;
    let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, MAX_SWIP_PAGE);
    let env = LoggedPool::new(pool, log, allocator, poison);
    if is_new {
        begin(&env)?;
    }
    let opened = Opened { groups: found.groups, applied: counts.applied, restored: torn };
    let heap = HeapFile { env, master: Mutex::new(master), last: Mutex::new(FIRST), opened };
    let last = heap.walk(|_, _| Ok(()))?;
    *heap.last() = last;
    Ok(heap)
}

/// The first group: a space map in which the first page is in use, and that page. Durable with the first record at the latest.
fn begin(env: &LoggedPool) -> PageResult<()> {
    let map = PageId::new(0);
    env.pool().store().grow(FIRST.get() + 1)?;
    let mut txn = env.begin(Reserve { log_bytes: 256, pins: 2, ..Reserve::default() })?;
    let (map_pin, first_pin) =
        (env.pool().adopt(map, PageKind::SPACE_MAP)?, env.pool().adopt(FIRST, PageKind::PLAIN)?);
    let first = txn.latch(first_pin.exclusive()?);
    let map = txn.latch(map_pin.exclusive()?); // space-map pages last: the order of latches
    txn.change(first, &HeapOp::Format)?;
    txn.change(map, &FormatMap { region: 0 })?;
    txn.change(map, &SetBits { first: FIRST, count: 1 })?;
    txn.commit().map(drop)
}

/// Makes the heap's directory if there is none, durably.
fn make_dir(disk: &dyn Disk, dir: &Path) -> PageResult<()> {
    if disk.kind(dir).map_err(io("look at the heap's directory"))?.is_none() {
        disk.create_dir(dir).map_err(io("make the heap's directory"))?;
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new("."))).map_err(io("sync the parent directory"))
}

fn io(operation: &'static str) -> impl Fn(std::io::Error) -> PageError {
    move |error| PageError::io(operation, error)
}
