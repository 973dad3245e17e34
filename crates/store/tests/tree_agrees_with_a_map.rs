//! Prevents: a tree that loses, invents or misplaces a key, in memory or under eviction, and a scan that ends early.

mod support;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use pagestone_page_format::PageSize;
use pagestone_store::{Durability, Options, Store, StoreError};
use pagestone_testkit::{Rng, SimDisk};
use support::{State, contents, small};

fn relaxed(page: usize, frames: usize) -> Options {
    let page_size = PageSize::new(page).expect("a page size");
    Options {
        page_size,
        pool_bytes: frames * page,
        durability: Durability::RELAXED,
        log_bytes: 64 << 20,
        segment_bytes: 8 << 20,
        ..small()
    }
}

fn open(disk: &SimDisk, options: Options) -> Store {
    Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options).expect("opens")
}

/// Keys of all shapes: empty, short, long with shared prefixes, binary, at the limit.
fn key(random: &mut Rng, max: usize) -> Vec<u8> {
    let number = random.below(3000);
    match random.below(10) {
        0 => Vec::new(),
        1 => vec![(number % 256) as u8; (number % 7) as usize],
        2 => (number as u16).to_be_bytes().to_vec(),
        3 => [vec![b'x'; max - 2], (number as u16 % 64).to_be_bytes().to_vec()].concat(),
        4..7 => format!("/usr/share/doc/package/{number:05}").into_bytes(),
        _ => format!("/usr/lib/x86_64-linux-gnu/some/deep/path/{:03}/{number}", number / 50).into_bytes(),
    }
}

fn agree(page: usize, frames: usize, seed: u64, steps: usize) {
    let disk = SimDisk::new(seed);
    let mut store = open(&disk, relaxed(page, frames));
    let mut tree = store.default_tree();
    let mut model = State::new();
    let mut random = Rng::new(seed);
    for step in 0..steps {
        let key = key(&mut random, tree.max_key_len());
        match random.below(20) {
            0..11 => {
                let max = tree.max_inline_value(key.len());
                let len = match random.below(12) {
                    0 => max,
                    1 => 0,
                    2 => max + 1 + random.below(20_000) as usize, // in extents
                    _ => random.below(200.min(max as u64)) as usize,
                };
                let value = vec![step as u8; len];
                let put = tree.put(&key, &value).expect("put");
                assert_eq!(put.replaced, model.insert(key, value).is_some());
            }
            11..16 => assert_eq!(tree.remove(&key).expect("remove"), model.remove(&key).is_some()),
            16..18 => assert_eq!(tree.get(&key).expect("get").as_ref(), model.get(&key)),
            18 if step % 40 == 18 => remove_range(&tree, &mut model, key, &mut random),
            18 => walk_around(&tree, &model, &key, &mut random),
            _ if step % 7 == 0 => store.checkpoint().expect("checkpoint"),
            _ => assert_eq!(tree.contains_key(&key).expect("contains"), model.contains_key(&key)),
        }
        if step % (steps / 4) == steps / 8 {
            // Half of the times closed, half of the times dropped as a crash would leave it but for the flush.
            if random.below(2) == 0 {
                store.close().expect("close");
            }
            drop((tree, store));
            store = open(&disk, relaxed(page, frames));
            tree = store.default_tree();
            assert!(contents(&store).expect("scan") == model, "after reopening at step {step}");
        }
    }
    assert!(support::verified_contents(&store).expect("scan") == model);
    let backward: Vec<_> = tree.range::<&[u8]>(..).rev().collect::<Result<_, _>>().expect("scan");
    assert!(backward.iter().map(|(key, value)| (key, value)).eq(model.iter().rev()));
    assert_eq!(tree.len().expect("len"), model.len() as u64);
    let stats = store.stats().expect("stats");
    assert!(stats.tree.height >= 2, "{stats:?}");
}

/// From a key on, as far as some hundred entries at most, with every kind of bound.
fn remove_range(tree: &pagestone_store::Tree, model: &mut State, key: Vec<u8>, random: &mut Rng) {
    let far = model.range(key.clone()..).nth(random.below(300) as usize).map(|(key, _)| key.clone());
    let bound = |key: Vec<u8>, random: &mut Rng| match random.below(2) {
        0 => Bound::Included(key),
        _ => Bound::Excluded(key),
    };
    let to = match far {
        Some(far) if far > key => bound(far, random),
        // One that is longer than any key.
        _ => bound([&key[..], &[0; 2000]].concat(), random),
    };
    let bounds = (bound(key, random), to);
    let gone: Vec<Vec<u8>> = model.range(bounds.clone()).map(|(key, _)| key.clone()).collect();
    assert_eq!(tree.remove_range(bounds).expect("remove_range"), gone.len() as u64);
    gone.iter().for_each(|key| drop(model.remove(key)));
}

/// A cursor and iterators from a key on, in both directions, against the model.
fn walk_around(tree: &pagestone_store::Tree, model: &State, key: &[u8], random: &mut Rng) {
    let mut cursor = tree.cursor();
    cursor.seek(key).expect("seek");
    let mut ahead = model.range(key.to_vec()..);
    for _ in 0..random.below(80) {
        let found = cursor.next().expect("next").map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.as_ref().map(|(key, value)| (key, value)), ahead.next());
    }
    cursor.seek(key).expect("seek");
    let mut behind = model.range(..key.to_vec()).rev();
    for _ in 0..random.below(80) {
        let found = cursor.prev().expect("prev").map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.as_ref().map(|(key, value)| (key, value)), behind.next());
    }
    let other = [key, &[0xff][..]].concat();
    let bounds = (Bound::Excluded(key.to_vec()), Bound::Included(other));
    let found = tree.range(bounds.clone()).collect::<Result<BTreeMap<_, _>, _>>().expect("range");
    assert!(found.iter().eq(model.range(bounds)));
    // Many at once: what is there, what is not, some of them twice.
    let there =
        model.range(key.to_vec()..).step_by(3).take(random.below(80) as usize).map(|(key, _)| key.clone());
    let mut keys: Vec<Vec<u8>> =
        there.flat_map(|key| [[&key[..], &[0]].concat(), key.clone(), key]).collect();
    random.shuffle(&mut keys);
    let values: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
    assert_eq!(tree.multi_get(&keys).expect("multi_get"), values);
    let prefix = &key[..key.len().min(22)];
    let found: Vec<_> = tree.prefix(prefix).rev().collect::<Result<_, _>>().expect("prefix");
    let expected = model.iter().filter(|(key, _)| key.starts_with(prefix)).rev();
    assert!(found.iter().map(|(key, value)| (key, value)).eq(expected));
    // Both ends of one iterator meet without giving anything twice.
    let mut both = tree.prefix(prefix);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let forward = random.below(2) == 0;
        let Some(entry) = (if forward { both.next() } else { both.next_back() }) else { break };
        let (key, _) = entry.expect("an entry");
        if forward { front.push(key) } else { back.push(key) }
    }
    front.extend(back.into_iter().rev());
    assert!(front.iter().eq(model.keys().filter(|key| key.starts_with(prefix))));
}

#[test]
fn on_4_kib_pages_all_resident() {
    agree(4096, 4096, 1, 30_000);
}

#[test]
fn on_4_kib_pages_with_the_least_pool() {
    agree(4096, 32, 2, 30_000);
}

#[test]
fn on_64_kib_pages_with_the_least_pool() {
    agree(65_536, 32, 3, 10_000);
}

#[test]
fn on_16_kib_pages() {
    agree(16_384, 64, 4, 20_000);
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
