//! The long form of `tree_agrees_with_a_map`, `threads_lose_no_update` and `space_is_used_again`: random histories beside a map on pages of
//! every size and pools of every kind, threads on one tree, and ten million entries that come and go.
//!
//! `--seconds N` goes on for about so long, a third for each; `--seed N` says where the histories begin, the clock if it is not given.
//! Prints its figures in its last line, and panics with everything that is needed to see it again if a promise was broken.
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant, SystemTime};

use support::churn::{Churn, churn};
use support::hammer::hammer;
use support::histories::agree;

/// Entries that stay, and turns at most.
const ENTRIES: u64 = 200_000;
const TURNS: u64 = 10_000_000;

fn main() -> Result<(), String> {
    let (mut seconds, mut seed) = (10, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name}: a number is missing"))?;
        let value = value.parse::<u64>().map_err(|error| format!("{value}: {error}"))?;
        match name.as_str() {
            "--seconds" => seconds = value,
            "--seed" => seed = Some(value),
            _ => return Err("expected --seconds N, --seed N or nothing".into()),
        }
    }
    let clock = || {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    };
    let seed = seed.unwrap_or_else(clock);
    println!("seed {seed}");
    let (began, third) = (Instant::now(), Duration::from_secs(seconds) / 3);
    // Each kind of pages and of pools, by turns.
    let mut histories = 0;
    while histories == 0 || began.elapsed() < third {
        let page = [4096, 65_536, 8192, 16_384, 32_768][histories % 5];
        let frames = [32, 4096, 48][histories % 3];
        println!("history of seed {}, pages of {page}, {frames} frames", seed + histories as u64);
        agree(page, frames, seed + histories as u64, 20_000);
        histories += 1;
    }
    let (mut operations, mut rounds) = (0, 0);
    while rounds == 0 || began.elapsed() < 2 * third {
        let frames = [32, 64, 4096][rounds % 3];
        operations += hammer(third.as_millis().clamp(2000, 20_000) as u64, frames, frames < 4096);
        rounds += 1;
    }
    let until = |part: u32| Some(began + 2 * third + third * part / 2);
    let queue = churn(Churn::Queue, ENTRIES, TURNS / 2, until(1));
    let scattered = churn(Churn::Scattered, ENTRIES, TURNS / 2, until(2));
    let of_live = |file: u64, live: u64| file as f64 / live as f64;
    let (ends, anywhere) = (of_live(queue.file, queue.live), of_live(scattered.file, scattered.live));
    let grown = of_live(scattered.file, scattered.file_before);
    println!(
        "{histories} histories of 20000 steps; {operations} operations by 8 threads; {} entries came and went at the ends, the file is \
         {ends:.2} of what is live, {} anywhere, {anywhere:.2}, {grown:.2} of what it was; {:.0} s",
        queue.turns,
        scattered.turns,
        began.elapsed().as_secs_f64()
    );
    assert!(ends <= 1.3, "the file has grown to {ends:.2} of what is live");
    assert!(grown <= 1.3, "the file has grown to {grown:.2} of what it was");
    Ok(())
}
