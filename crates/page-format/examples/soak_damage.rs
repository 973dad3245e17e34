//! The long form of `damage_is_always_told`: random damage to pages under the 64-bit checksum, for as long as it is told.
//!
//! Prints its figures in its last line, and fails if one was believed.
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use pagestone_page_format::ChecksumKind;
use support::{Files, Random};

/// Damages between two looks at the clock.
const BETWEEN: u64 = 10_000;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.as_slice() {
        [] => 10,
        [name, value] if name == "--seconds" => value.parse().map_err(|error| format!("{value}: {error}"))?,
        _ => return Err("expected --seconds N or nothing".into()),
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let soak = |seed: u64| {
        let mut random = Random(seed);
        let mut files = Files::new(ChecksumKind::Crc64Nvme, 4096, &mut random);
        let mut damages = 0;
        while Instant::now() < until {
            for _ in 0..BETWEEN {
                let len = 1 + random.below(32);
                let told = match random.below(16) {
                    0 => files.misdirected(&mut random) && files.truncated(random.below(4096) as usize),
                    1 => files.foreign(&mut random),
                    2 => files.torn(&mut random),
                    _ => files.burst(len, &mut random),
                };
                assert!(told, "seed {seed}, after {damages} damages");
            }
            damages += BETWEEN;
        }
        damages
    };
    let damages: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = (1..=threads).map(|seed| scope.spawn(move || soak(seed))).collect();
        all.into_iter().map(|thread| thread.join().expect("no damage was believed")).sum()
    });
    println!("{damages} damages under CRC-64/NVME, all told");
    Ok(())
}
