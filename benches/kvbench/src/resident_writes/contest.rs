//! Sides by turns, with one thread and with two, and the table of what they did.
//!
//! Invariant: in each round every side has a turn with each count of threads, and each round begins with the next side; a ratio is
//! the median of the rounds' ratios, so that a noisy minute spoils some rounds of both sides. Only the operations count: not what
//! draws them, nor what a side has to settle afterwards.

use std::sync::Barrier;
use std::time::Duration;
use std::time::Instant;

use super::keys::KeySet;
use super::workload::{Batch, Workload, check};
use super::zipf::Zipf;
use crate::peers::visible::Visible;
use crate::threads::on_threads;
use crate::writers::mix;
use crate::{BenchResult, quartiles};

/// Counts of threads.
const THREADS: [u64; 2] = [1, 2];
/// Keys that are looked up on each side at the end.
const LOOKS: u64 = 10_000;
/// What runs on in the background after a turn has that long.
const PAUSE: Duration = Duration::from_millis(20);

/// Over which keys, and for how long.
pub(super) struct Contest<'k> {
    pub(super) keys: &'k KeySet,
    pub(super) zipf: &'k Zipf,
    pub(super) rounds: usize,
    pub(super) turn: Duration,
}

/// What one side did: operations a second, for each count of threads, in each round.
struct Did {
    rates: [Vec<f64>; 2],
}

impl Contest<'_> {
    /// The first side is pagestone.
    pub(super) fn run(&self, workload: Workload, sides: &[&dyn Visible]) -> BenchResult<()> {
        let mut did: Vec<_> = sides.iter().map(|_| Did { rates: [Vec::new(), Vec::new()] }).collect();
        // The first round warms up.
        for round in 0..=self.rounds {
            for place in 0..sides.len() {
                let place = (place + round) % sides.len();
                for (index, threads) in THREADS.into_iter().enumerate() {
                    let rate = self.turn(workload, threads, round as u64, sides[place])?;
                    if round > 0 {
                        did[place].rates[index].push(rate);
                    }
                    sides[place].settle()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
        self.print(workload, sides, &did);
        sides.iter().try_for_each(|side| self.look(*side))
    }

    fn print(&self, workload: Workload, sides: &[&dyn Visible], did: &[Did]) {
        println!("\n### {}\n", workload.name());
        println!(
            "| | 1 thread, M/s | pagestone's over it | 2 threads, M/s | pagestone's over it | 2 threads over 1 |"
        );
        println!("|---|---|---|---|---|---|");
        for (side, theirs) in sides.iter().zip(did) {
            let [one, two] = [0, 1].map(|index| {
                let [low, rate, high] = quartiles(theirs.rates[index].iter().map(|rate| rate / 1e6));
                let ratio = ratios(&did[0].rates[index], &theirs.rates[index]);
                format!("{rate:.3} [{low:.3} to {high:.3}] | {ratio}")
            });
            println!("| {} | {one} | {two} | {} |", side.name(), ratios(&theirs.rates[1], &theirs.rates[0]));
        }
    }

    /// Every side still has every key, as far as some of them tell.
    fn look(&self, side: &dyn Visible) -> BenchResult<()> {
        let mut scratch = Vec::new();
        (0..LOOKS).try_for_each(|look| {
            let number = mix(look) % self.keys.len();
            side.get(self.keys.get(number), &mut scratch, &mut |found| check(number, found))
        })
    }

    /// Operations a second of all threads.
    fn turn(&self, workload: Workload, threads: u64, round: u64, side: &dyn Visible) -> BenchResult<f64> {
        let begin = Barrier::new(threads as usize);
        let one = |thread| {
            let (mut batch, mut scratch) = (Batch::default(), Vec::new());
            let mut random = mix(round << 8 | thread);
            begin.wait();
            let began = Instant::now();
            let (mut took, mut done) = (Duration::ZERO, 0);
            while began.elapsed() < self.turn {
                batch.draw(workload, self.keys, self.zipf, &mut random);
                let from = Instant::now();
                done += batch.run(side, self.keys.len(), round, &mut scratch)?;
                took += from.elapsed();
            }
            BenchResult::Ok(done as f64 / took.as_secs_f64())
        };
        Ok(on_threads(threads, one)?.iter().sum())
    }
}

fn ratios(ours: &[f64], theirs: &[f64]) -> String {
    let [low, ratio, high] = quartiles(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
    format!("{ratio:.2} [{low:.2} to {high:.2}]")
}
