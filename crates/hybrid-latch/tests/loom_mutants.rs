//! The models find the bugs that they are there for: each is planted, and its model must fail.
//!
//! Run with `loom_latch.rs`, by the command that stands there.
#![cfg(all(loom, pagestone_faults))]

mod models;

use std::panic::catch_unwind;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use pagestone_hybrid_latch::faults::{Fault, plant};

/// The switch is one for the process: one mutant at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Plants `fault`; `model` must fail and say one of `findings`. Without the fault it must pass, in the same process.
fn must_find(fault: Fault, model: fn(), findings: &[&str]) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    plant(Some(fault));
    let outcome = catch_unwind(model);
    plant(None);
    let cause = outcome.expect_err("the model passes with the bug planted");
    let message = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .expect("an assertion has a message");
    assert!(
        findings.iter().any(|finding| message.contains(finding)),
        "{fault:?} failed otherwise: {message}"
    );
}

#[test]
fn a_missing_release_fence_is_found() {
    must_find(Fault::NoReleaseFence, models::optimistic_against_exclusive, &["a validated read is torn"]);
}

#[test]
fn a_missing_acquire_fence_is_found() {
    must_find(Fault::NoAcquireFence, models::optimistic_against_exclusive, &["a validated read is torn"]);
}

#[test]
fn an_unlock_without_a_new_version_is_found() {
    must_find(
        Fault::UnlockKeepsVersion,
        models::optimistic_against_exclusive,
        &["a validated read is torn", "a change without a new version"],
    );
}

#[test]
fn a_tag_set_by_a_plain_store_is_found() {
    must_find(
        Fault::PlainStoreTag,
        models::tags_beside_a_writer,
        &["a tag undid an unlock", "a tag undid a version", "a validated read is torn", "a tag is lost"],
    );
}

#[test]
fn an_unlock_that_publishes_nothing_is_found() {
    must_find(
        Fault::RelaxedUnlock,
        models::exclusive_against_exclusive,
        &["a validated read is torn", "torn under the exclusive latch", "two writers at once"],
    );
}

#[test]
fn an_upgrade_at_any_version_is_found() {
    must_find(Fault::UpgradeIgnoresVersion, models::upgrade_race, &["an upgrade lost an update"]);
}

/// Runs one of the ignored tests below: a deadlock ends a process, since it unwinds through held guards.
fn must_deadlock(child: &str) {
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args(["--exact", child, "--ignored", "--nocapture"])
        .output()
        .expect("a test can run itself");
    assert!(!output.status.success(), "the model passes with the bug planted");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("deadlock; threads ="), "{child} failed otherwise: {said}");
}

macro_rules! deadlocks {
    ($($test:ident, $child:ident: $fault:ident, $model:ident;)*) => {
        $(
            #[test]
            fn $test() {
                must_deadlock(stringify!($child));
            }

            #[test]
            #[ignore = "run by its parent, in a process of its own"]
            fn $child() {
                plant(Some(Fault::$fault));
                models::$model();
            }
        )*
    };
}

deadlocks! {
    an_unlock_that_wakes_nobody_is_found, child_silent_unlock: SilentUnlock, exclusive_against_exclusive;
    a_wake_up_before_the_mark_is_cleared_is_found, child_wake_before_clear: WakeBeforeClear, downgrade_keeps_writers_out;
    a_sleep_without_a_mark_is_found, child_sleep_unmarked: SleepUnmarked, downgrade_keeps_writers_out;
}
