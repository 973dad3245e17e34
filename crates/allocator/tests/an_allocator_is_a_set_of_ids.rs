//! Failure prevented: an id with two owners, a wrong count, an id that is lost past the last sync, over hundreds of thousands of operations
//! and crashes between and in them; ten million, and more, are `cargo xtask soak`'s (`soak_ids`).
#![cfg(not(loom))]

mod common;

use common::{Checked, Verb};
use pagestone_allocator::{PageAllocator, region_bits};
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageError, PageId};
use pagestone_testkit::Rng;
use proptest::prelude::*;
use std::sync::Arc;

fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let verb = prop_oneof![
        8 => prop_oneof![4 => Just(1), 2 => 2..30_u32, 1 => 60..200_u32].prop_map(Verb::Allocate),
        6 => (any::<usize>(), any::<u32>()).prop_map(|(nth, part)| Verb::Free { nth, part }),
        1 => (0..400_u64, 1..20_u32).prop_map(|(id, count)| Verb::FreeWrong(id, count)),
        2 => Just(Verb::Sync),
        1 => (0..8_u64, any::<u64>()).prop_map(|(calls, seed)| Verb::CutSync { calls, seed }),
        1 => Just(Verb::Reopen),
        1 => any::<u64>().prop_map(|seed| Verb::Crash { seed }),
    ];
    proptest::collection::vec(verb, 1..150)
}

proptest! {
    #[test]
    fn no_id_has_two_owners_and_syncs_are_what_comes_back(verbs in verbs()) {
        let mut checked = Checked::new();
        for verb in verbs {
            checked.step(verb);
            checked.check();
        }
    }
}

#[test]
fn operations_without_end_lose_no_id_and_count_each() {
    common::long_run(&mut Checked::new(), &mut Rng::new(5), 300_000);
}

#[test]
fn several_regions_are_found_again_and_a_run_lies_between_their_maps() {
    let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
    let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
    let region = region_bits(DEFAULT_PAGE_SIZE);
    let longest = allocator.allocate_extent(region as u32 - 2).expect("a whole region");
    assert_eq!(longest.get(), 16);
    let error = allocator.allocate_extent(region as u32 - 1).expect_err("a map is in the way");
    assert!(matches!(error, PageError::NoSpace { .. }), "{error}");
    assert!(matches!(allocator.allocate_extent(0), Err(PageError::NoSpace { .. })));
    let second = allocator.allocate_extent(1000).expect("in the second region");
    assert_eq!(second.get(), region + 16);
    assert_eq!(allocator.allocate().expect("the lowest").get(), 1);
    allocator.sync().expect("durable");
    let again = PageAllocator::new(Arc::clone(&store)).expect("it is there");
    assert_eq!((again.high_water(), again.free_count()), (region + 1016, allocator.free_count()));
    // Only the region that changed is written.
    again.free_extent(second, 1000).expect("in use");
    again.sync().expect("durable");
    assert_eq!(again.high_water(), region + 14, "the tail is let go of");
}

#[test]
fn pages_past_what_any_file_has_are_refused() {
    let allocator = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE)).expect("made");
    let id = allocator.allocate().expect("an id");
    for (first, count) in [(0, 1), (13, 1), (14, 1), (u64::MAX, 1), (1 << 52, 1), (1, 2), (u64::MAX, 2)] {
        let error = allocator.free_extent(PageId::new(first), count).expect_err("not all in use");
        assert!(
            matches!(error, PageError::InvalidPageId { .. } | PageError::AllocationState { .. }),
            "{error}"
        );
    }
    assert!(allocator.is_allocated(id).expect("known"), "all or none");
    allocator.free(id).expect("once");
    let error = allocator.free(id).expect_err("twice");
    assert!(
        matches!(error, PageError::AllocationState { page_id, state: "free" } if page_id == id),
        "{error}"
    );
}

#[test]
fn an_allocator_is_printed_with_what_it_says() {
    let allocator = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE)).expect("made");
    let first = allocator.allocate_extent(40).expect("a run").get();
    (first + 5..first + 40).for_each(|id| allocator.free(PageId::new(id)).expect("it is ours"));
    let shown = format!("{allocator:?}");
    let shown = shown.rsplit("high_water: ").next();
    let wanted = format!("{}, in_use: 5 }}", allocator.high_water());
    assert_eq!(shown, Some(&*wanted), "ids that came back last are free as the others are");
}
