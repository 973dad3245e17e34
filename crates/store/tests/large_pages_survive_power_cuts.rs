//! Prevents: nodes of large pages, which have hints, that redo makes otherwise than they were, or that have no room for what limits
//! promise; pages that come back from copies after the file was cut and grew again (N4, L6, L10, R1).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_page_format::PageSize;
use pagestone_store::{Options, Store, TornWrites};
use pagestone_testkit::{Keep, Rng, SimDisk};
use support::{DIR, State, small, verified_contents};

fn open(disk: &SimDisk, page: usize) -> Store {
    let options = Options {
        page_size: PageSize::new(page).expect("a page size"),
        pool_bytes: 40 * page,
        log_bytes: 64 << 20,
        segment_bytes: 2 << 20,
        torn_writes: TornWrites::DoubleWrite,
        ..small()
    };
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens")
}

/// Short keys by the hundred, and long ones that leave an inner node four separators.
fn key(random: &mut Rng, page: usize) -> Vec<u8> {
    let number = random.below(3000);
    let mut key = number.to_be_bytes()[4..].to_vec();
    match number % 60 {
        0 => key.resize(page / 8, b'k'),
        1 => key = [vec![b'p'; page / 8 - 8], number.to_be_bytes().to_vec()].concat(),
        rest => key.resize(4 + rest as usize % 9, b's'),
    }
    key
}

fn value(random: &mut Rng, page: usize, key: &[u8]) -> Vec<u8> {
    let longest_inline = page / 4 - 96 - key.len();
    let len = match random.below(24) {
        0 => longest_inline,
        1 => longest_inline + 1,
        2 => 3 * page,
        3 => page / 20,
        _ => random.below(40) as usize,
    };
    vec![random.next_u64() as u8; len]
}

/// Grows, shrinks, is compacted, and loses its power at any time; opens, and loses it again before there was a checkpoint.
fn generations(page: usize) {
    let (mut disk, mut state) = (SimDisk::new(page as u64), State::new());
    let mut random = Rng::new(page as u64);
    for generation in 0..24_u64 {
        let store = open(&disk, page);
        assert!(verified_contents(&store).expect("reads") == state, "generation {generation}");
        let tree = store.default_tree();
        let shrinks = generation % 3 == 2;
        for change in 0..900 {
            let key = key(&mut random, page);
            if shrinks && random.below(8) > 0 {
                let taken = state.range(key..).next().map(|(key, _)| key.clone());
                if let Some(key) = taken {
                    tree.remove(&key).expect("removed");
                    state.remove(&key);
                }
            } else {
                let value = value(&mut random, page, &key);
                tree.put(&key, &value).expect("put");
                state.insert(key, value);
            }
            if change % 300 == 299 && random.below(3) > 0 {
                store.checkpoint().expect("a healthy disk");
            }
        }
        if shrinks && generation % 2 == 0 {
            store.compact().expect("compacted");
        }
        match random.below(4) {
            0 => store.close().expect("closed"),
            1 => store.tick().expect("a healthy disk"),
            _ => drop(store),
        }
        assert_eq!(disk.audit(), [], "the disk saw a broken rule");
        disk = disk.power_cut(match generation % 3 {
            0 => Keep::Synced,
            1 => Keep::Random(generation),
            _ => Keep::Everything,
        });
    }
}

#[test]
fn pages_of_16_kib() {
    generations(16 << 10);
}

#[test]
fn pages_of_64_kib() {
    generations(64 << 10);
}
