//! The long forms: what `check` does quickly, for as long as it is told.
//!
//! A long form is one of three things, found by its name, and needs no switch in the code that it tests:
//!
//! * the property tests, again and again with many more cases, each round from other seeds;
//! * the loom models, with one preemption more than their quick bounds;
//! * an example called `soak_…` of any package, in release: it takes `--seconds N`, runs for about so long, prints figures
//!   in its last line, and fails if a promise was broken. Loops over killed processes, crash images and real file systems
//!   are of this kind.

use std::time::{Duration, Instant};

use crate::loom;
use crate::step::{Failed, Step, Tally};
use crate::workspace::{Workspace, cargo};

/// Cases of each property in a round; a test's own default is 256.
const CASES: &str = "20000";
/// Preemptions in a loom model; each more multiplies the time.
const PREEMPTIONS: &str = "5";

/// The example that kills processes.
const KILLS: &str = "soak_kills";

/// Runs each long form for its share of the time. Prints one line of figures for each.
pub(crate) fn run(workspace: &Workspace, minutes: u64) -> bool {
    let examples: Vec<_> = workspace.targets("example", "soak_").collect();
    let share = Duration::from_secs(minutes.saturating_mul(60)) / (examples.len() as u32 + 2);
    println!("{} long forms, {} s each", examples.len() + 2, share.as_secs());
    let mut total = Tally::default();
    let mut count = |name: &str, result: Result<String, Failed>| match result {
        Ok(figures) => {
            println!("{name:<26} ok      {figures}");
            total.passed += 1;
        }
        Err(Failed(said)) => {
            println!("{name:<26} FAILED\n\n{said}");
            total.failed += 1;
        }
    };
    count("properties", properties(workspace, share));
    count("loom models", loom_models(workspace, share));
    for (package, target) in examples {
        count(
            &target.name,
            example(workspace, &package.name, &target.name, ["--seconds", &share.as_secs().to_string()]),
        );
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

/// All tests, round after round until the time is over; the last round is finished. Built as `check` builds them: debug
/// assertions are worth more here than speed.
fn properties(workspace: &Workspace, share: Duration) -> Result<String, Failed> {
    let begun = Instant::now();
    let mut step = Step::default();
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < share {
        let test = ["test", "--workspace", "--lib", "--bins", "--tests"];
        step.cargo(workspace, &test, &[("PROPTEST_CASES", CASES)])?;
        rounds += 1;
    }
    let seconds = begun.elapsed().as_secs();
    Ok(format!("{rounds} rounds, {} tests, {CASES} cases each, {seconds} s", step.tally.passed))
}

/// Once through every model. Mutants are left to `check`: they prove that a model can fail, and only a bound that lets them
/// finish shows that.
fn loom_models(workspace: &Workspace, share: Duration) -> Result<String, Failed> {
    let mut command = loom::command(workspace, loom::Checker::Loom)?;
    let begun = Instant::now();
    let mut step = Step::default();
    command.args(["--", "--skip", "mutants", "--skip", loom::AT_LENGTH]);
    command.env("LOOM_MAX_PREEMPTIONS", PREEMPTIONS);
    // Each of some hundred searches gives up after that.
    command.env("LOOM_MAX_DURATION", (share.as_secs() / 100).max(1).to_string());
    step.run(command)?;
    Ok(format!("{} models, {PREEMPTIONS} preemptions, {} s", step.tally.passed, begun.elapsed().as_secs()))
}

/// Kills so many processes of the example store, writers of batches and imports; gives the figures.
pub(crate) fn kills(workspace: &Workspace, rounds: u64) -> Result<String, Failed> {
    example(workspace, "kvstore", KILLS, ["--rounds", &rounds.to_string()])
}

/// All other examples for so many seconds each: their names and figures.
pub(crate) fn examples_but_kills(
    workspace: &Workspace,
    seconds: u64,
) -> Result<Vec<(String, String)>, Failed> {
    let others = workspace.targets("example", "soak_").filter(|(_, target)| target.name != KILLS);
    others
        .map(|(package, target)| {
            let args = ["--seconds", &seconds.to_string()];
            Ok((target.name.clone(), example(workspace, &package.name, &target.name, args)?))
        })
        .collect()
}

/// Runs an example in release; gives its last line.
fn example(workspace: &Workspace, package: &str, example: &str, args: [&str; 2]) -> Result<String, Failed> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["run", "--quiet", "--release", "--package", package, "--example", example, "--"])
        .args(args);
    Step::default().run(command).map(last_line)
}

fn last_line(said: String) -> String {
    said.lines().next_back().unwrap_or_default().into()
}
