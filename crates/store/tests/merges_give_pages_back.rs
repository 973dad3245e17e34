//! Prevents: pages that nobody gets back after their entries were removed; a key that is lost, or found twice, where two leaves
//! became one; a tree that stays as high as it once was.

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_page_format::PageSize;
use pagestone_store::{Durability, Options, Store, Tree};
use pagestone_testkit::{Rng, SimDisk};
use support::census::Census;
use support::{State, contents, small};

fn options(page: usize, frames: usize) -> Options {
    Options {
        page_size: PageSize::new(page).expect("a page size"),
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

#[derive(Debug, Clone, Copy)]
enum Keys {
    Numbers,
    Scattered,
    Paths,
    /// As long as a key can be, alike but for their ends.
    LongAlike,
    /// As long as a key can be, each other than the next.
    LongUnlike,
    /// Of all lengths.
    Mixed,
}

impl Keys {
    fn key(self, number: u64, max: usize) -> Vec<u8> {
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match self {
            Self::Numbers => number.to_be_bytes().to_vec(),
            Self::Scattered => scattered.to_be_bytes().to_vec(),
            Self::Paths => format!("/usr/lib/some/deep/path/{:03}/{number:06}", number / 50).into_bytes(),
            Self::LongAlike => [vec![b'x'; max - 8], number.to_be_bytes().to_vec()].concat(),
            Self::LongUnlike => [scattered.to_be_bytes().to_vec(), vec![b'x'; max - 8]].concat(),
            Self::Mixed => {
                let len = (scattered >> 32) as usize % (max - 8);
                match number % 3 {
                    0 => [number.to_be_bytes().to_vec(), vec![number as u8; len]].concat(),
                    1 => [vec![b'm'; len], number.to_be_bytes().to_vec()].concat(),
                    _ => format!("/var/{number:08}").into_bytes(),
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Up,
    Down,
    Random,
    /// Every other one, then the rest.
    Combed,
    /// From both ends, in turns.
    Inwards,
    /// Runs of a hundred, in random order.
    Runs,
}

impl Order {
    fn arrange(self, mut keys: Vec<Vec<u8>>, random: &mut Rng) -> Vec<Vec<u8>> {
        let shuffle = |keys: &mut [Vec<u8>], random: &mut Rng| {
            for index in (1..keys.len()).rev() {
                keys.swap(index, random.below(index as u64 + 1) as usize);
            }
        };
        keys.sort();
        match self {
            Self::Up => keys,
            Self::Down => keys.into_iter().rev().collect(),
            Self::Random => {
                shuffle(&mut keys, random);
                keys
            }
            Self::Combed => {
                let (even, odd): (Vec<_>, Vec<_>) =
                    keys.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
                even.into_iter().chain(odd).map(|(_, key)| key).collect()
            }
            Self::Inwards => {
                let half = keys.len() / 2;
                let mut back: Vec<_> = keys.split_off(half);
                back.reverse();
                let mut all = Vec::new();
                let (mut front, mut back) = (keys.into_iter(), back.into_iter());
                loop {
                    let before = all.len();
                    all.extend(front.next());
                    all.extend(back.next());
                    if all.len() == before {
                        return all;
                    }
                }
            }
            Self::Runs => {
                let mut runs: Vec<Vec<Vec<u8>>> = keys.chunks(100).map(<[_]>::to_vec).collect();
                for index in (1..runs.len()).rev() {
                    runs.swap(index, random.below(index as u64 + 1) as usize);
                }
                runs.concat()
            }
        }
    }
}

fn value(key: &[u8], tree: &Tree, random: &mut Rng) -> Vec<u8> {
    let max = tree.max_inline_value(key.len()) as u64;
    let len = if random.below(20) == 0 { max } else { random.below(max.min(120) + 1) };
    vec![key[key.len() - 1]; len as usize]
}

/// Puts `count` keys in one order and removes them all in another, looking at the whole store now and then.
fn fill_and_empty(page: usize, frames: usize, count: u64, keys: Keys, put: Order, remove: Order) {
    let disk = SimDisk::new(1);
    let size = PageSize::new(page).expect("a page size");
    let store = open(&disk, options(page, frames));
    let tree = store.default_tree();
    let mut random = Rng::new(count ^ page as u64);
    let all: Vec<_> = (0..count).map(|number| keys.key(number, tree.max_key_len())).collect();
    let mut model = State::new();
    for key in put.arrange(all.clone(), &mut random) {
        let value = value(&key, &tree, &mut random);
        tree.put(&key, &value).expect("put");
        model.insert(key, value);
    }
    let full = Census::of(&store, &disk, size);
    assert!(full.height > 1, "the premise is gone");
    for (number, key) in remove.arrange(all, &mut random).into_iter().enumerate() {
        assert!(tree.remove(&key).expect("remove"), "a key was lost");
        model.remove(&key);
        if number as u64 % (count / 8) == count / 16 {
            assert!(contents(&store).expect("scan") == model);
            Census::of(&store, &disk, size);
        }
    }
    let empty = Census::of(&store, &disk, size);
    assert_eq!(empty.nodes.len(), 1, "{keys:?} {put:?} {remove:?}: {:?} of {}", empty, full.nodes.len());
    let stats = store.stats().expect("stats").tree;
    assert_eq!((stats.height, stats.merges_given_up), (1, 0), "{stats:?}");
    assert!(tree.is_empty().expect("scan"));
}

const ORDERS: [Order; 6] =
    [Order::Up, Order::Down, Order::Random, Order::Combed, Order::Inwards, Order::Runs];

#[test]
fn an_emptied_tree_is_one_leaf_and_all_else_is_free() {
    for remove in ORDERS {
        for keys in [Keys::Numbers, Keys::Scattered, Keys::Paths] {
            fill_and_empty(4096, 64, 4000, keys, Order::Up, remove);
            fill_and_empty(4096, 64, 4000, keys, Order::Random, remove);
        }
    }
}

#[test]
fn so_it_is_with_keys_that_fill_inner_nodes_by_fours() {
    for remove in ORDERS {
        for keys in [Keys::LongAlike, Keys::LongUnlike, Keys::Mixed] {
            fill_and_empty(4096, 64, 1200, keys, Order::Up, remove);
            fill_and_empty(4096, 64, 1200, keys, Order::Random, remove);
        }
    }
}

#[test]
fn so_it_is_on_pages_of_64_kib() {
    for remove in ORDERS {
        for keys in [Keys::Numbers, Keys::Mixed] {
            fill_and_empty(65_536, 32, 4000, keys, Order::Random, remove);
        }
    }
}

/// What is left of random removals is not spread thin.
#[test]
fn leaves_stay_two_fifths_full_under_random_removals() {
    for keys in [Keys::Scattered, Keys::Paths] {
        let disk = SimDisk::new(2);
        let store = open(&disk, options(4096, 256));
        let tree = store.default_tree();
        let mut random = Rng::new(3);
        let all: Vec<_> = (0..20_000).map(|number| keys.key(number, tree.max_key_len())).collect();
        for key in Order::Random.arrange(all.clone(), &mut random) {
            let value = vec![1; random.below(100) as usize];
            tree.put(&key, &value).expect("put");
        }
        for (number, key) in Order::Random.arrange(all, &mut random).into_iter().enumerate() {
            if number % 2000 == 0 {
                let census = Census::of(&store, &disk, PageSize::new(4096).expect("a page size"));
                assert!(census.mean_fill() > 0.4, "{} after {number} removals", census.mean_fill());
            }
            assert!(tree.remove(&key).expect("remove"));
        }
    }
}

/// Few keys with stems of all lengths, so that separators, prefixes and what fits beside what differ from node to node.
#[test]
fn so_it_is_with_keys_of_any_shape() {
    let size = PageSize::new(4096).expect("a page size");
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let store = open(&disk, options(4096, 64));
        let tree = store.default_tree();
        let mut random = Rng::new(seed);
        let stems: Vec<Vec<u8>> = (0..1 + random.below(30))
            .map(|_| {
                vec![b'a' + random.below(26) as u8; random.below(tree.max_key_len() as u64 - 8) as usize]
            })
            .collect();
        let keys: Vec<_> = (0..100 + random.below(200))
            .map(|_| [&random.pick(&stems)[..], &random.below(1000).to_be_bytes()].concat())
            .collect();
        let mut model = State::new();
        for key in keys {
            let value = value(&key, &tree, &mut random);
            tree.put(&key, &value).expect("put");
            model.insert(key, value);
        }
        let order = random.pick(&ORDERS).arrange(model.keys().cloned().collect(), &mut random);
        for (number, key) in order.into_iter().enumerate() {
            assert!(tree.remove(&key).expect("remove"), "a key was lost");
            model.remove(&key);
            if number % 50 == 49 {
                assert!(contents(&store).expect("scan") == model);
                Census::of(&store, &disk, size);
            }
        }
        assert_eq!(Census::of(&store, &disk, size).nodes.len(), 1, "seed {seed}");
    }
}

/// A queue, and a table that is filled and emptied by turns: what was freed is used again before the file grows.
#[test]
fn freed_pages_are_used_again() {
    let disk = SimDisk::new(4);
    let size = PageSize::new(4096).expect("a page size");
    let store = open(&disk, options(4096, 256));
    let tree = store.default_tree();
    for number in 0..40_000_u64 {
        tree.put(&number.to_be_bytes(), &[7; 90]).expect("put");
        if let Some(old) = number.checked_sub(2000) {
            assert!(tree.remove(&old.to_be_bytes()).expect("remove"));
        }
    }
    let queue = Census::of(&store, &disk, size);
    let pages = store.stats().expect("stats").data_pages;
    assert!(queue.nodes.len() < 100 && queue.height == 2 && pages < 200, "{queue:?}, {pages} pages");
    for round in 0..5_u64 {
        for number in 0..2000 {
            tree.put(&Keys::Scattered.key(number, 512), &[round as u8; 150]).expect("put");
        }
        for number in 0..2000 {
            assert!(tree.remove(&Keys::Scattered.key(number, 512)).expect("remove"));
        }
        if round == 0 {
            store.checkpoint().expect("checkpoint");
        }
    }
    let after = store.stats().expect("stats").data_pages;
    assert!(after < pages + 200, "{pages} pages, then {after}");
    assert_eq!(contents(&store).expect("scan").len(), 2000);
}

/// Removals and inserts by turns, wherever a leaf is on its way down, move no pages to and fro.
#[test]
fn turns_of_removals_and_inserts_do_not_merge_and_split() {
    let disk = SimDisk::new(5);
    let store = open(&disk, options(4096, 256));
    let tree = store.default_tree();
    let key = |number: u64| number.to_be_bytes();
    for number in 0..400_u64 {
        tree.put(&key(number), &[7; 90]).expect("put");
    }
    let mut last = store.stats().expect("stats").tree;
    for number in 0..399_u64 {
        assert!(tree.remove(&key(number)).expect("remove"));
        for _ in 0..20 {
            tree.put(&key(number), &[8; 90]).expect("put");
            assert!(tree.remove(&key(number)).expect("remove"));
        }
        let now = store.stats().expect("stats").tree;
        assert!(now.merges <= last.merges + 2 && now.splits <= last.splits + 1, "{now:?} after {last:?}");
        last = now;
    }
    assert_eq!(store.stats().expect("stats").tree.height, 1);
}

/// Growth and shrinking by turns, keys of all kinds at once, the least pool, with reopening.
#[test]
fn trees_that_grow_and_shrink_agree_with_a_map() {
    for (page, seed, rounds) in [(4096, 6, 12), (65_536, 7, 4)] {
        let disk = SimDisk::new(seed);
        let size = PageSize::new(page).expect("a page size");
        let mut store = open(&disk, options(page, 32));
        let mut model = State::new();
        let mut random = Rng::new(seed);
        for round in 0..rounds {
            let tree = store.default_tree();
            let puts_of_ten = if round % 2 == 0 { 8 } else { 1 };
            for _ in 0..3000 {
                let kinds = [Keys::Scattered, Keys::Paths, Keys::LongAlike, Keys::LongUnlike, Keys::Mixed];
                let key = random.pick(&kinds).key(random.below(400), tree.max_key_len());
                if random.below(10) < puts_of_ten {
                    let value = value(&key, &tree, &mut random);
                    let put = tree.put(&key, &value).expect("put");
                    assert_eq!(put.replaced, model.insert(key, value).is_some());
                } else {
                    // The nearest key that is there, mostly, so that it shrinks.
                    let near = model.range(key.clone()..).next().map(|(key, _)| key.clone());
                    let key = near.filter(|_| random.below(10) > 0).unwrap_or(key);
                    assert_eq!(tree.remove(&key).expect("remove"), model.remove(&key).is_some());
                }
            }
            assert!(contents(&store).expect("scan") == model);
            let backward: Vec<_> = tree.range::<&[u8]>(..).rev().collect::<Result<_, _>>().expect("scan");
            assert!(backward.iter().map(|(key, value)| (key, value)).eq(model.iter().rev()));
            Census::of(&store, &disk, size);
            assert_eq!(store.stats().expect("stats").tree.merges_given_up, 0);
            if round % 3 == 2 {
                drop((tree, store));
                store = open(&disk, options(page, 32));
            }
        }
    }
}
