//! Prevents: an id with two owners, an id given out while the disk says that it is somebody else's, a sync that keeps a state that never
//! was; in any interleaving of threads that allocate and free, each by its own cache, and one that syncs.
//!
//! The allocator is the production type, over pages of 128 bytes in memory: regions of 640 ids, two caches.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-allocator --test loom_page_allocator
//! ```
#![cfg(loom)]

use std::sync::Arc;

use pagestone_allocator::PageAllocator;
use pagestone_page_format::{MemoryStore, PageId, PageSize};
use pagestone_sync::checking::model;
use pagestone_sync::thread;

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(PageSize::new(128).expect("a page of a model")))
}

fn open(store: &Arc<MemoryStore>) -> Arc<PageAllocator> {
    Arc::new(PageAllocator::new(Arc::clone(store)).expect("it can be read"))
}

/// What the disk says, as the next opening finds it.
fn on_disk(store: &Arc<MemoryStore>, id: PageId) -> bool {
    open(store).is_allocated(id).expect("its map")
}

#[test]
fn no_id_has_two_owners() {
    model("A5 caches (allocator)", "no_id_has_two_owners", 3)
        .catches("an id stays in the cache that hands it out", &["A2: "])
        .catches("a recalled lease stays where it is", &["A2: "])
        .check(|| {
            let allocator = open(&store());
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || {
                    let id = allocator.allocate().expect("an id");
                    let kept = allocator.allocate().expect("an id");
                    allocator.free(id).expect("it is ours");
                    kept
                })
            };
            let first = allocator.allocate().expect("an id");
            // Recalls the lease, and takes from what was behind it.
            let run = allocator.allocate_extent(2).expect("a run");
            let last = allocator.allocate().expect("an id");
            let kept = other.join().expect("no panic");
            let mut ids = vec![first.get(), run.get(), run.get() + 1, last.get(), kept.get()];
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "A2: an id has two owners: {ids:?}");
            assert_eq!(
                allocator.free_count() + 5 + u64::from(allocator.high_water() > 9) * 7 + 1,
                allocator.high_water()
            );
        });
}

#[test]
fn of_two_frees_of_one_id_one_succeeds() {
    model("A2 double free (allocator)", "of_two_frees_of_one_id_one_succeeds", 3)
        .catches("who frees does not look at what the bit was", &["A2: "])
        .check(|| {
            let allocator = open(&store());
            let run = allocator.allocate_extent(2).expect("a run");
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || allocator.free(run).is_ok())
            };
            let both = allocator.free_extent(run, 2).is_ok();
            let one = other.join().expect("no panic");
            assert!(!(one && both), "A2: an id was freed twice");
            let second = PageId::new(run.get() + 1);
            assert_eq!(allocator.is_allocated(second).expect("known"), !both, "A2: all or none");
            assert!(one || both || allocator.is_allocated(run).expect("known"), "A2: an id is lost");
        });
}

#[test]
fn no_id_is_given_out_that_the_disk_knows_as_somebody_elses() {
    model("A2 held (allocator)", "no_id_is_given_out_that_the_disk_knows_as_somebody_elses", 3)
        .catches("a freed id is given out though the disk knows its owner", &["A2: the disk"])
        .catches("a commit forgets what it makes known", &["A2: the disk"])
        .check(|| {
            let store = store();
            let allocator = open(&store);
            let (old, later) = (allocator.allocate().expect("an id"), allocator.allocate().expect("an id"));
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || {
                    allocator.free(old).expect("it is ours");
                    allocator.free(later).expect("it is ours");
                    allocator.allocate().expect("an id")
                })
            };
            allocator.sync().expect("durable");
            let new = other.join().expect("no panic");
            // As of an instant before the later of the frees, so it is the old owner whom the disk knows.
            let before = on_disk(&store, old) && on_disk(&store, later);
            assert!(!before || (new != old && new != later), "A2: the disk knows {new} as its old owner's");
            allocator.sync().expect("durable");
            assert!(on_disk(&store, new) && (new == old || !on_disk(&store, old)));
        });
}

#[test]
fn a_sync_keeps_the_state_of_one_instant() {
    model("A1 one instant (allocator)", "a_sync_keeps_the_state_of_one_instant", 2)
        .catches("a commit lets others change what it copies", &["A1: ", "do not add up"])
        .check(|| {
            let store = store();
            let allocator = open(&store);
            // In words of their own, the one that is freed in the later: copied last.
            let run = allocator.allocate_extent(60).expect("a run");
            let freed = PageId::new(run.get() + 59);
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || {
                    let id = allocator.allocate().expect("an id");
                    allocator.free(freed).expect("it is ours");
                    id
                })
            };
            allocator.sync().expect("durable");
            let again = open(&store);
            let id = other.join().expect("no panic");
            assert!(id.get() / 64 < freed.get() / 64);
            let [id, freed] = [id, freed].map(|id| again.is_allocated(id).expect("its map"));
            assert!(id || freed, "A1: freed after the other was allocated, and neither is there");
        });
}
