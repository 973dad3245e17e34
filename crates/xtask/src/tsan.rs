//! `cargo xtask tsan`: the tests that race threads, under ThreadSanitizer, with a standard library that is built for it too.
//!
//! Invariant: one report fails the run, there is no list of reports that do not count, and what is missing is said in capitals; what
//! did not run is never taken for clean.
//!
//! ThreadSanitizer sees a race between two accesses of which one is no atomic, and it does not see `fence`. Here that is just what it
//! is for: bytes that race are relaxed atomics, which are no race to it, and their order is loom's to explore
//! (`cargo xtask loom`). So a report is a byte that should have been an atomic, or memory that was handed over by nothing but a fence.
//! Neither may be. Nor does it see what the kernel does to a buffer.
//!
//! ```text
//!   tests      the targets of `RACES`, once each
//!   soak_…     examples, for as long as they are told: the pool with 8 threads, 64 frames, 10 000 pages; with 256 and a page provider
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::step::{Failed, Step};
use crate::workspace::Workspace;

/// It has a sanitizer runtime for others too; nobody has tried them.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What races threads: the package, and the test target, or the library's own tests that are named so.
const RACES: [(&str, Races); 22] = [
    ("pagestone-telemetry", Races::Library("")),
    ("pagestone-threading", Races::Library("")),
    ("pagestone-swip", Races::Library("atomic")),
    ("pagestone-hybrid-latch", Races::Test("a_panic_poisons")),
    ("pagestone-hybrid-latch", Races::Test("nobody_sleeps_for_ever")),
    ("pagestone-hybrid-latch", Races::Test("validated_reads_are_whole")),
    ("pagestone-direct-io", Races::Test("backends_agree")),
    ("pagestone-buffer-pool", Races::Test("pages_survive_eviction_under_threads")),
    ("pagestone-buffer-pool", Races::Test("failures_leave_the_pool_whole")),
    ("pagestone-wal", Races::Test("concurrent_commits_are_all_found")),
    ("pagestone-wal", Races::Test("writers_slow_down_before_the_log_is_full")),
    ("pagestone-allocator", Races::Test("no_id_has_two_owners")),
    ("pagestone-allocator", Races::Test("threads_share_no_id")),
    ("pagestone-allocator", Races::Test("ids_change_threads")),
    ("pagestone-btree", Races::Test("batches_lose_no_update")),
    ("pagestone-store", Races::Test("threads_lose_no_update")),
    ("pagestone-store", Races::Test("calls_on_a_key_have_one_order")),
    ("pagestone-store", Races::Test("merges_beside_readers_lose_nothing")),
    ("pagestone-store", Races::Test("changes_on_condition_lose_nothing")),
    ("pagestone-store", Races::Test("ranges_go_whole_whatever_cuts_them")),
    ("pagestone-store", Races::Test("named_trees_survive_threads")),
    ("pagestone-store", Races::Test("checkpoints_never_stop_writers")),
];

/// Examples that go on for `--seconds N`.
const SOAKS: [(&str, &str); 1] = [("pagestone-buffer-pool", "soak_pool")];

#[derive(Clone, Copy)]
enum Races {
    Test(&'static str),
    Library(&'static str),
}

/// Runs what has `filter` in its package's or target's name. Prints a line for each. A machine that cannot is no failure, and is told.
pub(crate) fn run(workspace: &Workspace, filter: &str, seconds: u64) -> bool {
    if let Some(missing) = missing() {
        println!("SKIPPED, NOTHING WAS PROVED: {missing}");
        return true;
    }
    let (mut clean, mut failed) = (0, 0);
    let mut count = |name: &str, result: Result<String, Failed>| match result {
        Ok(figures) => {
            println!("{name:<68} clean   {figures}");
            clean += 1;
        }
        Err(Failed(said)) => {
            println!("{name:<68} FAILED\n\n{said}");
            failed += 1;
        }
    };
    let wanted = |package: &str, target: &str| package.contains(filter) || target.contains(filter);
    for (package, races) in RACES {
        let (target, args): (&str, &[&str]) = match races {
            Races::Test(target) => (target, &["--test", target]),
            Races::Library(tests) => (tests, &["--lib", tests]),
        };
        if wanted(package, target) {
            count(&format!("{package} {target}"), tests(workspace, package, args));
        }
    }
    for (package, example) in SOAKS {
        if wanted(package, example) {
            count(&format!("{package} {example}"), soak(workspace, package, example, seconds));
        }
    }
    println!("{clean} clean, {failed} failed");
    if clean + failed == 0 {
        println!("nothing is called so");
    }
    clean > 0 && failed == 0
}

/// What this machine lacks, and how to get it.
fn missing() -> Option<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some(format!("this is not {TARGET}"));
    }
    let Some(sysroot) = sysroot() else {
        return Some("the nightly toolchain is missing: rustup toolchain install nightly".into());
    };
    let sources = sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml");
    (!sources.is_file()).then(|| {
        "the nightly toolchain has no sources of its standard library: rustup component add rust-src --toolchain nightly".into()
    })
}

fn sysroot() -> Option<PathBuf> {
    let output =
        Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output().ok()?;
    output.status.success().then(|| Path::new(String::from_utf8_lossy(&output.stdout).trim()).into())
}

/// The tests of a target, beside each other as always.
fn tests(workspace: &Workspace, package: &str, args: &[&str]) -> Result<String, Failed> {
    let began = Instant::now();
    let mut step = Step::default();
    let mut command = nightly(workspace, "test");
    command.args(["--package", package]).args(args);
    let said = step.run(command)?;
    clean(&said)?;
    match step.tally.passed {
        0 => Err(Failed("no test ran\n".into())),
        passed => Ok(format!("{passed} tests, {:.0} s with the build", began.elapsed().as_secs_f64())),
    }
}

/// An example; gives its last line.
fn soak(workspace: &Workspace, package: &str, example: &str, seconds: u64) -> Result<String, Failed> {
    let mut command = nightly(workspace, "run");
    command.args(["--quiet", "--package", package, "--example", example, "--"]);
    command.args(["--seconds", &seconds.to_string()]);
    let said = Step::default().run(command)?;
    clean(&said)?;
    Ok(said.lines().next_back().unwrap_or_default().into())
}

/// Nothing that ran wrote a report. A process that wrote one fails as well; one that was started by a test may not be asked.
fn clean(said: &str) -> Result<(), Failed> {
    if said.contains("WARNING: ThreadSanitizer") { Err(Failed(said.into())) } else { Ok(()) }
}

/// Cargo of the nightly toolchain, building everything for the sanitizer, in a target directory of its own. As `check` builds: debug
/// assertions are worth more here than speed.
fn nightly(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(&workspace.root)
        .args(["run", "nightly", "cargo", subcommand, "-Zbuild-std", "--target", TARGET, "--target-dir"])
        .arg(workspace.target.join("tsan"))
        .env("RUSTFLAGS", "-Zsanitizer=thread")
        // Longer stacks of the other access; a report ends the process at its end with its own number.
        .env("TSAN_OPTIONS", "history_size=4 second_deadlock_stack=1 exitcode=66")
        // Of the cargo that runs us.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_failure_whoever_wrote_it() {
        assert!(clean("test result: ok. 3 passed; 0 failed\n").is_ok());
        let said =
            "WARNING: ThreadSanitizer: data race (pid=7)\n  Write of size 8\ntest result: ok. 3 passed\n";
        assert!(clean(said).is_err_and(|failed| failed.0 == said));
    }

    #[test]
    fn what_is_run_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let dir = |package: &str| root.join(package.strip_prefix("pagestone-").expect("a crate of ours"));
        for (package, races) in RACES {
            let source = match races {
                Races::Test(target) => dir(package).join("tests").join(format!("{target}.rs")),
                Races::Library(_) => dir(package).join("src/lib.rs"),
            };
            assert!(source.is_file(), "{}", source.display());
        }
        for (package, example) in SOAKS {
            assert!(dir(package).join("examples").join(format!("{example}.rs")).is_file(), "{example}");
        }
    }
}
