//! Failure prevented: an id with two owners where eight threads allocate and free, alone and in runs, while others sync; an id that two
//! threads free and both are told so; an owner who cannot free an id while somebody frees it wrongly, with a run.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagestone_allocator::PageAllocator;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};
use pagestone_testkit::Rng;
use std::sync::Arc;

const THREADS: u64 = 8;
const ROUNDS: u64 = 4_000;

#[test]
fn threads_get_ids_of_their_own_while_others_sync() {
    let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
    let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
    let owned = Mutex::new(BTreeSet::new());
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (allocator, owned) = (&allocator, &owned);
            threads.spawn(move || work(allocator, owned, &mut Rng::new(thread + 1)));
        }
    });
    allocator.sync().expect("durable");
    let owned = owned.into_inner().expect("no panic");
    let high = allocator.high_water();
    drop(allocator);
    let again = PageAllocator::new(store).expect("it is there");
    assert_eq!(again.high_water(), high);
    let found = (0..high + 100).filter(|id| again.is_allocated(PageId::new(*id)).expect("its map"));
    assert!(found.eq(owned), "what the threads kept is what the disk has");
}

fn work(allocator: &PageAllocator, owned: &Mutex<BTreeSet<u64>>, random: &mut Rng) {
    let mut kept: Vec<(u64, u32)> = vec![];
    for round in 0..ROUNDS {
        if kept.is_empty() || random.below(40) > kept.len() as u64 {
            let count = if random.below(4) == 0 { 2 + random.below(70) as u32 } else { 1 };
            let first = match count {
                1 => allocator.allocate().expect("an id").get(),
                _ => allocator.allocate_extent(count).expect("a run").get(),
            };
            let mut owned = owned.lock().expect("no panic");
            for id in first..first + u64::from(count) {
                assert!(owned.insert(id), "{id} has two owners");
            }
            kept.push((first, count));
        } else {
            let nth = random.below(kept.len() as u64) as usize;
            let (first, count) = kept.swap_remove(nth);
            // Given up before it is freed: another thread may get it at once.
            let mut owned = owned.lock().expect("no panic");
            (first..first + u64::from(count)).for_each(|id| assert!(owned.remove(&id), "{id} is ours"));
            drop(owned);
            allocator.free_extent(PageId::new(first), count).expect("it is ours");
        }
        if round % 500 == 0 {
            allocator.sync().expect("durable");
        }
    }
}

#[test]
fn of_all_who_free_an_id_one_is_told_so() {
    let allocator = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE)).expect("made");
    for round in 0..300 {
        let run = allocator.allocate_extent(40).expect("a run");
        if round % 3 == 0 {
            allocator.sync().expect("durable");
        }
        let freed = AtomicU64::new(0);
        std::thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| {
                    let ids = (run.get()..run.get() + 40).map(PageId::new);
                    freed.fetch_add(ids.filter(|id| allocator.free(*id).is_ok()).count() as u64, Relaxed);
                });
            }
        });
        assert_eq!(freed.into_inner(), 40);
    }
    allocator.sync().expect("durable");
    assert_eq!((allocator.high_water(), allocator.free_count()), (1, 0));
}

/// The ids of a run that cannot be freed as a whole stay with their owner meanwhile, who can free them.
#[test]
fn who_frees_a_run_in_vain_takes_no_id_from_its_owner() {
    let allocator = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE)).expect("made");
    let count = 20_000;
    let run = allocator.allocate_extent(count).expect("a run").get();
    let last = run + u64::from(count) - 1;
    allocator.free(PageId::new(last)).expect("it is ours");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Relaxed) {
                allocator.free_extent(PageId::new(run), count).expect_err("the last is nobody's");
            }
        });
        let owner = threads.spawn(|| {
            for id in (run..last).rev().step_by(2).map(PageId::new) {
                assert!(allocator.is_allocated(id).expect("its map"), "{id} is ours");
                allocator.free(id).expect("it is ours");
            }
        });
        let owner = owner.join();
        over.store(true, Relaxed);
        owner.expect("no panic");
    });
}
