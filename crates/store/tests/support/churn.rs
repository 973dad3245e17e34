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
    /// Bytes of the file, when all entries had come for the first time and at the end.
    pub file_before: u64,
    pub file: u64,
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
    let file_before = file();
    let mut done = 0;
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
            disk.settle(); // what was written long ago takes no memory
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
    }
    let report = store.verify().expect("verifies");
    assert!(report.is_sound() && report.entries == entries, "{report:?}");
    let churned = Churned { turns: done, file_before, file: file(), live: entries * (16 + VALUE as u64) };
    for number in there {
        assert!(tree.remove(&key(churn, number)).expect("remove"));
    }
    let report = store.verify().expect("verifies");
    assert!(report.is_sound() && (report.nodes, report.entries) == (0, 0), "{report:?}");
    // The root's page, and the catalog's.
    assert_eq!(report.leaves, 2, "{report:?}");
    churned
}
