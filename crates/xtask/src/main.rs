//! The project's own commands. `cargo xtask check` is the one that everybody runs, a machine that integrates too.
//!
//! Invariant: `check` reports success only if every step ran and succeeded; a tool that is missing is a failure that says
//! what is missing.
//!
//! ```text
//!   check.rs         the steps of `check`, in order
//!    ├ downstream.rs    crates outside the workspace that use each layer
//!    ├ loom.rs          every model and its mutants, a command of its own too
//!    └ unsafe_fence.rs  how many files and lines are unsafe
//!   fuzz.rs          the fuzz targets of `fuzz/`, with the nightly toolchain
//!   soak.rs          the long forms, for as long as they are told
//!   lanes.rs         other systems: type checks, tests for Windows under Wine
//!   tsan.rs          what races threads, under ThreadSanitizer, with the nightly toolchain
//!   step.rs          runs commands, keeps what they say, counts their tests
//!   workspace.rs     what `cargo metadata` says
//! ```
#![forbid(unsafe_code)]

mod check;
mod downstream;
mod fuzz;
mod lanes;
mod loom;
mod soak;
mod step;
mod tsan;
mod unsafe_fence;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Formats, lints, documents, tests and fences: everything that a change must pass
    Check {
        /// Only the steps whose names begin so
        #[arg(long, value_name = "STEP")]
        only: Option<String>,
        /// Then the long forms as well: 300 killed processes, and each other one of `soak` for a minute
        #[arg(long)]
        long: bool,
    },
    /// Type-checks for other systems and runs tests for Windows under Wine; says what is skipped because a tool is missing
    Lanes,
    /// Runs every model of every crate under loom, with its mutants, and prints a table
    Loom {
        /// Preemptions in an execution, instead of each model's own bound; each more multiplies the time
        #[arg(long, value_name = "N")]
        preemptions: Option<usize>,
    },
    /// Runs the long forms of the tests and prints figures
    Soak {
        /// How long, in all
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Nothing but so many kills of writers and imports of the example store, however long they take
        #[arg(long, value_name = "N", conflicts_with = "minutes")]
        kill_rounds: Option<u64>,
    },
    /// Runs the tests that race threads under ThreadSanitizer; needs the nightly toolchain and its rust-src
    Tsan {
        /// Only what has this in its package's or target's name
        filter: Option<String>,
        /// How long, each long form
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Runs the fuzz targets of `fuzz/`; needs the nightly toolchain and a C++ compiler
    Fuzz {
        /// Only this one
        target: Option<String>,
        /// How long, each
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let command = Command::parse();
    let workspace = match workspace::Workspace::find() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let passed = match command {
        Command::Check { only, long } => check::run(&workspace, only.as_deref().unwrap_or_default(), long),
        Command::Lanes => lanes::run(&workspace),
        Command::Loom { preemptions } => loom::run(&workspace, preemptions),
        Command::Soak { kill_rounds: Some(rounds), .. } => match soak::kills(&workspace, rounds) {
            Ok(figures) => {
                println!("{figures}");
                true
            }
            Err(step::Failed(said)) => {
                println!("FAILED\n\n{said}");
                false
            }
        },
        Command::Soak { minutes, .. } => soak::run(&workspace, minutes),
        Command::Tsan { filter, seconds } => {
            tsan::run(&workspace, filter.as_deref().unwrap_or_default(), seconds)
        }
        Command::Fuzz { target, seconds } => fuzz::run(&workspace, target.as_deref(), seconds),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
