//! The long form of `killed_imports_lose_nothing` and of `batches_are_both_or_neither`: kills imports of the release build, then
//! writers of batches over two trees, at random instants, and holds what is left against what was acknowledged.
//!
//! One round in 25 kills an import, which lives for up to 0.4 s and is looked at for as long; the others kill a writer within
//! 40 ms after it opened its store, whose log of four segments has a checkpoint or a recycled segment under way most of the time.
//!
//! Prints its figures in its last line, and fails if a promise was broken; then the store is kept.
#![forbid(unsafe_code)]

#[path = "../tests/support/batch_loop/mod.rs"]
mod batch_loop;
#[path = "../tests/support/kill_loop/mod.rs"]
mod kill_loop;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;

use batch_loop::{BatchLoop, Writer};
use kill_loop::KillLoop;

/// Kills imports and writers of batches, and looks what is left.
#[derive(Debug, Parser)]
struct Args {
    /// Processes to kill: one in 25 an import, the others writers of batches; 300 if no time is given either
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Seconds after which no other one is started; an eighth of them for imports
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Writers of batches that are at work at the same time, each on a store of its own
    #[arg(long, value_name = "N", default_value_t = 4)]
    lanes: u64,
    /// Everything but the instants follows from it; the clock, if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// The command to kill; built and taken from beside this one, if it is not given
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where to make stores
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(writer) = Writer::from_arguments() {
        return writer.run();
    }
    let args = Args::parse();
    let binary = args.binary.map_or_else(built, Ok)?;
    let under = args.dir.unwrap_or_else(std::env::temp_dir);
    // A broken promise panics: what it was found in is kept.
    let dir = tempfile::Builder::new().prefix("soak-kills-").tempdir_in(under)?.keep();
    let clock = || {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    };
    let seed = args.seed.unwrap_or_else(clock);
    println!("seed {seed}, stores in {}", dir.display());
    let rounds = args.rounds.unwrap_or(if args.seconds.is_some() { u64::MAX } else { 300 });
    let began = Instant::now();
    let after = |share: u32| args.seconds.map(|seconds| began + Duration::from_secs(seconds) * share / 8);
    let imports = KillLoop {
        binary,
        dir: dir.clone(),
        seed,
        rounds: rounds / 25,
        until: after(1),
        longest: Duration::from_millis(400),
        lines: 5_000,
    }
    .run();
    println!("{}", imports.to_line());
    let of_batches = Instant::now();
    let batches = BatchLoop {
        dir: dir.clone(),
        seed,
        rounds: rounds - imports.rounds.min(rounds),
        until: after(8),
        longest: Duration::from_millis(40),
        lanes: args.lanes.max(1),
    }
    .run();
    let rate = batches.rounds as f64 / of_batches.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&dir)?;
    println!("{}; {}; {rate:.0} rounds of batches a second", imports.to_line(), batches.to_line());
    Ok(())
}

/// Builds the command as this program was built, and gives where it is: beside the directory of the examples.
fn built() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let this = std::env::current_exe()?;
    let target =
        this.parent().and_then(|examples| examples.parent()).ok_or("this program stands in no directory")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "kvstore", "--bin", "kvstore"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    if !build.status()?.success() {
        return Err("the command kvstore cannot be built".into());
    }
    Ok(target.join(format!("kvstore{}", std::env::consts::EXE_SUFFIX)))
}
