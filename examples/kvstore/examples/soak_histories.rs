//! The long form of `every_reader_sees_a_state_of_its_time`: threads on a pool of 64 frames, every answer checked.
//!
//! Prints its figures in its last line, and fails if a promise was broken; then the store is kept.
#![forbid(unsafe_code)]

#[path = "../tests/support/histories.rs"]
mod histories;

use std::time::{Duration, Instant, SystemTime};

use clap::Parser;

use histories::{Histories, HistoryFigures};
use kvstore::Durability;

/// The longest life of one store.
const MOST_SECONDS: u64 = 60;

/// Lets threads write, read and scan the same keys.
#[derive(Debug, Parser)]
struct Args {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// What follows from chance follows from it; the clock, if it is not given
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    // A broken promise panics: what it was found in is kept.
    let dir = tempfile::Builder::new().prefix("soak-histories-").tempdir()?.keep();
    let clock = || {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    };
    let seed = args.seed.unwrap_or_else(clock);
    println!("seed {seed}, stores in {}", dir.display());
    let (began, whole) = (Instant::now(), Duration::from_secs(args.seconds));
    let (mut all, mut stores) = (HistoryFigures::default(), 0);
    while let Some(left) =
        whole.checked_sub(began.elapsed()).filter(|left| stores == 0 || *left > Duration::from_secs(1))
    {
        // By turns; strict ones write less and sync more.
        let (durability, share) =
            if stores % 2 == 0 { (Durability::RELAXED, 4) } else { (Durability::Strict, 2) };
        let time = Duration::from_secs(MOST_SECONDS).min(whole) * share / 6;
        let store = dir.join("store");
        let histories = Histories {
            dir: store.clone(),
            seed: seed.wrapping_add(stores),
            threads: 8,
            keys: 500,
            frames: 64,
            durability,
            time: time.min(left),
        };
        all.add(&histories.run());
        std::fs::remove_dir_all(store)?;
        stores += 1;
    }
    std::fs::remove_dir_all(&dir)?;
    println!("{stores} stores, 8 threads, 64 frames: {}", all.to_line());
    Ok(())
}
