//! The long form of `damage_is_always_told`: random damage to pages under the 64-bit checksum.
//!
//! `--seconds N` goes on for about so long, `--damages N` does at least so many, on all processors. Prints its figures in its last
//! line, and fails if one damage was believed or told as something else.
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use pagestone_page_format::ChecksumKind;
use support::{Damage, Files, Random, Tally};

/// Damages between two looks at the clock.
const BETWEEN: u64 = 10_000;

/// When to stop.
#[derive(Clone, Copy)]
enum Until {
    Time(Instant),
    /// So many on each thread.
    Damages(u64),
}

impl Until {
    fn reached(self, damages: u64) -> bool {
        match self {
            Self::Time(end) => Instant::now() >= end,
            Self::Damages(end) => damages >= end,
        }
    }
}

fn main() -> Result<(), String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let begun = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |value: &String| value.parse::<u64>().map_err(|error| format!("{value}: {error}"));
    let until = match arguments.as_slice() {
        [] => Until::Time(begun + Duration::from_secs(10)),
        [name, value] if name == "--seconds" => Until::Time(begun + Duration::from_secs(number(value)?)),
        [name, value] if name == "--damages" => Until::Damages(number(value)?.div_ceil(threads)),
        _ => return Err("expected --seconds N, --damages N or nothing".into()),
    };
    let soak = |seed: u64| {
        let mut random = Random(seed);
        let mut files = Files::new(ChecksumKind::Crc64Nvme, 4096, &mut random);
        let mut tally = Tally::new();
        while !until.reached(tally.damages()) {
            for _ in 0..BETWEEN {
                tally.strike(&mut files, &mut random);
            }
        }
        tally
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let all: Vec<_> = (1..=threads).map(|seed| scope.spawn(move || soak(seed))).collect();
        all.into_iter().map(|thread| thread.join().expect("damage is an error and no panic")).collect()
    });
    let kinds = Damage::ALL.map(|damage| {
        let count: u64 = tallies.iter().map(|tally| tally.counts[damage as usize]).sum();
        format!("{damage:?} {count}")
    });
    let damages: u64 = tallies.iter().map(Tally::damages).sum();
    let undetected: u64 = tallies.iter().map(|tally| tally.undetected).sum();
    let rate = damages as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!(
        "{damages} damages under CRC-64/NVME ({}), undetected = {undetected}, {rate:.1} million a second",
        kinds.join(", ")
    );
    if undetected > 0 {
        return Err(format!("{undetected} damages were not told, seeds 1 to {threads}"));
    }
    Ok(())
}
