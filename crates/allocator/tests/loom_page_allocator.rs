//! Prevents: an id with two owners, an id given out while the disk says that it is somebody else's, a sync that keeps a state that never
//! was; an id that its owner cannot free, because it is looked for where it just was; in any interleaving of threads that allocate and
//! free, each by its own cache or by way of the other's, and one that syncs.
//!
//! The allocator is the production type, over pages of 128 bytes in memory: regions of 640 ids, two caches of two leases.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-allocator --test loom_page_allocator
//! ```
#![cfg(loom)]

use std::collections::BTreeSet;
use std::sync::Arc;

use pagestone_allocator::PageAllocator;
use pagestone_page_format::{MemoryStore, PageId, PageResult, PageSize};
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
fn an_owner_frees_an_id_while_a_run_with_it_is_freed_in_vain() {
    model("A2 double free (allocator)", "an_owner_frees_an_id_while_a_run_with_it_is_freed_in_vain", 3)
        .catches("who frees a run turns bits before it has looked at all", &["A2: "])
        .check(|| {
            let allocator = open(&store());
            let run = allocator.allocate_extent(2).expect("a run");
            allocator.free(PageId::new(run.get() + 1)).expect("it is ours");
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || allocator.free_extent(run, 2).is_err())
            };
            let freed = allocator.free(run);
            assert!(other.join().expect("no panic"), "A2: an id was freed twice");
            freed.unwrap_or_else(|error| panic!("A2: it has an owner: {error}"));
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

/// How many ids somebody has, by the count of those that nobody has: none is lost, and none is there twice.
fn in_use(allocator: &PageAllocator) -> u64 {
    let high = allocator.high_water();
    let own = [0, 9, 10, 11, 12, 13, 14, 15].into_iter().filter(|id| *id < high).count() as u64;
    high - own - allocator.free_count()
}

#[test]
fn an_id_of_a_lease_is_freed_by_another_thread_across_a_sync() {
    model("A5 leases (allocator)", "an_id_of_a_lease_is_freed_by_another_thread_across_a_sync", 3)
        .catches("who frees an id does not ask the leases", &["A5: "])
        .catches("a lease is on no board", &["A5: "])
        .catches("a commit does not ask the leases", &["do not add up"])
        .check(|| {
            let store = store();
            let allocator = open(&store);
            let (old, kept) = (allocator.allocate().expect("an id"), allocator.allocate().expect("an id"));
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || {
                    allocator.free(old).unwrap_or_else(|error| panic!("A5: it has an owner: {error}"));
                    allocator.allocate().expect("an id")
                })
            };
            let early = allocator.allocate().expect("an id");
            allocator.sync().expect("durable");
            // A power cut here.
            let found = open(&store);
            let new = allocator.allocate().expect("an id");
            let theirs = other.join().expect("no panic");
            let has = |id| found.is_allocated(id).expect("its map");
            assert!(has(kept) && has(early), "A1: an id that was allocated before the sync is lost");
            let before = BTreeSet::from([kept, early, old, theirs]);
            let there = before.into_iter().filter(|id| has(*id)).count() as u64;
            assert_eq!(in_use(&found), there, "A1: not the state of one instant");
            assert!(new != old || !has(old), "A2: the disk knows {new} as its old owner's");
            let mut ids = [kept, early, new, theirs].map(PageId::get);
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "A2: an id has two owners: {ids:?}");
            allocator.sync().expect("durable");
            let found = open(&store);
            assert!(ids.iter().all(|id| found.is_allocated(PageId::new(*id)).expect("its map")));
            assert_eq!((in_use(&allocator), in_use(&found)), (4, 4), "A1: an id is lost");
        });
}

#[test]
fn one_allocates_another_frees_and_a_third_syncs() {
    model("A5 leases (allocator)", "one_allocates_another_frees_and_a_third_syncs", 2)
        .catches("who frees an id does not ask the leases", &["A5: "])
        .catches("a commit does not ask the leases", &["do not add up"])
        .catches("a commit lets others change what it copies", &["A1: ", "do not add up"])
        .check(|| {
            let store = store();
            let allocator = open(&store);
            let (old, kept) = (allocator.allocate().expect("an id"), allocator.allocate().expect("an id"));
            let frees = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || {
                    allocator.free(old).unwrap_or_else(|error| panic!("A5: it has an owner: {error}"));
                })
            };
            let syncs = {
                let (allocator, store) = (Arc::clone(&allocator), Arc::clone(&store));
                thread::spawn(move || {
                    allocator.sync().expect("durable");
                    open(&store) // after a power cut here
                })
            };
            let new = allocator.allocate().expect("an id");
            frees.join().expect("no panic");
            let found = syncs.join().expect("no panic");
            let has = |id| found.is_allocated(id).expect("its map");
            assert!(has(kept), "A1: an id that was allocated before the sync is lost");
            let before = BTreeSet::from([old, kept, new]);
            let there = before.into_iter().filter(|id| has(*id)).count() as u64;
            assert_eq!(in_use(&found), there, "A1: not the state of one instant");
            assert_ne!(new, kept, "A2: an id has two owners");
            allocator.sync().expect("durable");
            let found = open(&store);
            assert!(found.is_allocated(new).expect("its map") && found.is_allocated(kept).expect("its map"));
            assert_eq!((in_use(&allocator), in_use(&found)), (2, 2), "A1: an id is lost");
        });
}

/// One thread goes on to another word, in the place of which it had leased the first: gives the id that it gets there, and what
/// another thread makes meanwhile of one of the first word.
fn a_lease_ends_beside<T: Send + 'static>(
    allocator: &Arc<PageAllocator>,
    other: impl FnOnce(&PageAllocator, PageId) -> T + Send + 'static,
) -> (PageId, T) {
    let ids: Vec<PageId> = (0..8).map(|_| allocator.allocate().expect("an id")).collect();
    let rest = allocator.allocate_extent(112).expect("the rest of two words");
    assert_eq!((ids[7].get(), rest.get()), (8, 16), "what is free begins with the third word");
    let other = {
        let (allocator, id) = (Arc::clone(allocator), ids[2]);
        thread::spawn(move || other(&allocator, id))
    };
    let next = allocator.allocate().expect("an id");
    let made = other.join().expect("no panic");
    assert!(next == ids[2] || next.get() == 128, "A2: {next} has an owner");
    assert!(ids[4..].iter().all(|id| allocator.is_allocated(*id).expect("its map")), "A1: an id is lost");
    (next, made)
}

fn freed_while_a_lease_ends(free: fn(&PageAllocator, PageId) -> PageResult<()>) {
    let store = store();
    let allocator = open(&store);
    let (next, freed) = a_lease_ends_beside(&allocator, free);
    freed.unwrap_or_else(|error| panic!("A5: it has an owner: {error}"));
    let (now, high) = (in_use(&allocator), allocator.high_water());
    allocator.sync().expect("durable");
    let found = open(&store);
    assert_eq!((in_use(&found), found.high_water()), (now, high));
    assert!(
        found.is_allocated(next).expect("its map"),
        "A1: an id that was allocated before the sync is lost"
    );
}

#[test]
fn an_id_is_freed_by_another_thread_while_its_lease_ends() {
    model("A5 leases (allocator)", "an_id_is_freed_by_another_thread_while_its_lease_ends", 3)
        .catches("who frees an id does not ask the leases", &["A5: "])
        .catches("a lease leaves the board before its ids are in the region", &["A5: "])
        .check(|| freed_while_a_lease_ends(|allocator, id| allocator.free(id)));
}

#[test]
fn a_run_is_freed_by_another_thread_while_a_lease_of_it_ends() {
    model("A5 leases (allocator)", "a_run_is_freed_by_another_thread_while_a_lease_of_it_ends", 3)
        .catches("who frees a run does not ask the leases", &["A5: "])
        .catches("a lease leaves the board before its ids are in the region", &["A5: "])
        .check(|| freed_while_a_lease_ends(|allocator, id| allocator.free_extent(id, 2)));
}

#[test]
fn of_two_frees_of_one_id_of_a_lease_one_succeeds() {
    model("A2 double free (allocator)", "of_two_frees_of_one_id_of_a_lease_one_succeeds", 3)
        .catches("who frees an id of a lease does not look whether it is out", &["A2: "])
        .check(|| {
            let allocator = open(&store());
            let (id, kept) = (allocator.allocate().expect("an id"), allocator.allocate().expect("an id"));
            let other = {
                let allocator = Arc::clone(&allocator);
                thread::spawn(move || allocator.free(id).is_ok())
            };
            let own = allocator.free(id).is_ok();
            let theirs = other.join().expect("no panic");
            assert!(own != theirs, "A2: an id was freed {} times", u32::from(own) + u32::from(theirs));
            assert_eq!(in_use(&allocator), 1, "{kept} is left");
        });
}

#[test]
fn an_id_of_a_lease_is_somebodys_whatever_becomes_of_the_lease() {
    model("A5 leases (allocator)", "an_id_of_a_lease_is_somebodys_whatever_becomes_of_the_lease", 3)
        .catches("who asks for an id does not ask the leases", &["A5: "])
        .catches("a lease leaves the board before its ids are in the region", &["A5: "])
        .catches("who looks at the board acquires nothing", &["A5: "])
        .check(|| {
            let allocator = open(&store());
            let asks = |allocator: &PageAllocator, id| allocator.is_allocated(id).expect("its map");
            let (_, found) = a_lease_ends_beside(&allocator, asks);
            assert!(found, "A5: an id with an owner was taken for free");
        });
}
