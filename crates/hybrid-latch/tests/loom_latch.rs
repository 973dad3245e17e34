//! The latch keeps its promises in every interleaving of two actors with up to four preemptions, and of three actors with
//! up to two (P1, P5, P6, P8). `LOOM_MAX_PREEMPTIONS` sets another bound for both.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" \
//!     cargo test -p pagestone-hybrid-latch --test loom_latch --test loom_mutants
//! ```
#![cfg(loom)]

mod models;

macro_rules! explored {
    ($($model:ident)*) => {
        $(
            #[test]
            fn $model() {
                models::$model();
            }
        )*
    };
}

explored! {
    optimistic_against_exclusive
    optimistic_against_two_writers
    optimistic_spin_waits
    exclusive_against_exclusive
    three_writers_wait
    upgrade_race
    upgrade_against_exclusive
    upgrade_to_shared
    tags_are_no_changes
    tags_beside_a_writer
    shared_against_exclusive
    two_shared_against_exclusive
    shares_are_no_changes
    sharers_upgrade
    downgrade_keeps_writers_out
    downgrade_is_a_change
    downgrade_lets_sharers_in
    hint_repair
    hint_repair_beside_a_writer
}
