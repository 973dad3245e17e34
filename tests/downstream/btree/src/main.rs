//! A tree without a store: over a pool, a log and an allocator that its user put together.

use std::sync::Arc;

use pagestone_allocator::{LoggedAllocator, MapSource};
use pagestone_btree::{BTree, CompareAndSwap, TREE_BASE_ID, TreeError};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_direct_io::{Disk, RealDisk};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, MemoryStore, PageId, Poison, StoreUuid};
use pagestone_wal::{Recovery, Wal, WalOptions, WalStart};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-btree-{}", std::process::id()));
    let options = WalOptions { segment_bytes: 256 << 10, log_bytes: 16 << 20, ..WalOptions::default() };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let uuid = StoreUuid::new([5; 16]);
    Wal::create(disk.clone(), dir.clone(), &options, uuid)?;
    let start = WalStart {
        uuid,
        generation: 0,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };
    let mut recovery = Recovery::open(disk, dir.clone(), &options, start)?;
    recovery.replay(|_| panic!("a new log is empty"))?;
    let log = Arc::new(recovery.start(1)?);

    let mut options = PoolOptions::new(64);
    options.log = Some(log.clone());
    let pool = BufferPool::with_options(Box::new(MemoryStore::new(DEFAULT_PAGE_SIZE)), options)?;
    let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
    let env = Arc::new(LoggedPool::new(Arc::new(pool), log, allocator, Poison::new()));
    env.grow(1)?;
    env.format_region(0)?;

    let tree = BTree::create(env.clone(), TREE_BASE_ID)?;
    for number in 0..5000u32 {
        let key = number.reverse_bits().to_be_bytes();
        assert!(!tree.put(&key, &number.to_le_bytes())?.replaced);
    }
    assert!(tree.stats()?.height > 1, "more pages than frames, more than one level");
    assert!(matches!(tree.put(&vec![0; tree.max_key_len() + 1], b""), Err(TreeError::KeyTooLong { .. })));

    let keys: Vec<_> = [17u32, 4321, 9999].map(|number| number.reverse_bits().to_be_bytes()).into();
    let found = tree.multi_get(&keys)?;
    assert_eq!(found.iter().flatten().count(), 2);
    assert!(matches!(tree.insert(&keys[0], b""), Err(TreeError::KeyExists)));
    tree.insert(b"zz", b"a key that was not there")?;
    let swapped = tree.compare_and_swap(b"zz", Some(b"a key that was not there"), None)?;
    assert!(matches!(swapped, CompareAndSwap::Done { lsn: Some(_) }));
    tree.update_with(&keys[1], |now| now.map(<[u8]>::to_vec))?;
    assert!(tree.shape()?.leaves > 1);

    let again = BTree::open(env, TREE_BASE_ID, tree.root_id())?;
    assert_eq!(
        again.get(&4321u32.reverse_bits().to_be_bytes())?.as_deref(),
        Some(&4321u32.to_le_bytes()[..])
    );
    let mut cursor = again.cursor();
    cursor.seek_first()?;
    let mut keys = Vec::new();
    while let Some((key, _)) = cursor.next()? {
        keys.push(key.to_vec());
    }
    assert_eq!(keys.len(), 5000);
    assert!(keys.is_sorted());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
