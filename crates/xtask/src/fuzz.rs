//! The fuzz targets of `fuzz/`, built with the nightly toolchain and run one after the other.
//!
//! Invariant: a target that was not run is said to be so, and an input that fails is kept and named.
//!
//! The folder is laid out as cargo-fuzz wants it, so `cargo +nightly fuzz run TARGET` does the same; nothing here needs it.
//! What a run has found worth keeping stays in `target/fuzz/corpus` and is where the next one begins.

use std::path::Path;
use std::process::Command;

use crate::step::{Failed, Step};
use crate::workspace::Workspace;

/// Coverage of edges and of comparisons for libFuzzer, as cargo-fuzz asks for it, and the sanitizer.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Zsanitizer=address",
];

/// Each target, and the longest input that it is given, in bytes.
const TARGETS: [(&str, u32); 4] = [
    ("page_decode", 8 << 10),
    ("slotted_ops", 4 << 10),
    ("page_file_open", 40 << 10),
    ("mapped_open", 1 << 10),
];

/// Runs each target, or the one of this name, for so many seconds. Prints one line of figures for each.
pub(crate) fn run(workspace: &Workspace, only: Option<&str>, seconds: u64) -> bool {
    let wanted: Vec<_> =
        TARGETS.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if wanted.is_empty() {
        println!("no such target; there are {}", TARGETS.map(|(name, _)| name).join(", "));
        return false;
    }
    let Some(host) = nightly_host() else {
        println!(
            "SKIPPED: nothing was fuzzed, the nightly toolchain is missing: rustup toolchain install nightly"
        );
        return true;
    };
    let release = match build(workspace, &host) {
        Ok(()) => workspace.target.join("fuzz").join(host).join("release"),
        Err(Failed(said)) => {
            println!("{said}\nthe targets were not built; they need a C++ compiler too");
            return false;
        }
    };
    let mut passed = true;
    for (name, longest) in wanted {
        match fuzz(workspace, &release.join(name), name, longest, seconds) {
            Ok(figures) => println!("{name:<16} ok      {figures}"),
            Err(Failed(said)) => {
                println!("{name:<16} FAILED\n\n{said}");
                passed = false;
            }
        }
    }
    passed
}

/// What nightly builds for by default; nothing if there is no nightly.
fn nightly_host() -> Option<String> {
    let output = Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().find_map(|line| line.strip_prefix("host: ")).map(Into::into)
}

fn build(workspace: &Workspace, host: &str) -> Result<(), Failed> {
    let mut command = Command::new("rustup");
    command
        .current_dir(workspace.root.join("fuzz"))
        .args(["run", "nightly", "cargo", "build", "--release", "--target", host, "--target-dir"])
        .arg(workspace.target.join("fuzz"))
        .env("RUSTFLAGS", FLAGS.join(" "))
        // Of the cargo that runs us.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    Step::default().run(command).map(drop)
}

fn fuzz(
    workspace: &Workspace,
    program: &Path,
    name: &str,
    longest: u32,
    seconds: u64,
) -> Result<String, Failed> {
    let kept = |kind: &str| {
        let dir = workspace.target.join("fuzz").join(kind).join(name);
        std::fs::create_dir_all(&dir).map_err(|error| Failed(format!("{}: {error}\n", dir.display())))?;
        Ok(dir)
    };
    let (corpus, artifacts) = (kept("corpus")?, kept("artifacts")?);
    let mut command = Command::new(program);
    command.arg(&corpus).args([
        format!("-artifact_prefix={}/", artifacts.display()),
        format!("-max_len={longest}"),
        format!("-max_total_time={seconds}"),
        "-print_final_stats=1".into(),
    ]);
    Step::default().run(command).map(|said| figures(&said))
}

/// Executions and coverage, out of what libFuzzer says.
fn figures(said: &str) -> String {
    let done = said.lines().find(|line| line.starts_with("Done ")).unwrap_or("no figures");
    let covered = said.lines().rev().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
        Some(format!("{} edges, {} features", after("cov:")?, after("ft:")?))
    });
    format!("{done}, {}", covered.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_fuzzer_says() {
        let said = "#2\tINITED cov: 15 ft: 16 corp: 1/1b exec/s: 0 rss: 40Mb\n\
             #8\tDONE   cov: 25 ft: 30 corp: 3/9b lim: 4 exec/s: 8 rss: 41Mb\n\
             Done 8 runs in 1 second(s)\nstat::number_of_executed_units: 8\n";
        assert_eq!(figures(said), "Done 8 runs in 1 second(s), 25 edges, 30 features");
    }

    #[test]
    fn every_target_of_the_folder_is_run() {
        let manifest = include_str!("../../../fuzz/Cargo.toml");
        let named: Vec<&str> = manifest
            .split("[[bin]]")
            .skip(1)
            .filter_map(|bin| bin.trim_start().strip_prefix("name = \"")?.split('"').next())
            .collect();
        assert_eq!(named, TARGETS.map(|(name, _)| name));
    }
}
