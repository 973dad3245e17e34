//! Prevents: the pages of a long value used again while somebody reads them (L8), in any interleaving of a reader and of who frees them.
//!
//! The allocator, its readers and its quarantine are the production types; the map page and the leaf that refers to the value are words
//! in memory.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-allocator --test loom_allocator
//! ```
#![cfg(loom)]

mod loom_map;

use std::sync::Arc;

use loom_map::{Map, PAGE};
use pagestone_allocator::LoggedAllocator;
use pagestone_page_format::{Lsn, PageId, PageOp, PageSize, PageWriter};
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::checking::model;
use pagestone_sync::{Mutex, thread};

/// A value of two pages and the leaf that refers to it.
struct World {
    allocator: LoggedAllocator,
    map: Map,
    first: PageId,
    /// Whether the leaf refers to the value; the mutex is its latch.
    leaf: Mutex<bool>,
    /// What the value's pages hold.
    content: AtomicU64,
}

const OLD: u64 = 1;
const NEW: u64 = 2;

impl World {
    fn new() -> Self {
        let map = Map::new();
        let allocator =
            LoggedAllocator::under_log(PageSize::new(PAGE).expect("a page size"), PageId::new(64));
        let value = allocator.reserve_extents(&map, 2, 1).expect("room");
        let first = value.runs()[0].0;
        for (_, op) in value.set_bits() {
            op.apply(&PageWriter::new(&map.words)).expect("they are free");
        }
        value.commit();
        Self { allocator, map, first, leaf: Mutex::new(true), content: AtomicU64::new(OLD) }
    }

    /// The guard comes while the leaf still refers to the value.
    fn read(&self) {
        let leaf = self.leaf.lock();
        let guard = leaf.then(|| self.allocator.read_guard());
        drop(leaf);
        if guard.is_some() {
            for _ in 0..2 {
                assert_eq!(
                    self.content.load(Ordering::Relaxed),
                    OLD,
                    "L8: an extent is used again under its reader"
                );
            }
        }
    }

    /// Frees the value, makes a checkpoint, and writes another value wherever there is room.
    fn replace(&self) {
        *self.leaf.lock() = false;
        let mut release = self.allocator.release();
        release.add_extent(self.first, 2).expect("in use");
        release.commit(Lsn::new(100));
        self.allocator.checkpoint_passed(Lsn::new(100));
        let next = self.allocator.reserve_extents(&self.map, 2, 1).expect("room");
        if next.runs()[0].0 == self.first {
            self.content.store(NEW, Ordering::Relaxed);
        }
    }
}

#[test]
fn no_extent_is_used_again_under_its_reader() {
    model("L8 quarantine (allocator)", "no_extent_is_used_again_under_its_reader", 3)
        .catches("a free does not ask who reads", &["L8: an extent is used again under its reader"])
        .check(|| {
            let world = Arc::new(World::new());
            let reader = {
                let world = Arc::clone(&world);
                thread::spawn(move || world.read())
            };
            world.replace();
            reader.join().expect("no panic");
            // What a reader let go of waits for the next checkpoint.
            world.allocator.checkpoint_passed(Lsn::new(100));
            let kept = world.allocator.quarantined_count();
            assert_eq!(kept, 0, "L8: an extent is kept though nobody reads it");
        });
}
