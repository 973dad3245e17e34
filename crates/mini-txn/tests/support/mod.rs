//! A small environment for mini-transactions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pagestone_allocator::{LoggedAllocator, MapSource};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, MemoryStore, PageStore, Poison, StoreUuid};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_testkit::SimDisk;
use pagestone_wal::{Recovery, Wal, WalOptions, WalStart};

/// Pool, log and space map of an empty file in memory.
#[allow(dead_code, reason = "not every test has its log on a disk of its own")]
pub(crate) fn environment() -> (Arc<MemoryStore>, LoggedPool) {
    let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
    (Arc::clone(&store), environment_on(SimDisk::new(1), store))
}

/// The same over this store, with its log on this disk.
pub(crate) fn environment_on(disk: SimDisk, store: impl PageStore + 'static) -> LoggedPool {
    let (disk, dir) = (Arc::new(disk), PathBuf::from("/log"));
    let options = WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 1 << 20,
        durable_by: Some(pagestone_wal::DurableBy::Fdatasync),
        // Nobody gives up here: a panic whose trace is being printed can keep who waits for it longer than any limit on a busy machine.
        full_wait: Duration::from_secs(3600),
        ..WalOptions::default()
    };
    let poison = Poison::new();
    let uuid = StoreUuid::default();
    Wal::create(disk.clone(), dir.clone(), &options, uuid).expect("a log");
    let start = WalStart {
        uuid,
        generation: 0,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: poison.clone(),
    };
    let mut recovery = Recovery::open(disk, dir, &options, start).expect("a log");
    recovery.replay(|_| Ok(())).expect("empty");
    let log = Arc::new(recovery.start(1).expect("begins"));
    let options = PoolOptions { log: Some(log.clone()), poison: poison.clone(), ..PoolOptions::new(16) };
    let pool = BufferPool::with_options(Box::new(store), options).expect("a pool");
    let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, MAX_SWIP_PAGE);
    let env = LoggedPool::new(Arc::new(pool), log, allocator, poison);
    env.grow(1).expect("room");
    env.format_region(0).expect("the space map");
    env
}
