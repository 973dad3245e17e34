//! Prevents: what only a rare mixture of changes, checkpoints and a power cut takes away (R1, R2, R6, R7, C1 to C12).
//!
//! Every sequence of up to three operations on a small store, then long ones by seed, by turns by each call that makes the log durable; a
//! power cut after every write, sync, rename and truncation; every state that it can leave where they are few, else a covering set of them,
//! torn at 512 bytes. Each is opened, compared with the states that it may be in, and verified; of some the recovery is cut again, and
//! in the logs of some a byte is flipped. `cargo xtask soak` runs examples/soak_images.rs, which cuts the recovery of every image again.

mod support;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use pagestone_store::DurableBy;
use support::images::Images;
use support::workload::{base, run_long, run_sequence, sequences};

/// Distinct images that this test looks at, at least.
const IMAGES: u64 = 300_000;
/// Of so many images the recovery of one is cut again, everywhere.
const CUT_AGAIN: u64 = 256;

#[test]
fn three_hundred_thousand_images_recover() {
    let (all, base, sequences) = (Images::new(CUT_AGAIN, None), base(), sequences());
    assert_eq!(sequences.len(), 584);
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(sequence) = sequences.get(next.fetch_add(1, Relaxed)) {
                    let (run, from) = run_sequence(&base, sequence, DurableBy::Fdatasync);
                    all.look(&run, from, &|| format!("{sequence:?}"));
                }
                // By seed, until there are enough.
                while all.images.load(Relaxed) < IMAGES {
                    let seed = next.fetch_add(1, Relaxed) as u64;
                    all.look(&run_long(&base, seed), 0, &|| format!("seed {seed}"));
                }
            });
        }
    });
    println!("{}", all.to_line());
    let least = IMAGES / CUT_AGAIN / 2;
    assert!(all.images.load(Relaxed) >= IMAGES && all.cut_again.load(Relaxed) >= least);
    assert!(all.refused.load(Relaxed) > least / 4 && all.flipped.load(Relaxed) > all.refused.load(Relaxed));
}
