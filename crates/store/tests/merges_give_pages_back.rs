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
    let max = tree.max_value_len(key.len()) as u64;
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
