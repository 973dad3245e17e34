//! Ten million operations on an allocator of its own, and again, each time from another seed, with crashes between and in them; see
//! `an_allocator_is_a_set_of_ids.rs`.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Checked, long_run};
use pagestone_testkit::{Rng, Soak};

const OPERATIONS: u64 = 10_000_000;

fn main() -> Result<(), String> {
    let (soak, mut rounds) = (Soak::from_args(&[])?, 0);
    while rounds == 0 || !soak.is_over() {
        rounds += 1;
        long_run(&mut Checked::new(), &mut Rng::new(rounds), OPERATIONS);
    }
    println!("{rounds} times {OPERATIONS} operations, {:.1} s", soak.elapsed().as_secs_f64());
    Ok(())
}
