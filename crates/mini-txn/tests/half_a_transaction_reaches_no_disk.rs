//! Prevents: changes that no log describes in the data file, after a mini-transaction that was dropped half way (P11, R5).

use std::path::PathBuf;
use std::sync::Arc;

use pagestone_allocator::{MapSource, PageAllocator, SetBits};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_mini_txn::{LoggedPool, Reserve};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, MemoryStore, PageError, PageId, PageStore, Poison, StoreUuid,
};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_testkit::SimDisk;
use pagestone_wal::{Wal, WalOptions, WalStart};

fn environment() -> (Arc<MemoryStore>, LoggedPool) {
    let (disk, dir) = (Arc::new(SimDisk::new(1)), PathBuf::from("/log"));
    let options = WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() };
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
    let mut recovery = Wal::open(disk, dir, &options, start).expect("a log");
    recovery.replay(|_| Ok(())).expect("empty");
    let log = Arc::new(recovery.start(1).expect("begins"));
    let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
    let options = PoolOptions { log: Some(log.clone()), poison: poison.clone(), ..PoolOptions::new(16) };
    let pool = BufferPool::with_options(Box::new(Arc::clone(&store)), options).expect("a pool");
    let allocator = PageAllocator::under_log(DEFAULT_PAGE_SIZE, MAX_SWIP_PAGE);
    let env = LoggedPool::new(Arc::new(pool), log, allocator, poison);
    env.grow(1).expect("room");
    env.format_region(0).expect("the space map");
    (store, env)
}

#[test]
fn dropped_changes_poison_and_are_not_written() {
    let (store, env) = environment();
    env.pool().checkpoint().expect("written");
    let map_page = PageId::new(0);
    let mut before = store.allocate_page(map_page);
    store.read_into(map_page, &mut before).expect("written");
    let mut txn = env.begin(Reserve { log_bytes: 256, new_pages: 0, pins: 1 }).expect("begins");
    let page = env.pool().fault(map_page).expect("resident").exclusive().expect("latched");
    // Make it dirty under the log first, so that eviction would want it.
    let handle = txn.latch(page);
    txn.change(handle, &SetBits { first: PageId::new(5), count: 1 }).expect("free bits");
    txn.commit().expect("committed");
    let mut txn = env.begin(Reserve { log_bytes: 256, new_pages: 0, pins: 1 }).expect("begins");
    let handle = txn.latch(env.pool().fault(map_page).expect("resident").exclusive().expect("latched"));
    txn.change(handle, &SetBits { first: PageId::new(9), count: 1 }).expect("free bits");
    drop(txn); // half way
    assert!(matches!(env.pool().flush_all(), Err(PageError::Poisoned { .. })));
    assert!(matches!(env.begin(Reserve::default()), Err(PageError::Poisoned { .. })));
    let mut after = store.allocate_page(map_page);
    store.read_into(map_page, &mut after).expect("still whole");
    assert_eq!(before.bytes(), after.bytes(), "P11: what no log describes stays in memory");
}

#[test]
fn dropped_transaction_without_changes_is_free_and_gives_its_ids_back() {
    let (_store, env) = environment();
    let reserve = Reserve { log_bytes: 256, new_pages: 3, pins: 0 };
    let first = {
        let mut txn = env.begin(reserve).expect("begins");
        let handle = txn.allocate().expect("reserved");
        txn.id(handle)
    };
    let mut txn = env.begin(reserve).expect("not poisoned");
    let handle = txn.allocate().expect("reserved");
    assert_eq!(txn.id(handle), first);
}
