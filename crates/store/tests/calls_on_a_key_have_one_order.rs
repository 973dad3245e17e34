//! Prevents: an answer that no order of the calls on its key explains: an older value, an update that is lost between two writers, a key
//! that is gone for an instant while its leaf splits or merges, two who both insert it.

mod support;

use support::linear::linear;

#[test]
fn eight_threads_on_the_least_pool() {
    linear(1, 6000, 32, true);
}

#[test]
fn eight_threads_on_64_frames() {
    linear(2, 6000, 64, true);
}

#[test]
fn eight_threads_with_all_resident() {
    linear(3, 10_000, 4096, false);
}
