//! Ten million operations on an allocator of its own, and again, each time from another seed, with crashes between and in them; see
//! `an_allocator_is_a_set_of_ids.rs`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Checked, long_run};
use pagestone_testkit::Rng;

const OPERATIONS: u64 = 10_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.as_slice() {
        [] => Duration::ZERO,
        [name, value] if name == "--seconds" => Duration::from_secs(value.parse()?),
        _ => return Err("expected --seconds N or nothing".into()),
    };
    let (begun, mut rounds) = (Instant::now(), 0);
    while rounds == 0 || begun.elapsed() < seconds {
        rounds += 1;
        long_run(&mut Checked::new(), &mut Rng::new(rounds), OPERATIONS);
    }
    println!("{rounds} times {OPERATIONS} operations, {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
