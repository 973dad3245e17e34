//! The pool keeps P1 to P13 (P3 in `loom_loads.rs`, P10 to P13 in `loom_writes.rs`) in every interleaving of two threads over two frames, with as many preemptions as
//! each model says; and each model fails if what it proves is taken out of the code.
//!
//! The pool, its table, frames, latches and waits are the production types. Replaced are the arena (words instead of mapped memory,
//! `src/arena/model.rs`), storage and log (`world/mod.rs`), and the clock: a short wait that looks again by itself ends at once, any
//! other never ends unless somebody ends it.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-buffer-pool --test loom_pool
//! ```
#![cfg(loom)]

mod world;

use std::sync::Arc;

use pagestone_buffer_pool::Restart;
use pagestone_page_format::{FrameIndex, PageId};
use pagestone_swip::SwipWord;
use pagestone_sync::checking::{DEADLOCK, explore, model};
use pagestone_sync::faults::planted;
use pagestone_sync::thread;
use world::{
    ASLEEP, Content, FIRST, ID, NO_END, PAGES, World, at_rest, beside, cold, fault_another,
    fault_if_possible, full, look, under,
};

/// Reads by a hint while the page is evicted and another takes its frame.
fn read_beside_an_eviction(preemptions: usize) {
    fn read(world: &World) {
        if let Ok(seen) = world.believed(cold(0).with_hint(FrameIndex::new(0))) {
            assert_eq!(seen, PAGES[0], "P1: another page than the one asked for");
        }
    }
    beside(preemptions, full, [read, fault_another], at_rest);
}

#[test]
fn p1_a_validated_read_is_of_the_page_asked_for() {
    model("P1 right page", "p1_a_validated_read_is_of_the_page_asked_for", 1)
        .catches("a sampled frame is not asked again for its page", &["P1: another page"])
        .catches("a reader has no acquire fence", &["P1: another page"])
        .run(read_beside_an_eviction);
}

#[test]
fn p2_table_and_header_agree() {
    model("P2 unique residency", "p2_table_and_header_agree", 1)
        .catches("an evicted page leaves the table after the latch", &["P2: table and header disagree"])
        .run(|bound| beside(bound, full, [|world| world.pool.assert_residency(1), fault_another], at_rest));
}

#[test]
fn p4_a_pinned_page_stays() {
    const LEFT: &[&str] = &["P4: a pinned page left its frame"];
    fn hold(world: &World) {
        let pin = world.fault(0);
        for _ in 0..2 {
            assert_eq!(world.pool.frame_of(ID), Some(pin.frame()), "P4: a pinned page left its frame");
        }
    }
    model("P4 safe evict", "p4_a_pinned_page_stays", 1)
        .catches("a pin has no fence", LEFT)
        .catches("an evictor has no fence", LEFT)
        .catches("an evictor does not look again under the latch", LEFT)
        .run(|bound| beside(bound, full, [fault_another, hold], at_rest));
}

/// Page 0 has swips of page 1 in its two words.
fn holder() -> World {
    World::new([[cold(1).raw(); 2], [7; 2], [8; 2]]).resident(&[0, 1])
}

/// Follows the first swip of page 0 and repairs its hint.
fn repair(world: &World) {
    let Ok(holder) = world.pool.resolve(world.swip(0)) else { return };
    let swip = SwipWord::from_raw(holder.page().word(FIRST).expect("a word of the page"));
    if let Some(frame) = world.pool.frame_of(swip.page_id()) {
        holder.repair_hint(FIRST, swip, frame);
    }
}

#[test]
fn p5_a_repair_disturbs_no_reader() {
    fn read(world: &World) {
        let Ok(page) = world.pool.resolve(world.swip(0)) else { return };
        look(page.page());
        // While the share is held the repair is over or has not begun.
        if let Ok(_shared) = world.pool.resolve_shared(world.swip(0)) {
            assert!(page.validate().is_ok(), "P5: a repair failed a validation");
        }
    }
    model("P5 repair invisible", "p5_a_repair_disturbs_no_reader", 1)
        .catches("a repair is a change", &["P5: a repair failed a validation"])
        .run(|bound| {
            beside(bound, holder, [read, repair], |world| {
                assert!(!world.pool.is_dirty(ID), "P5: a repair dirties the page");
                at_rest(world);
            });
        });
}

#[test]
fn p5_a_repair_beside_a_writer_changes_no_id() {
    /// The slot moves: another swip stands there now.
    fn write(world: &World) {
        world.change(0, [cold(2).raw(), cold(1).raw()], 20);
    }
    model("P5 repair invisible", "p5_a_repair_beside_a_writer_changes_no_id", 1)
        .catches("a repair writes whatever stands there", &["P5: a repair undid a change"])
        .run(|bound| {
            beside(bound, holder, [write, repair], |world| {
                let ids = under(&world.fault(0)).map(|word| SwipWord::from_raw(word).page_id().get());
                assert_eq!(ids, [2, 1], "P5: a repair undid a change");
            });
        });
}

#[test]
fn p6_versions_rise_over_evictions() {
    model("P6 monotonic versions", "p6_versions_rise_over_evictions", 1)
        .catches("an unlock keeps the version", &["P1: another page"])
        .run(read_beside_an_eviction);
}

#[test]
fn p7_a_reused_page_is_not_believed() {
    fn descend(world: &World) -> Result<(PageId, Content), Restart> {
        let holder = world.pool.resolve(world.swip(0))?;
        let swip = SwipWord::from_raw(holder.page().word(FIRST).expect("a word of the page"));
        let target = world.pool.resolve(swip)?;
        if !planted("the holder is not validated after its target") {
            holder.validate()?;
        }
        let seen = look(target.page());
        target.validate().map(|()| (swip.page_id(), seen))
    }
    fn read(world: &World) {
        if let Ok((id, seen)) = descend(world) {
            assert!(id != PageId::new(1) || seen == [7; 2], "P7: a page of another life");
        }
    }
    /// The reference goes, the page is freed and used again in its frame.
    fn reuse(world: &World) {
        world.change(0, [cold(2).raw(); 2], 20);
        world.change(1, [9; 2], 30);
    }
    model("P7 reuse", "p7_a_reused_page_is_not_believed", 1)
        .catches("the holder is not validated after its target", &["P7: a page of another life"])
        .run(|bound| beside(bound, holder, [read, reuse], at_rest));
}

#[test]
fn p8_cool_and_shares_fail_no_validation() {
    fn read(world: &World) {
        let seen = world.believed(world.swip(0));
        assert_eq!(seen, Ok(PAGES[0]), "P8: a touch or a share was taken for a change");
    }
    fn share(world: &World) {
        drop(world.pool.resolve_shared(world.swip(0)));
    }
    model("P8 COOL and shares are no changes", "p8_cool_and_shares_fail_no_validation", 1)
        .catches("a validation compares the whole word", &["P8: a touch or a share was taken for a change"])
        .run(|bound| {
            // The first touch after loading warms the page.
            let cool = || World::new(PAGES).resident(&[0]);
            beside(bound, cool, [read, read], at_rest);
            beside(bound, cool, [read, share], at_rest);
        });
}

#[test]
fn p8_cool_passes_no_validation_falsely() {
    /// Touched twice: warm, so that a sweep cools them first.
    fn warm() -> World {
        let world = full();
        drop((world.fault(0), world.fault(1)));
        world
    }
    fn write(world: &World) {
        world.change(0, [101; 2], 20);
    }
    fn sweep(world: &World) {
        drop(world.pool.try_fault(PageId::new(2)).expect("storage is healthy"));
    }
    model("P8 COOL and shares are no changes", "p8_cool_passes_no_validation_falsely", 1)
        .catches("a tag is set by a plain store", &["Poisoned", "P10: ", "P12: ", NO_END, DEADLOCK])
        .run(|bound| {
            beside(bound, warm, [sweep, write], |world| {
                assert_eq!(under(&world.fault(0)), [101; 2], "P12: a change is lost");
                at_rest(world);
            });
        });
}

#[test]
fn p9_a_frame_has_one_owner() {
    fn unreadable() -> World {
        let world = World::new(PAGES);
        world.storage.fail_reads(2);
        world
    }
    model("P9 one list", "p9_a_frame_has_one_owner", 1)
        .catches("a failed load gives its frame back twice", &["P9: "])
        .catches("who lost a claim keeps its frame", &["P9: "])
        .run(|bound| beside(bound, unreadable, [fault_if_possible; 2], at_rest));
}

#[test]
fn p9_a_frame_above_the_budget_has_no_owner() {
    fn lower(world: &World) {
        world.pool.set_capacity(1).expect("pins are short, and storage is healthy");
    }
    fn lower_and_raise(world: &World) {
        lower(world);
        world.pool.set_capacity(2).expect("it was reserved");
    }
    /// Holds the frame that is to go.
    fn hold(world: &World) {
        assert_eq!(under(&world.fault(1)), PAGES[1]);
    }
    model("P9 one list", "p9_a_frame_above_the_budget_has_no_owner", 1)
        .catches("a lowered budget does not wait for who holds its frames", &["P9: ", "P2: "])
        .run(|bound| {
            beside(bound, full, [hold, lower], at_rest);
            beside(bound, full, [hold, lower_and_raise], at_rest);
        });
}

fn provide(world: &World) {
    world.pool.provide_frames().expect("storage is healthy");
}

#[test]
fn p4_a_page_that_is_pinned_beside_the_provider_stays() {
    fn hold(world: &World) {
        let pin = world.fault(0);
        assert_eq!(world.pool.frame_of(ID), Some(pin.frame()), "P4: a pinned page left its frame");
    }
    model("P4 safe evict", "p4_a_page_that_is_pinned_beside_the_provider_stays", 1)
        .catches("an evictor does not look again under the latch", &["P4: a pinned page left its frame"])
        .run(|bound| beside(bound, full, [provide, hold], at_rest));
}

#[test]
fn p9_provider_and_budget_give_a_frame_one_owner() {
    fn lower(world: &World) {
        world.pool.set_capacity(1).expect("pins are short, and storage is healthy");
    }
    model("P9 one list", "p9_provider_and_budget_give_a_frame_one_owner", 1)
        .catches("a lowered budget does not wait for who holds its frames", &["P9: ", "P2: "])
        .run(|bound| beside(bound, full, [provide, lower], at_rest));
}

#[test]
fn provider_sleeps_over_no_demand() {
    fn awake() -> World {
        let world = World::new(PAGES);
        assert!(world.pool.have_provider());
        world
    }
    /// Takes the last frame. The one before it can be had again.
    fn take_two(world: &World) {
        drop(world.fault(0));
        drop(world.fault(1));
        while world.pool.free_len() == 0 {
            thread::yield_now();
        }
        world.pool.end_provider();
    }
    model("provider wakes", "provider_sleeps_over_no_demand", 1)
        .catches("nobody asks the provider", &[NO_END])
        .catches("what is wanted while the provider works is forgotten", &[NO_END])
        .run(|bound| beside(bound, awake, [|world| world.pool.be_provider(), take_two], at_rest));
}

#[test]
fn provider_that_begins_while_another_ends_serves() {
    fn serving() -> World {
        let world = World::new(PAGES);
        assert!(world.pool.have_provider());
        world
    }
    fn end(world: &World) {
        world.pool.end_provider();
        world.pool.leave_provider();
    }
    fn begin(world: &World) {
        while !world.pool.have_provider() {
            thread::yield_now();
        }
    }
    model("provider wakes", "provider_that_begins_while_another_ends_serves", 2)
        .catches("a provider that ends takes the next one with it", &["the next one was ended too"])
        .run(|bound| {
            beside(bound, serving, [end, begin], |world| {
                assert!(world.pool.has_provider_at_work(), "the next one was ended too");
            });
        });
}

#[test]
fn admission_reaches_everybody_in_turn() {
    const GATE: &str = "admission in turn";
    fn enter(world: &World) {
        drop(world.pool.admit(1));
    }
    /// Somebody is inside while two come; the one of them does not leave, and the other asks for what fits beside it.
    fn two_come(world: &Arc<World>) {
        let inside = world.pool.admit(1);
        let [stays, fits] = [1, 0].map(|frames| {
            let world = Arc::clone(world);
            thread::spawn(move || std::mem::forget(world.pool.admit(frames)))
        });
        drop(inside);
        stays.join().expect("no panic");
        fits.join().expect("no panic");
    }
    model(GATE, "admission_reaches_everybody_in_turn", 2)
        .catches("who leaves the gate tells nobody", ASLEEP)
        .catches("who enters the gate does not tell the next one", ASLEEP)
        .run(|bound| {
            beside(bound, || World::new(PAGES), [enter, enter], |_| ());
            explore(bound, || two_come(&Arc::new(World::new(PAGES))));
        });
}

#[test]
fn admission_is_kept_while_the_budget_falls() {
    fn lower(world: &World) {
        world.pool.set_capacity(1).expect("nobody stays");
    }
    fn stay(world: &World) {
        let admission = world.pool.admit(1);
        let kept = admission.frames() == 0 || world.pool.capacity() == 2;
        assert!(kept, "the frames that were promised are gone");
    }
    model("admission in turn", "admission_is_kept_while_the_budget_falls", 2)
        .catches(
            "a lowered budget does not wait for who was admitted",
            &["the frames that were promised are gone"],
        )
        .run(|bound| beside(bound, || World::new(PAGES), [lower, stay], at_rest));
}
