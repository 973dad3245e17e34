//! Prevents: a tree that loses, invents or misplaces a key, in memory or under eviction, and a scan that ends early.

mod support;

use pagestone_btree::MIN_TREE_FRAMES;
use pagestone_store::StoreError;
use pagestone_testkit::SimDisk;
use support::histories::{agree, open, relaxed};

#[test]
fn on_4_kib_pages_all_resident() {
    assert_eq!(agree(4096, 4096, 1, 30_000), 0, "not all was resident");
}

#[test]
fn on_4_kib_pages_with_the_least_pool() {
    assert!(agree(4096, MIN_TREE_FRAMES, 2, 30_000) > 1000, "all was resident");
}

#[test]
fn on_64_kib_pages_all_resident() {
    assert_eq!(agree(65_536, 512, 7, 10_000), 0, "not all was resident");
}

#[test]
fn on_64_kib_pages_with_the_least_pool() {
    assert!(agree(65_536, MIN_TREE_FRAMES, 3, 10_000) > 1000, "all was resident");
}

#[test]
fn on_16_kib_pages() {
    agree(16_384, 64, 4, 20_000);
}

#[test]
fn on_8_and_32_kib_pages() {
    agree(8192, 48, 5, 8_000);
    agree(32_768, MIN_TREE_FRAMES, 6, 8_000);
}

#[test]
fn keys_and_values_past_their_limits_are_refused_and_change_nothing() {
    let store = open(&SimDisk::new(1), relaxed(4096, 64));
    let tree = store.default_tree();
    let (max_key, max_value) = (tree.max_key_len(), tree.max_inline_value(1));
    assert!(max_key >= 4096 / 8 && max_value >= 4096 / 5, "{max_key} {max_value}");
    tree.put(&vec![7; max_key], b"fits").expect("at the limit");
    tree.put(b"k", &vec![7; max_value]).expect("at the limit");
    let error = tree.put(&vec![7; max_key + 1], b"").expect_err("past the limit");
    assert!(matches!(error, StoreError::Tree(pagestone_btree::TreeError::KeyTooLong { .. })), "{error}");
    let error = tree
        .put_reader(b"k", Some(tree.max_value_len() + 1), std::io::repeat(8))
        .expect_err("past the limit");
    assert!(matches!(error, StoreError::Tree(pagestone_btree::TreeError::ValueTooLong { .. })), "{error}");
    assert_eq!(tree.get(b"k").expect("get"), Some(vec![7; max_value]));
    assert_eq!(tree.get(&vec![7; 100_000]).expect("get"), None);
    assert!(!tree.remove(&vec![7; 100_000]).expect("remove"));
    assert_eq!(tree.len().expect("len"), 2);
}

#[test]
fn sequential_load_fills_pages() {
    let store = open(&SimDisk::new(1), relaxed(4096, 1024));
    let tree = store.default_tree();
    let mut bytes = 0;
    for number in 0..50_000u64 {
        let key = format!("key-{number:012}");
        tree.put(key.as_bytes(), &[1; 100]).expect("put");
        bytes += key.len() + 100;
    }
    store.checkpoint().expect("checkpoint");
    let splits = store.stats().expect("stats").tree.splits;
    let file = (splits + 3) * 4096;
    assert!((file as f64) < 1.15 * bytes as f64, "{file} bytes of pages for {bytes} bytes of rows");
    let shape = tree.shape().expect("reads");
    assert!(shape.leaf_fill() > 0.9, "{shape:?}");
}

#[test]
fn after_close_every_call_says_so() {
    let store = open(&SimDisk::new(1), relaxed(4096, 64));
    let (tree, clone) = (store.default_tree(), store.clone());
    tree.put(b"key", b"value").expect("put");
    store.close().expect("close");
    assert!(matches!(tree.put(b"key", b"value"), Err(StoreError::Closed)));
    assert!(matches!(tree.get(b"key"), Err(StoreError::Closed)));
    assert!(matches!(tree.remove(b"key"), Err(StoreError::Closed)));
    assert!(matches!(clone.sync(), Err(StoreError::Closed)));
    assert!(matches!(clone.close(), Err(StoreError::Closed)));
    assert!(matches!(clone.checkpoint(), Err(StoreError::Closed)));
}

/// A stale root after a close without a checkpoint; a fresh store killed before its first log write.
#[test]
fn lookup_after_reopening_without_a_checkpoint_visits_height_pages() {
    let disk = SimDisk::new(1);
    drop(open(&disk, relaxed(4096, 64)));
    let store = open(&disk, relaxed(4096, 2048));
    let tree = store.default_tree();
    assert!(tree.is_empty().expect("reads"));
    for number in 0..20_000u32 {
        tree.put(&number.wrapping_mul(2_654_435_761).to_be_bytes(), &[1; 40]).expect("put");
    }
    let before = store.stats().expect("stats").tree;
    assert!(before.splits > 100);
    drop((tree, store));
    let store = open(&disk, relaxed(4096, 2048));
    assert!(store.open_report().groups > 0, "nothing was replayed: the premise is gone");
    drop(store);
    // Opened again, with a cold pool: each lookup reads no more pages than the tree is high.
    let store = open(&disk, relaxed(4096, 2048));
    let (tree, height) = (store.default_tree(), before.height);
    assert_eq!(store.stats().expect("stats").tree.height, height);
    for number in (0..20_000u32).step_by(777) {
        let misses = store.stats().expect("stats").pool.misses;
        let found = tree.get(&number.wrapping_mul(2_654_435_761).to_be_bytes()).expect("get");
        assert_eq!(found, Some(vec![1; 40]));
        assert!(store.stats().expect("stats").pool.misses - misses <= u64::from(height));
    }
}
