//! The long form of `every_image_recovers`: the recovery of every image of every sequence is cut again, everywhere.
//!
//! `--seconds N` goes on for about so long, or until all is done; `--seed N` says with which of the 584 sequences it begins, the clock if it
//! is not given, and by which of the log's durable writes. After the sequences come long workloads by seed. Prints its figures in its last
//! line, and panics with everything that is needed to see it again if a promise was broken.
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagestone_store::DurableBy;
use pagestone_testkit::Soak;
use support::images::Images;
use support::workload::{base, run_long, run_sequence, sequences};

fn main() -> Result<(), String> {
    let soak = Soak::from_args(&[])?;
    let seed = soak.seed();
    let all = Images::new(1, Some(soak.until()));
    let (base, sequences) = (base(), sequences());
    let count = sequences.len() as u64;
    let (next, done, long) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !all.is_over() {
                    let at = next.fetch_add(1, Relaxed);
                    if at < count {
                        // Neighbours are alike: a stride that has no factor in common with their number visits all of them, far apart.
                        let number = (seed % count + at * 211) % count;
                        let by = DurableBy::ALL[((seed + at) % DurableBy::ALL.len() as u64) as usize];
                        let sequence = &sequences[number as usize];
                        let (run, from) = run_sequence(&base, sequence, by);
                        let whole = all.look(&run, from, &|| format!("seed {seed}, {sequence:?}"));
                        done.fetch_add(u64::from(whole), Relaxed);
                    } else {
                        let seed = seed.wrapping_add(at);
                        let whole = all.look(&run_long(&base, seed), 0, &|| format!("long seed {seed}"));
                        long.fetch_add(u64::from(whole), Relaxed);
                    }
                }
            });
        }
    });
    println!(
        "{} of {count} sequences whole and {} long ones, {}, {:.0} s",
        done.load(Relaxed),
        long.load(Relaxed),
        all.to_line(),
        soak.elapsed().as_secs_f64()
    );
    Ok(())
}
