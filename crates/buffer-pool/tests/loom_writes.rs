//! A change reaches storage behind its log, or the page stays dirty (P10 to P13): models of the pool as in `loom_pool.rs`.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-buffer-pool --test loom_writes
//! ```
#![cfg(loom)]

mod world;

use pagestone_page_format::PageId;
use pagestone_sync::checking::model;
use world::{ID, NO_END, World, at_rest, beside, dirty, flush};

fn unwritable_once() -> World {
    let world = dirty();
    world.storage.fail_writes(1);
    world
}

fn flush_if_possible(world: &World) {
    drop(world.pool.flush(ID));
}

#[test]
fn p10_a_failed_write_leaves_nothing_held() {
    model("P10 no failure leaves a frame locked", "p10_a_failed_write_leaves_nothing_held", 2)
        .catches("a write does not end its claim", &["P10: ", NO_END])
        .run(|bound| beside(bound, unwritable_once, [flush_if_possible; 2], at_rest));
}

fn change_again(world: &World) {
    world.change(0, [102; 2], 30);
}

#[test]
fn p11_the_log_goes_first() {
    model("P11 log first", "p11_the_log_goes_first", 2)
        .catches("a page goes out before the log", &["P11: a page goes out before its log"])
        .run(|bound| beside(bound, dirty, [change_again, flush], at_rest));
}

#[test]
fn p12_a_page_changed_while_written_stays_dirty() {
    const LOST: &[&str] = &["P12: a change is lost", "L4: a torn page goes out"];
    model("P12 changed while written", "p12_a_page_changed_while_written_stays_dirty", 2)
        .catches("a write settles what came after its copy", LOST)
        .catches("a copy is believed without validation", LOST)
        .run(|bound| {
            beside(bound, dirty, [change_again, flush], |world| {
                let kept = world.pool.is_dirty(ID) || world.storage.content(0) == [102; 2];
                assert!(kept, "P12: a change is lost");
            });
        });
}

#[test]
fn p12_a_failed_write_leaves_the_page_dirty() {
    /// Takes the frame of a clean page if it must.
    fn fault_two(world: &World) {
        drop((world.pool.try_fault(PageId::new(1)), world.pool.try_fault(PageId::new(2))));
    }
    model("P12 changed while written", "p12_a_failed_write_leaves_the_page_dirty", 2)
        .catches("a page is clean before it is written", &["P12: a page that was not written is clean"])
        .run(|bound| {
            beside(bound, unwritable_once, [flush_if_possible, fault_two], |world| {
                let kept = world.pool.is_dirty(ID) || world.storage.content(0) == [101; 2];
                assert!(kept, "P12: a page that was not written is clean");
                at_rest(world);
            });
        });
}

#[test]
fn p13_a_discard_waits_for_the_write_back() {
    fn write_past(world: &World) {
        world.pool.discard(ID).expect("nobody panics");
        world.storage.write_past(0, [500; 2]);
    }
    model("P13 discard waits", "p13_a_discard_waits_for_the_write_back", 2)
        .catches("who throws a page out does not wait for its write", &["P13: ", "P10: "])
        .run(|bound| {
            beside(bound, dirty, [write_past, flush], |world| {
                let content = world.storage.content(0);
                assert_eq!(content, [500; 2], "P13: an old page overwrites what went past the pool");
            });
        });
}
