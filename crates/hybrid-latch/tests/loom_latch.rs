//! The latch keeps its promises in every interleaving of two actors with up to four preemptions, and of three actors with
//! up to two (P1, P5, P6, P8); and its models fail if what they prove is taken out of the code.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-hybrid-latch --test loom_latch
//! ```
#![cfg(loom)]

mod models;

use models::{OF_THREE, OF_TWO};
use pagestone_sync::checking::DEADLOCK;

const TORN: &[&str] = &["a validated read is torn", "a change without a new version"];
const ASLEEP: &[&str] = &[DEADLOCK];

macro_rules! explored {
    ($($invariant:literal, $bound:ident, $model:ident $({ $($bug:literal => $findings:expr;)* })?)*) => {
        $(
            #[test]
            fn $model() {
                pagestone_sync::checking::model($invariant, stringify!($model), $bound)
                    $($(.catches($bug, $findings))*)?
                    .run(|_| models::$model());
            }
        )*
    };
}

explored! {
    "P1, P6 (latch)", OF_TWO, optimistic_against_exclusive {
        "a writer has no release fence" => TORN;
        "a reader has no acquire fence" => TORN;
        "an unlock keeps the version" => TORN;
    }
    "P1, P6 (latch)", OF_THREE, optimistic_against_two_writers
    "P1, P6 (latch)", OF_TWO, optimistic_spin_waits
    "one writer (latch)", OF_TWO, exclusive_against_exclusive {
        "an unlock publishes nothing" =>
            &["a validated read is torn", "torn under the exclusive latch", "two writers at once"];
        "an unlock wakes nobody" => ASLEEP;
    }
    "one writer (latch)", OF_THREE, three_writers_wait
    "upgrade (latch)", OF_TWO, upgrade_race {
        "an upgrade takes any version" => &["an upgrade lost an update"];
    }
    "upgrade (latch)", OF_TWO, upgrade_against_exclusive
    "upgrade (latch)", OF_TWO, upgrade_to_shared
    "P8 (latch)", OF_TWO, tags_are_no_changes {
        "a validation compares the whole word" => &["a tag was taken for a change"];
    }
    "P8 (latch)", OF_THREE, tags_beside_a_writer {
        "a tag is set by a plain store" =>
            &["a tag undid an unlock", "a tag undid a version", "a validated read is torn", "a tag is lost"];
    }
    "P8 (latch)", OF_THREE, shares_are_no_changes {
        "a validation compares the whole word" => &["a share was taken for a change"];
    }
    "shares (latch)", OF_TWO, shared_against_exclusive
    "shares (latch)", OF_THREE, two_shared_against_exclusive
    "shares (latch)", OF_TWO, sharers_upgrade
    "shares (latch)", OF_TWO, downgrade_keeps_writers_out {
        "an unlock wakes before it clears the mark" => ASLEEP;
        "who sleeps does not look at the mark" => ASLEEP;
    }
    "P1, P6 (latch)", OF_TWO, downgrade_is_a_change
    "shares (latch)", OF_TWO, downgrade_lets_sharers_in
    "P5 (latch)", OF_TWO, hint_repair {
        "a repair is a change" => &["a repair failed a validation", "a repair is no change"];
    }
    "P5 (latch)", OF_THREE, hint_repair_beside_a_writer {
        "an upgrade takes any version" => &["a repair at another version than the sampled one"];
    }
}
