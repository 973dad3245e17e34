//! Prevents: a file that grows while as many entries stay, and pages that are lost when all are gone. `cargo xtask soak` does it with ten
//! million (examples/soak_trees.rs).

mod support;

use support::churn::{Churn, churn};

#[test]
fn a_queue_leaves_the_file_within_1_3_of_what_is_live() {
    let churned = churn(Churn::Queue, 20_000, 60_000, None);
    assert!(churned.file as f64 <= 1.3 * churned.live as f64, "{churned:?}");
}

/// Entries that come anywhere leave nodes between half full and full; the background fills them.
#[test]
fn entries_that_come_and_go_anywhere_leave_it_within_1_3_too() {
    let churned = churn(Churn::Scattered, 20_000, 60_000, None);
    assert!(churned.file as f64 <= 1.3 * churned.live as f64, "{churned:?}");
}
