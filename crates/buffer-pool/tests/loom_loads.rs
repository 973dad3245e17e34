//! Who waits for a page that another reads is woken, told why it failed, and reads nothing twice (P3, P10, P13): models of the pool as in
//! `loom_pool.rs`.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-buffer-pool --test loom_loads
//! ```
#![cfg(loom)]

mod world;

use pagestone_buffer_pool::Begun;
use pagestone_page_format::PageId;
use pagestone_sync::checking::{DEADLOCK, model};
use world::{ASLEEP, ID, PAGES, World, at_rest, beside, fault_if_possible, under};

fn fault(world: &World) {
    assert_eq!(under(&world.fault(0)), PAGES[0]);
}

fn unreadable_once() -> World {
    let world = World::new(PAGES);
    world.storage.fail_reads(1);
    world
}

/// Both want a page that nobody has read yet.
fn read_once(preemptions: usize, threads: [fn(&World); 2]) {
    beside(
        preemptions,
        || World::new(PAGES),
        threads,
        |world| {
            assert_eq!(world.storage.reads(), 1, "P3: a page is read twice");
            at_rest(world);
        },
    );
}

#[test]
fn p3_concurrent_faults_read_once_and_wake() {
    model("P3 one load, no lost wake-up", "p3_concurrent_faults_read_once_and_wake", 1)
        .catches("a claim does not look who else loads the page", &["P3: "])
        .catches("who loaded a page wakes nobody", ASLEEP)
        .catches("who waits does not look before it sleeps", ASLEEP)
        .run(|bound| read_once(bound, [fault, fault]));
}

/// Those who wait for pages of a batch are woken once all are there, and not by the one load that each waits for.
#[test]
fn p3_who_waits_for_a_page_of_a_batch_is_woken() {
    fn hint(world: &World) {
        world.pool.prefetch(&[ID]);
    }
    model("P3 one load, no lost wake-up", "p3_who_waits_for_a_page_of_a_batch_is_woken", 1)
        .catches("who loaded a page wakes nobody", ASLEEP)
        .run(|bound| read_once(bound, [hint, fault]));
}

/// A fault that goes on by itself wakes who waits for its page, as any load does.
#[test]
fn p3_who_waits_for_a_fault_under_way_is_woken() {
    fn stream(world: &World) {
        let (mut faults, mut arrived) = (world.pool.faults(1), Vec::new());
        if faults.begin(ID) == Begun::Reading {
            faults.wait(1, &mut arrived);
            let (_, pin) = arrived.pop().expect("the one that was begun");
            assert_eq!(under(&pin.expect("storage is healthy")), PAGES[0]);
        }
    }
    model("P3 one load, no lost wake-up", "p3_who_waits_for_a_fault_under_way_is_woken", 1)
        .catches("who loaded a page wakes nobody", ASLEEP)
        .run(|bound| read_once(bound, [stream, fault]));
}

#[test]
fn p3_who_waited_for_a_failed_load_does_not_read_again() {
    model("P3 one load, no lost wake-up", "p3_who_waited_for_a_failed_load_does_not_read_again", 1)
        .catches("who failed to load a page tells nobody why", &["P3: who waited reads again"])
        .run(|bound| {
            beside(bound, unreadable_once, [fault_if_possible; 2], |world| {
                let waited = world.pool.stats().load_waits;
                assert!(waited == 0 || world.storage.reads() == 1, "P3: who waited reads again");
                at_rest(world);
            });
        });
}

/// Two batches over the same pages in different orders. They are hints, because those are the steps of a batch that hold claims, once
/// each; the rest of it holds none, and takes so many looks that the ways to order them have no end.
fn batches_beside_each_other(preemptions: usize) {
    /// Enough for what both claim, so that nobody sweeps: what is looked at here is who waits for whom.
    fn roomy() -> World {
        World::with_frames(4, PAGES)
    }
    fn both<const FIRST: u64>(world: &World) {
        world.pool.prefetch(&[FIRST, 1 - FIRST].map(PageId::new));
    }
    beside(preemptions, roomy, [both::<0>, both::<1>], |world| {
        assert_eq!(world.storage.reads(), 2, "P3: a page is read twice");
        at_rest(world);
    });
}

#[test]
fn p3_batches_do_not_wait_for_each_other() {
    model("P3 one load, no lost wake-up", "p3_batches_do_not_wait_for_each_other", 1)
        .catches("a batch waits for others while it holds claims", ASLEEP)
        .run(batches_beside_each_other);
}

#[test]
fn p3_batches_do_not_wait_for_each_other_at_length() {
    model("P3 one load, no lost wake-up", "p3_batches_do_not_wait_for_each_other_at_length", 2)
        .run(batches_beside_each_other);
}

#[test]
fn p10_a_failed_read_leaves_nothing_held() {
    model("P10 no failure leaves a frame locked", "p10_a_failed_read_leaves_nothing_held", 1)
        .catches("a failed load keeps its claim", &[DEADLOCK, "P9: ", "P10: "])
        .run(|bound| beside(bound, unreadable_once, [fault_if_possible; 2], at_rest));
}

#[test]
fn p13_a_discard_waits_for_the_loader() {
    fn write_past(world: &World) {
        world.storage.write_past(0, [500; 2]);
        world.pool.discard(ID).expect("nobody panics");
    }
    model("P13 discard waits", "p13_a_discard_waits_for_the_loader", 1)
        .catches("a discard does not wait for a loader", &["P13: "])
        .run(|bound| {
            beside(
                bound,
                || World::new(PAGES),
                [write_past, |world| drop(world.fault(0))],
                |world| {
                    assert_eq!(under(&world.fault(0)), [500; 2], "P13: the pool holds what was there before");
                },
            );
        });
}
