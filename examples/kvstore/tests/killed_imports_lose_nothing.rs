//! A process that is killed at any instant must lose nothing that it acknowledged, and must leave a store that opens by
//! itself and holds exactly a prefix of what was put (C13, R1, R2).
//!
//! This is the quick form; `cargo xtask soak` runs the long one, examples/soak_kills.rs.

#[path = "support/kill_loop/mod.rs"]
mod kill_loop;
mod support;

use std::time::{Duration, SystemTime};

use kill_loop::KillLoop;
use support::Place;

#[test]
fn killed_imports_lose_nothing() {
    let place = Place::new();
    // Another one each time; a failure names it.
    let seed =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    println!("seed {seed}");
    let figures = KillLoop {
        binary: env!("CARGO_BIN_EXE_kvstore").into(),
        dir: place.path(""),
        seed,
        rounds: 12,
        until: None,
        longest: Duration::from_millis(300),
        lines: 3000,
    }
    .run();
    println!("{}", figures.to_line());
    assert_eq!((figures.rounds, figures.lost), (12, 0));
    assert!(figures.acknowledged > 0, "no import lived long enough to acknowledge a line: {figures:?}");
}
