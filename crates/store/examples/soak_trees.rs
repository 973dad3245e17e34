//! The long form of `tree_agrees_with_a_map`, `threads_lose_no_update`, `calls_on_a_key_have_one_order` and `space_is_used_again`: random
//! histories beside a map on pages of every size and pools of every kind, threads on one tree, and ten million entries that come and go.
//!
//! `--turns 10000000` does the last alone, so many of each kind, however long it takes: a minute or two for each.
//!
//! `--seconds N` goes on for about so long, a quarter for each; `--seed N` says where the histories begin, the clock if it is not given.
//! Prints its figures in its last line, and panics with everything that is needed to see it again if a promise was broken.
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use pagestone_testkit::Soak;
use support::churn::{Churn, Churned, churn};
use support::hammer::hammer;
use support::histories::agree;
use support::linear::linear;

/// Entries that stay, and turns at most.
const ENTRIES: u64 = 200_000;
const TURNS: u64 = 10_000_000;

fn main() -> Result<(), String> {
    let soak = Soak::from_args(&["--turns"])?;
    if let Some(turns) = soak.number("--turns") {
        only_churn(turns);
        return Ok(());
    }
    let seed = soak.seed();
    let quarter = soak.time() / 4;
    // Each kind of pages and of pools, by turns.
    let mut histories = 0;
    while histories == 0 || soak.elapsed() < quarter {
        let page = [4096, 65_536, 8192, 16_384, 32_768][histories % 5];
        let frames = [32, 4096, 48][histories % 3];
        println!("history of seed {}, pages of {page}, {frames} frames", seed + histories as u64);
        agree(page, frames, seed + histories as u64, 20_000);
        histories += 1;
    }
    let (mut operations, mut rounds) = (0, 0);
    while rounds == 0 || soak.elapsed() < 2 * quarter {
        let frames = [32, 64, 4096][rounds % 3];
        operations += hammer(quarter.as_millis().clamp(2000, 20_000) as u64, frames, frames < 4096);
        rounds += 1;
    }
    let (mut calls, mut rounds) = (0, 0);
    while rounds == 0 || soak.elapsed() < 3 * quarter {
        let frames = [32, 64, 4096][rounds % 3];
        let seed = seed.wrapping_add(rounds as u64);
        println!("threads of seed {seed}, {frames} frames");
        calls += linear(seed, 20_000, frames, frames < 4096);
        rounds += 1;
    }
    let until = |part: u32| Some(soak.until() - quarter + quarter * part / 2);
    let queue = churn(Churn::Queue, ENTRIES, TURNS / 2, until(1));
    let scattered = churn(Churn::Scattered, ENTRIES, TURNS / 2, until(2));
    println!(
        "{histories} histories of 20000 steps; {operations} operations by 8 threads; {calls} calls in one order; {}; {}; {:.0} s",
        told(Churn::Queue, &queue),
        told(Churn::Scattered, &scattered),
        soak.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Nothing but entries that come and go, so many of each kind, however long it takes.
fn only_churn(turns: u64) {
    for kind in [Churn::Queue, Churn::Scattered] {
        let began = Instant::now();
        let churned = churn(kind, ENTRIES, turns, None);
        println!("{}; {:.0} s", told(kind, &churned), began.elapsed().as_secs_f64());
    }
}

/// In words; panics if the file is larger than it may be.
fn told(kind: Churn, churned: &Churned) -> String {
    let of_live = |file: u64| file as f64 / churned.live as f64;
    let told = format!(
        "{} entries came and went {}: the file is {:.3} of what is live, it was {:.3} when the last one came and {:.3} at most; {:.0} % of \
         the log was to take space back",
        churned.turns,
        match kind {
            Churn::Queue => "at the ends",
            Churn::Scattered => "anywhere",
        },
        of_live(churned.file),
        of_live(churned.file_at_once),
        of_live(churned.file_max),
        churned.log_to_take_back as f64 / churned.log as f64 * 100.0,
    );
    assert!(of_live(churned.file) <= 1.3, "{told}");
    told
}
