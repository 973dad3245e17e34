//! Benches of whole stores. A bench measures, and asserts that what it reads is right; it never asserts a time.
//!
//! Invariant: what is compared runs in one process and one run, by turns, and what the disk can do is measured in it too.
//!
//! ```text
//!   checkpoint-latency   writes with and without continuous checkpoints, and the disk's own syncs at that time
//! ```
#![forbid(unsafe_code)]

mod checkpoint_latency;
mod probe;
mod writers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benches of whole stores.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Latency of writes with continuous checkpoints and without any, by turns in one run.
    CheckpointLatency(checkpoint_latency::Args),
}

/// What a bench fails with: the store, the disk, or a wrong answer.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let result = match Args::parse().bench {
        Bench::CheckpointLatency(args) => checkpoint_latency::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvbench: {error}");
            ExitCode::FAILURE
        }
    }
}
