//! A store that is closed and opened again.

use pagestone_store::{Options, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-store-{}", std::process::id()));
    let options =
        Options { pool_bytes: 1 << 20, log_bytes: 1 << 20, segment_bytes: 64 << 10, ..Options::default() };
    let store = Store::open(&dir, options.clone())?;
    let tree = store.default_tree();
    for number in 0..2000u32 {
        let key = number.to_be_bytes();
        assert!(!tree.put(&key, format!("value {number}").as_bytes())?.replaced);
    }
    assert!(tree.remove(&7u32.to_be_bytes())?);
    store.close()?;
    drop((store, tree));

    let store = Store::open(
        &dir,
        Options { create: false, pool_bytes_max: 4 << 20, page_provider: true, ..options },
    )?;
    store.set_pool_bytes(4 << 20)?;
    let tree = store.default_tree();
    assert_eq!(tree.len()?, 1999);
    store.set_pool_bytes(256 << 10)?;
    assert_eq!(tree.get(&7u32.to_be_bytes())?, None);
    assert_eq!(tree.get(&1234u32.to_be_bytes())?.as_deref(), Some(&b"value 1234"[..]));
    assert_eq!(tree.remove_range(100u32.to_be_bytes()..)?, 1900);
    assert_eq!(tree.last()?.map(|(key, _)| key), Some(99u32.to_be_bytes().to_vec()));
    let loaded = store.tree("loaded")?;
    assert_eq!(loaded.bulk_load((0..5000u32).map(|number| (number.to_be_bytes(), b"row")))?.entries, 5000);
    assert_eq!(loaded.multi_get(&[4999u32.to_be_bytes()])?, [Some(b"row".to_vec())]);
    store.close()?;
    drop((store, tree, loaded));
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
