//! Entries that come and go while as many stay: what that does to the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pagestone_store::{Options, Store, Tree};
use pagestone_testkit::{Rng, SimDisk};

use super::histories::relaxed;

/// In which order entries come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Churn {
    /// As in a queue: at one end they come, at the other they go.
    Queue,
    /// Anywhere.
    Scattered,
}

/// What is left of it.
#[derive(Debug, Clone, Copy)]
pub struct Churned {
    /// Entries that came, and as many that went.
    pub turns: u64,
    /// Bytes of the file when the last entry had come, and the most there were until then.
    pub file_at_once: u64,
    pub file_max: u64,
    /// Bytes of the file once the background has nothing more to do.
    pub file: u64,
    /// Bytes of the log: all, and what the background wrote to take space back.
    pub log: u64,
    pub log_to_take_back: u64,
    /// Bytes of keys and values that stay.
    pub live: u64,
}

const VALUE: usize = 100;

/// One that no other number has, so that entries come in this order.
fn key(churn: Churn, number: u64) -> [u8; 16] {
    let place = match churn {
        Churn::Queue => number,
        Churn::Scattered => number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29),
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&place.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn put(tree: &Tree, churn: Churn, number: u64) {
    assert!(!tree.put(&key(churn, number), &[number as u8; VALUE]).expect("put").replaced);
}

/// Keeps `entries` of them, for so many turns or until then. Then takes all of them out: every page but the root's is free.
pub fn churn(churn: Churn, entries: u64, turns: u64, until: Option<Instant>) -> Churned {
    let disk = SimDisk::new(9);
    let options = Options { log_bytes: 256 << 20, ..relaxed(4096, 16_384) };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options).expect("opens");
    let (tree, mut random) = (store.default_tree(), Rng::new(9));
    let file = || store.stats().expect("stats").data_pages * 4096;
    let mut there: Vec<u64> = (0..entries).collect();
    there.iter().for_each(|number| put(&tree, churn, *number));
    store.checkpoint().expect("checkpoint");
    let (mut done, mut file_max) = (0, file());
    for turn in 0..turns {
        let at = match churn {
            Churn::Queue => turn % entries,
            Churn::Scattered => random.below(entries),
        };
        let old = std::mem::replace(&mut there[at as usize], entries + turn);
        assert!(tree.remove(&key(churn, old)).expect("remove"));
        put(&tree, churn, entries + turn);
        done = turn + 1;
        if turn % 4096 == 0 {
            store.tick().expect("background work");
            file_max = file_max.max(file());
            disk.settle(); // what was written long ago takes no memory
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
    }
    let file_at_once = file();
    rest(&store);
    let report = store.verify().expect("verifies");
    assert!(report.is_sound() && report.entries == entries, "{report:?}");
    let stats = store.stats().expect("stats");
    let churned = Churned {
        turns: done,
        file_at_once,
        file_max,
        file: file(),
        log: stats.log.bytes_written,
        log_to_take_back: stats.auto_compact.log_bytes,
        live: entries * (16 + VALUE as u64),
    };
    for number in there {
        assert!(tree.remove(&key(churn, number)).expect("remove"));
    }
    let report = store.verify().expect("verifies");
    assert!(report.is_sound() && (report.nodes, report.entries) == (0, 0), "{report:?}");
    // The root's page, and the catalog's.
    assert_eq!(report.leaves, 2, "{report:?}");
    // And once nobody writes the file is as short as it can be: some pages for growth.
    rest(&store);
    assert!(file() <= 64 * 4096, "{} bytes of a file that holds nothing", file());
    churned
}

/// Ticks until the background has nothing more to do; gives how many.
pub fn rest(store: &Store) -> u64 {
    for ticks in 1..1_000_000 {
        let before = store.stats().expect("stats").auto_compact;
        // More than it takes to see that nobody writes.
        for _ in 0..20 {
            store.tick().expect("background work");
        }
        let now = store.stats().expect("stats").auto_compact;
        if !now.under_way && now == before {
            return ticks;
        }
    }
    panic!("the background does not come to an end");
}
