//! Prevents: extents of one group of which some are put to use and others are not, or are given to somebody else (L8, V1).

mod support;

use pagestone_allocator::{ExtentReservation, MapSource, region_bits};
use pagestone_mini_txn::{LoggedPool, Reserve};
use pagestone_page_format::{PageId, PageResult};

use support::environment;

fn extents(env: &LoggedPool, pages: u64) -> ExtentReservation<'_> {
    env.allocator().reserve_extents(env, pages, 4).expect("room")
}

fn runs(all: &[ExtentReservation<'_>]) -> Vec<(PageId, u32)> {
    all.iter().flat_map(|extents| extents.runs().iter().copied()).collect()
}

/// One group that frees these runs and takes these extents, in this order.
fn commit(env: &LoggedPool, frees: &[(PageId, u32)], takes: Vec<ExtentReservation<'_>>) -> PageResult<()> {
    let extents = runs(&takes);
    let mut txn = env.begin(Reserve { frees, extents: &extents, ..Reserve::default() })?;
    txn.free_extents(frees)?;
    takes.into_iter().try_for_each(|extents| txn.take_extents(extents))?;
    txn.commit().map(|_| ())
}

/// Whether all ids of these runs are in use, or none is.
fn in_use(env: &LoggedPool, runs: &[(PageId, u32)]) -> bool {
    let bits = region_bits(env.pool().page_size());
    let mut all = runs.iter().flat_map(|(first, count)| first.get()..first.get() + u64::from(*count));
    let look = |id: u64| {
        let region = env.load_region(id / bits).expect("readable").expect("formatted");
        region.is_allocated(PageId::new(id)).expect("of this region")
    };
    let first = look(all.next().expect("a run"));
    // A look decodes a map page: some will do.
    assert!(all.step_by(97).all(|id| look(id) == first), "some are in use and some are not");
    first
}

#[test]
fn in_whatever_order_and_region() {
    let (_store, env) = environment();
    let near_a_region = region_bits(env.pool().page_size()) - 100;
    let old = vec![extents(&env, 3), extents(&env, 40)];
    let old_runs = runs(&old);
    commit(&env, &[], old).expect("committed");
    assert!(in_use(&env, &old_runs));

    let mut new = vec![extents(&env, 5), extents(&env, near_a_region), extents(&env, 900), extents(&env, 1)];
    new.reverse();
    let new_runs = runs(&new);
    let regions: Vec<u64> =
        new_runs.iter().map(|(first, _)| first.get() / region_bits(env.pool().page_size())).collect();
    assert!(!regions.is_sorted() && regions.contains(&0) && regions.contains(&1), "{regions:?}");
    assert!(!in_use(&env, &new_runs), "not before the commit");
    commit(&env, &old_runs, new).expect("committed");
    assert!(in_use(&env, &new_runs) && !in_use(&env, &old_runs));

    // Nobody gets any of them again, and what is dropped before it was taken comes back.
    let other = extents(&env, 2000);
    let other_runs = other.runs().to_vec();
    for (first, count) in &other_runs {
        let end = first.get() + u64::from(*count);
        let apart =
            |(taken, len): &(PageId, u32)| taken.get() >= end || taken.get() + u64::from(*len) <= first.get();
        assert!(new_runs.iter().all(apart), "given twice: {other_runs:?} and {new_runs:?}");
    }
    drop(other);
    assert_eq!(extents(&env, 2000).runs(), other_runs);
}

#[test]
fn one_that_was_not_announced_is_refused_and_goes_back() {
    let (_store, env) = environment();
    let pages = region_bits(env.pool().page_size()) - 1;
    let (first, far) = (extents(&env, 2), extents(&env, pages));
    let runs_of_far = far.runs().to_vec();
    let announced = first.runs().to_vec();
    let mut txn = env.begin(Reserve { extents: &announced, ..Reserve::default() }).expect("begins");
    let error = txn.take_extents(far).expect_err("its map page is not pinned");
    assert!(error.to_string().contains("map page"), "{error}");
    assert!(!txn.is_changed());
    txn.take_extents(first).expect("announced");
    txn.commit().expect("committed");
    assert!(in_use(&env, &announced) && !in_use(&env, &runs_of_far));
    assert_eq!(extents(&env, pages).runs(), runs_of_far);
}
