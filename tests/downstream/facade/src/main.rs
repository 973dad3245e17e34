//! The facade with the layers that an engine asks for, and no others.

use pagestone::prelude::*;

fn main() -> StoreResult<()> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-facade-{}", std::process::id()));
    let options =
        Options { pool_bytes: 1 << 20, log_bytes: 1 << 20, segment_bytes: 64 << 10, ..Options::default() };
    let store = pagestone::Store::open(&dir, Options { durability: Durability::RELAXED, ..options })?;
    let tree: Tree = store.default_tree();
    let put: Put = tree.put(b"key", b"value")?;
    assert!(!put.replaced && put.lsn > Lsn::ZERO);
    store.sync()?;
    assert!(tree.is_durable(put.lsn));
    assert_eq!(tree.get(b"key")?.as_deref(), Some(&b"value"[..]));
    assert!(PageId::new(1) < PageId::MAX && pagestone::DEFAULT_PAGE_SIZE.get() == 4096);
    store.close()?;
    drop((store, tree));
    std::fs::remove_dir_all(&dir).expect("the store is closed");
    Ok(())
}
