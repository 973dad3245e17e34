//! Ten million operations on an allocator of its own, and again, each time from another seed, with crashes between and in them; see
//! `an_allocator_is_a_set_of_ids.rs`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Checked, long_run};
use pagestone_testkit::Rng;

const OPERATIONS: u64 = 10_000_000;

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = match (args.next().as_deref(), args.next().and_then(|seconds| seconds.parse().ok())) {
        (Some("--seconds"), Some(seconds)) => Duration::from_secs(seconds),
        _ => Duration::ZERO,
    };
    let (begun, mut rounds) = (Instant::now(), 0);
    while rounds == 0 || begun.elapsed() < seconds {
        rounds += 1;
        long_run(&mut Checked::new(), &mut Rng::new(rounds), OPERATIONS);
    }
    println!("{rounds} times {OPERATIONS} operations, {:.1} s", begun.elapsed().as_secs_f64());
}
