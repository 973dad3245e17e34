//! Two trees over one pool and one log, with everything else in memory.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each promise uses its part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pagestone_allocator::{LoggedAllocator, MapSource};
use pagestone_btree::{BTree, BatchChange, BatchOp};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{Lsn, MemoryStore, PageSize, PageStore, Poison, StoreUuid};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_testkit::SimDisk;
use pagestone_wal::{Recovery, Wal, WalOptions, WalStart};

/// Pool, log and space map of an empty file.
pub fn environment(page: usize, frames: usize) -> Arc<LoggedPool> {
    environment_over(MemoryStore::new(PageSize::new(page).expect("a page size")), frames)
}

/// The same, over a store of one's own.
pub fn environment_over(store: impl PageStore + 'static, frames: usize) -> Arc<LoggedPool> {
    let size = store.page_size();
    let (disk, dir) = (Arc::new(SimDisk::new(1)), PathBuf::from("/log"));
    let options = WalOptions {
        segment_bytes: 16 << 20,
        log_bytes: 1 << 30,
        durable_by: Some(pagestone_wal::DurableBy::Fdatasync),
        ..WalOptions::default()
    };
    let (poison, uuid) = (Poison::new(), StoreUuid::default());
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
    let options = PoolOptions { log: Some(log.clone()), poison: poison.clone(), ..PoolOptions::new(frames) };
    let pool = BufferPool::with_options(Box::new(store), options).expect("a pool");
    let allocator = LoggedAllocator::under_log(size, MAX_SWIP_PAGE);
    let env = LoggedPool::new(Arc::new(pool), log, allocator, poison);
    env.grow(1).expect("room");
    env.format_region(0).expect("the space map");
    Arc::new(env)
}

pub fn trees(env: &Arc<LoggedPool>, count: u32) -> Vec<BTree> {
    (1..=count).map(|number| BTree::create(env.clone(), number).expect("a tree")).collect()
}

pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything in a tree, by a scan.
pub fn contents(tree: &BTree) -> State {
    tree.range::<&[u8]>(..).collect::<Result<_, _>>().expect("a scan")
}

/// One change: which tree, which key, which value if any.
pub type Change = (usize, Vec<u8>, Option<Vec<u8>>);

pub fn ops<'a>(trees: &'a [BTree], changes: &'a [Change]) -> Vec<BatchOp<'a>> {
    let op = |(tree, key, value): &'a Change| BatchOp {
        tree: &trees[*tree],
        key,
        change: value.as_ref().map_or(BatchChange::Remove, |value| BatchChange::Put(value)),
    };
    changes.iter().map(op).collect()
}
