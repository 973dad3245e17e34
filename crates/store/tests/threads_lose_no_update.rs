//! Prevents: a lost update, a wrong value, a deadlock, a scan that misses a stable key, with eight threads on few frames and on many.

mod support;

use support::hammer::hammer;

#[test]
fn eight_threads_on_64_frames() {
    hammer(3000, 64, true);
}

#[test]
fn eight_threads_on_the_least_pool() {
    hammer(2000, 32, true);
}

#[test]
fn eight_threads_with_all_resident() {
    hammer(2000, 4096, false);
}
