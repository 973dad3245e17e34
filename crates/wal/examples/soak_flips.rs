//! The long form of `a_flipped_byte_is_told_or_costs_the_tail`: 64 flips in every block of a log of 4 MiB that crash upon crash has left.
//!
//! `--seconds N` goes on for about so long, or until every block was looked at; `--seed N` says with which block it begins, the clock if it is
//! not given. Prints its figures in its last line, and panics if damage before the tail was not told.
#![forbid(unsafe_code)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::flips::{Outcome, crashed_again_and_again};
use pagestone_testkit::Soak;

const LOG_BYTES: u64 = 4 << 20;
const LIVES: u64 = 12;

fn main() -> Result<(), String> {
    let soak = Soak::from_args(&[])?;
    let seed = soak.seed();
    let log = crashed_again_and_again(LOG_BYTES, LIVES);
    let blocks = log.blocks();
    let next = AtomicUsize::new(0);
    let flip = || {
        let (log, mut outcome, mut done) = (log.copy(), Outcome::default(), 0);
        while !soak.is_over() {
            let at = next.fetch_add(1, Relaxed);
            if at >= blocks.len() {
                break;
            }
            log.flip_some(&blocks[(at + seed as usize) % blocks.len()], &mut outcome);
            done += 1;
        }
        (outcome, done)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<(Outcome, u64)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(flip)).collect();
        all.into_iter().map(|thread| thread.join().expect("damage was not told")).collect()
    });
    let sum = |figure: fn(&Outcome) -> u64| outcomes.iter().map(|(outcome, _)| figure(outcome)).sum::<u64>();
    println!(
        "{} of {} blocks of a log of {LOG_BYTES} bytes and {LIVES} crashes, {} flips: {} before the tail, all told; {} told in all, {} cost the \
         tail, {} harmless; {:.0} s",
        outcomes.iter().map(|(_, done)| done).sum::<u64>(),
        blocks.len(),
        sum(|outcome| outcome.flips),
        sum(|outcome| outcome.proved),
        sum(|outcome| outcome.corrupt),
        sum(|outcome| outcome.tail),
        sum(|outcome| outcome.harmless),
        soak.elapsed().as_secs_f64()
    );
    Ok(())
}
