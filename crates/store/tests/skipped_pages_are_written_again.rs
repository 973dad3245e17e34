//! Prevents: a page of which a failed sync left the newest version in the system's cache alone. Its LSN tells redo that nothing is missing;
//! recovery leaves it clean, the next checkpoint goes past its groups without writing it, and a power cut takes away what no log has any
//! more (I9, L10). Without a double-write: opening writes what stands in one again, which would hide it.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::DirectIo;
use pagestone_store::{Options, Store, StoreResult, TornWrites, Tree};
use pagestone_testkit::{AfterFailedSync, DiskOp, FaultPlan, Keep, SimDisk};
use support::{DIR, State, contents, small};

const EIO: i32 = 5;
const DATA: &str = "/store/data";

fn open(disk: &SimDisk) -> StoreResult<Store> {
    let options = Options { direct_io: DirectIo::Off, torn_writes: TornWrites::Off, ..small() };
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

/// The trees by name, an empty one for the default tree, each with its entries.
fn everything(store: &Store) -> StoreResult<BTreeMap<Vec<u8>, State>> {
    let mut all = BTreeMap::from([(Vec::new(), contents(store)?)]);
    for info in store.trees()? {
        let entries = store.tree(&info.name)?.range::<&[u8]>(..).collect::<Result<State, _>>()?;
        all.insert(info.name, entries);
    }
    Ok(all)
}

fn put(tree: &Tree, from: u32, count: u32, fill: u8) {
    for number in from..from + count {
        tree.put(format!("key-{number:04}").as_bytes(), &[fill; 200]).expect("a healthy disk");
    }
}

/// Changes pages, fails a sync of the data file in the checkpoint that writes them, opens what the cache shows, and lets a checkpoint go
/// past. Gives how many times redo found a page that had its group.
fn pages_in_the_cache_alone(change: fn(&Store), after: AfterFailedSync, skip: u64) -> u64 {
    let disk = SimDisk::new(11);
    drop(open(&disk).expect("makes a store")); // of which the files had other names
    let store = open(&disk).expect("opens");
    put(&store.default_tree(), 0, 60, 1);
    put(&store.tree("first").expect("a healthy disk"), 0, 20, 1);
    store.checkpoint().expect("a healthy disk");
    disk.settle();
    change(&store);
    let expected = everything(&store).expect("reads");
    let failed = FaultPlan::failed_sync(EIO, after).on(DiskOp::Sync).path(|path| path == Path::new(DATA));
    let failed = disk.fail(failed.skip(skip));
    let told = store.checkpoint();
    drop(store);
    assert!(disk.injected(failed) == 1 || after == AfterFailedSync::ReportedLate);
    assert!(told.is_err() || after == AfterFailedSync::ReportedLate, "a failed sync is told");

    // A failure that is reported late may be told to this opening; to no second one.
    let store = open(&disk).or_else(|_| open(&disk)).expect("opens what the cache shows");
    let skipped = store.open_report().skipped;
    assert!(everything(&store).expect("reads") == expected, "what was acknowledged is shown");
    for _ in 0..2 {
        store.checkpoint().expect("nothing fails any more"); // over both copies of the superblock
    }
    drop(store);

    let store = open(&disk.power_cut(Keep::Synced)).expect("whatever a successful sync has covered is there");
    assert!(everything(&store).expect("reads") == expected, "{after:?}, sync {skip}: a power cut took it");
    skipped
}

fn every_failure(change: fn(&Store)) {
    let mut skipped = 0;
    for after in AfterFailedSync::ALL {
        // The data file's pages, then the copy of the superblock.
        for skip in 0..2 {
            skipped += pages_in_the_cache_alone(change, after, skip);
        }
    }
    assert!(skipped > 10, "redo found {skipped} pages that had their groups");
}

#[test]
fn leaves_that_redo_has_nothing_to_do_for() {
    every_failure(|store| put(&store.default_tree(), 0, 40, 2));
}

/// Entries made, renamed and given up: nothing but the catalog tells them.
#[test]
fn pages_of_the_catalog() {
    every_failure(|store| {
        for number in 0..12 {
            put(&store.tree(format!("tree-{number}")).expect("a healthy disk"), 0, 1, 3);
        }
        store.rename_tree("first", "last").expect("a healthy disk");
        store.drop_tree("tree-5").expect("a healthy disk");
    });
}

/// Pages taken and given back: the space map's, and new nodes.
#[test]
fn pages_of_the_space_map() {
    every_failure(|store| {
        put(&store.default_tree(), 100, 80, 4);
        let tree = store.default_tree();
        for number in 100..170 {
            tree.remove(format!("key-{number:04}").as_bytes()).expect("a healthy disk");
        }
    });
}
