//! Prevents: a page that is given out and lies behind the end of the file, because the tail was cut meanwhile; a page that a recovery
//! meets in its log and the file has no more; somebody who waits for a cut for ever (L13).
//!
//! The allocator is the production type; the file is its length and one map page, and the superblock is what it says of the length.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-allocator --test loom_tail
//! ```
#![cfg(loom)]

mod loom_map;

use std::sync::Arc;

use loom_map::{Map, PAGE};
use pagestone_allocator::{LoggedAllocator, Reservation};
use pagestone_page_format::{Lsn, PageId, PageOp, PageSize, PageWriter};
use pagestone_sync::atomic::Ordering;
use pagestone_sync::checking::{DEADLOCK, model};
use pagestone_sync::{Mutex, thread};

/// Ids in use from the beginning on, the map page beside them.
const USED: u64 = 4;
/// Pages of the file then: it grew by more than was asked.
const PAGES: u64 = 16;

struct World {
    allocator: LoggedAllocator,
    map: Map,
    /// The map page's.
    latch: Mutex<()>,
}

impl World {
    fn new() -> Arc<Self> {
        let allocator =
            LoggedAllocator::under_log(PageSize::new(PAGE).expect("a page size"), PageId::new(64));
        let world = Self { allocator, map: Map::new(), latch: Mutex::new(()) };
        world.put_to_use(world.allocator.reserve(&world.map, USED as usize).expect("room"));
        world.map.len.store(PAGES, Ordering::Relaxed);
        Arc::new(world)
    }

    fn put_to_use(&self, mut ids: Reservation<'_>) -> u64 {
        while ids.take().is_some() {}
        let latch = self.latch.lock();
        for (_, op) in ids.set_bits() {
            op.apply(&PageWriter::new(&self.map.words)).expect("they are free");
        }
        drop(latch);
        let last = ids.taken().last().expect("some were reserved").get();
        ids.commit();
        last
    }

    fn len(&self) -> u64 {
        self.map.len.load(Ordering::Relaxed)
    }

    /// Reserves ids past the highest in use, and looks for their pages.
    fn reserve(&self) -> Reservation<'_> {
        let ids = self.allocator.reserve(&self.map, 2).expect("room");
        let last = ids.ids().last().expect("two").get();
        assert!(last < self.len(), "L13: a page that was given out is behind the end of the file");
        ids
    }

    fn cut(&self, at_least: u64) {
        let cut = |tail: u64| {
            self.map.len.fetch_min(tail.max(at_least), Ordering::Relaxed);
            Ok(())
        };
        self.allocator.cut_tail(cut).expect("nothing fails");
    }
}

#[test]
fn a_cut_takes_no_page_from_who_is_given_one() {
    const FOUND: &[&str] = &["L13: a page that was given out is behind the end of the file"];
    model("L13 the tail beside who needs ids (allocator)", "a_cut_takes_no_page_from_who_is_given_one", 3)
        .catches("who needs ids behind a cut does not wait for it", FOUND)
        .catches("what was measured before a cut is believed after it", FOUND)
        .catches("what was measured beside a cut is believed", FOUND)
        .catches("the end of a cut wakes nobody", &[DEADLOCK])
        .check(|| {
            let world = World::new();
            let users = [true, false].map(|changes_its_mind| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    if changes_its_mind {
                        drop(world.reserve());
                    }
                    world.put_to_use(world.reserve())
                })
            });
            world.cut(0);
            let used = users.map(|user| user.join().expect("no panic")).into_iter().max().expect("two");
            assert!(used < world.len(), "L13: a page that was given out is behind the end of the file");
            world.cut(0);
            assert_eq!(world.len(), used + 1, "all behind it is free");
        });
}

/// Pages were changed after the checkpoint, and are freed beside its publication: a recovery that begins there changes them again.
#[test]
fn a_cut_behind_a_publication_leaves_what_a_recovery_meets() {
    model(
        "L13 the tail beside frees (allocator)",
        "a_cut_behind_a_publication_leaves_what_a_recovery_meets",
        3,
    )
    .catches(
        "a tail forgets what was freed behind the checkpoint",
        &["L13: a recovery meets a page behind the end of the file"],
    )
    .check(|| {
        const CHECKPOINT: Lsn = Lsn::new(100);
        const FREED: Lsn = Lsn::new(200);
        let world = World::new();
        let frees = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let mut release = world.allocator.release();
                release.add(PageId::new(USED - 1), 2).expect("in use");
                release.commit(FREED);
            })
        };
        // As a store publishes: the look at the length, the superblock, what has passed, the cut.
        let published = world.allocator.tail_at(CHECKPOINT).expect("all is known").min(world.len());
        world.allocator.checkpoint_passed(CHECKPOINT);
        world.cut(published);
        assert!(published <= world.len(), "L13: the file is shorter than the superblock says");
        assert!(USED < world.len(), "L13: a recovery meets a page behind the end of the file");
        frees.join().expect("no panic");
        world.cut(published);
        assert!(USED < world.len(), "L13: a recovery meets a page behind the end of the file");
        world.allocator.checkpoint_passed(FREED);
        world.cut(0);
        assert_eq!(world.len(), USED - 1, "all behind it is free, and no recovery meets it");
    });
}
