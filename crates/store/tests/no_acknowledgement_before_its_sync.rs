//! Prevents: a strict commit acknowledged before the sync that covers it (R1), with group commit and many threads.

mod support;

use pagestone_store::Options;
use pagestone_testkit::{Keep, SimDisk, SimOptions};
use std::path::Path;
use std::sync::Arc;
use support::{DIR, contents, open, small};

#[test]
fn what_is_acknowledged_is_there_when_only_synced_bytes_are() {
    let disk = SimDisk::with(SimOptions { seed: 3, yield_in_writes: true, ..SimOptions::default() });
    let options = Options { pool_bytes: 64 * 4096, ..small() };
    let store =
        pagestone_store::Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("healthy");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (disk, tree) = (&disk, store.default_tree());
            scope.spawn(move || {
                for round in 0..25 {
                    let key = format!("/usr/lib/thread-{thread}/file-{round:03}");
                    tree.put(key.as_bytes(), &[thread; 300]).expect("healthy");
                    // The plug is pulled at the very moment of the acknowledgement: nothing unsynced survives.
                    let cut = disk.power_cut(Keep::Synced);
                    let after = open(&cut).expect("recovers");
                    let found = after.default_tree().get(key.as_bytes()).expect("reads");
                    assert_eq!(found.as_deref(), Some(&[thread; 300][..]), "{key} was acknowledged");
                }
            });
        }
    });
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    drop(store);
    assert_eq!(contents(&open(&disk).expect("opens")).expect("reads").len(), 200);
}
