//! The steps of `cargo xtask check`, quick ones first, and those that `--long` adds.
//!
//! Invariant: a step that fails ends the check, shows everything that its last command said, and fails the command.

use std::io::Write;
use std::time::Instant;

use crate::loom::Checker;
use crate::step::{Failed, Step, Tally};
use crate::workspace::{Workspace, cargo};
use crate::{downstream, loom, soak, unsafe_fence};

type Body = fn(&Workspace, &mut Step) -> Result<(), Failed>;

const STEPS: [(&str, Body); 15] = [
    ("tools", tools),
    ("fmt", fmt),
    ("unsafe fence", unsafe_fence::step),
    ("clippy", clippy),
    ("doc", doc),
    ("floors", floors),
    ("tests", tests),
    ("optional features", optional_features),
    ("doctests", doctests),
    ("loom models", loom_models),
    ("shuttle models", shuttle_models),
    ("planted bugs", planted_bugs),
    ("layers alone", layers_alone),
    ("no metrics, no telemetry", no_telemetry),
    ("downstream crates", downstream::step),
];

/// What the long form does after these.
const LONG_STEPS: [(&str, Body); 2] = [("killed processes", killed_processes), ("long forms", long_forms)];
/// Processes that the long form kills.
const KILL_ROUNDS: u64 = 300;
/// Seconds that it gives to each of the other long forms of `soak`.
const LONG_SECONDS: u64 = 60;

/// Runs every step whose name begins with `only`, those of the long form too if it is `long`. The last line says how many tests and
/// other steps passed and failed, as test runners do.
pub(crate) fn run(workspace: &Workspace, only: &str, long: bool) -> bool {
    let begun = Instant::now();
    let mut total = Tally::default();
    let steps = STEPS.iter().chain(LONG_STEPS.iter().filter(|_| long));
    for (name, body) in steps.filter(|(name, _)| name.starts_with(only)) {
        print!("{name:<26}");
        flush();
        let begun = Instant::now();
        let mut step = Step::default();
        let result = body(workspace, &mut step);
        let seconds = begun.elapsed().as_secs_f64();
        let mut tally = step.tally;
        match result {
            Ok(()) => {
                // A step that runs no tests is one itself.
                if tally == Tally::default() {
                    tally.passed = 1;
                } else {
                    step.notes.push(format!("{} tests", tally.passed));
                }
                println!("ok {seconds:>8.1} s   {}", step.notes.join(", "));
                total.add(tally);
            }
            Err(Failed(said)) => {
                println!("FAILED {seconds:>4.1} s\n\n{said}");
                println!("the check failed at: {name}");
                tally.failed = tally.failed.max(1);
                total.add(tally);
                break;
            }
        }
    }
    println!("{:.0} s in all", begun.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    // A name that no step has passes nothing.
    total.failed == 0 && total.passed > 0
}

fn flush() {
    // Nothing is lost if the terminal is gone.
    let _ = std::io::stdout().flush();
}

/// Says what is missing before anything is built.
fn tools(_: &Workspace, step: &mut Step) -> Result<(), Failed> {
    for (component, args) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        let mut command = cargo();
        command.args(args);
        step.run(command).map_err(|Failed(said)| {
            Failed(format!("{said}\n{component} is missing: rustup component add {component}\n"))
        })?;
    }
    if !has_nextest(step) {
        step.notes.push("cargo-nextest is not installed, cargo test does its work".into());
    }
    Ok(())
}

fn has_nextest(step: &mut Step) -> bool {
    let mut command = cargo();
    command.args(["nextest", "--version"]);
    step.run(command).is_ok()
}

fn fmt(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    step.cargo(workspace, &["fmt", "--all", "--check"], &[]).map(drop)
}

fn clippy(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    step.cargo(
        workspace,
        &["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"],
        &[],
    )
    .map(drop)
}

fn doc(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    step.cargo(workspace, &["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]).map(drop)
}

/// The direction of the arrows, before the tests that may take long.
fn floors(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    step.cargo(workspace, &["test", "--package", env!("CARGO_PKG_NAME"), "--test", "floors"], &[])
        .map(drop)?;
    // The tests run these again and count them then.
    step.tally = Tally::default();
    Ok(())
}

fn tests(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    let args: &[&str] = if has_nextest(step) {
        &["nextest", "run", "--workspace", "--no-fail-fast"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]
    };
    step.cargo(workspace, args, &[]).map(drop)?;
    match step.tally {
        Tally { passed: 0, .. } => Err(Failed("no test ran".into())),
        Tally { failed: 0, .. } => Ok(()),
        Tally { failed, .. } => Err(Failed(format!("{failed} tests failed and the runner did not say so"))),
    }
}

/// Unit tests of the layers that have a feature which no default build has.
fn optional_features(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    const DEFAULT: [&str; 2] = ["default", "metrics"];
    let optional = |feature: &String| !DEFAULT.contains(&feature.as_str());
    for package in workspace.crates().filter(|package| package.name != "pagestone") {
        if package.features.iter().any(optional) {
            step.cargo(workspace, &["test", "--package", &package.name, "--all-features", "--lib"], &[])?;
        }
    }
    match step.tally {
        Tally { passed: 0, .. } => Err(Failed("no layer has an optional feature with a test".into())),
        _ => Ok(()),
    }
}

fn doctests(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    step.cargo(workspace, &["test", "--workspace", "--doc", "--no-fail-fast"], &[]).map(drop)
}

/// Every test target that is called `loom_…`, on the production types, long explorations cut; every model with its mutants.
fn loom_models(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    models(workspace, step, Checker::Loom)
}

/// Every test target that is called `shuttle_…`; every model with its mutants.
fn shuttle_models(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    models(workspace, step, Checker::Shuttle)
}

fn models(workspace: &Workspace, step: &mut Step, checker: Checker) -> Result<(), Failed> {
    let mut command = loom::command(workspace, checker)?;
    command.args(["--", "--show-output", "--skip", loom::AT_LENGTH]);
    let rows = loom::rows(&step.run(command)?);
    match loom::without_mutant(&rows)[..] {
        _ if rows.is_empty() => Err(Failed("no model ran\n".into())),
        [] => Ok(()),
        ref invariants => {
            Err(Failed(format!("no mutant shows that a model of these can fail: {invariants:?}\n")))
        }
    }
}

/// Every test target that is called `planted_…`: crash tests that must fail once a bug is planted; with a target directory of its own.
fn planted_bugs(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    let mut targets = workspace.targets("test", "planted_").peekable();
    if targets.peek().is_none() {
        return Err(Failed("no test target is called planted_…\n".into()));
    }
    let mut command = cargo();
    command.current_dir(&workspace.root).env("RUSTFLAGS", "--cfg pagestone_faults");
    command.args(["test", "--no-fail-fast", "--target-dir"]).arg(workspace.target.join("faults"));
    for (package, target) in targets {
        command.args(["--package", &package.name, "--test", &target.name]);
    }
    step.run(command)?;
    match step.tally.passed {
        0 => Err(Failed("no test ran\n".into())),
        _ => Ok(()),
    }
}

/// Each crate by itself and without its default features, and the facade with each layer alone.
fn layers_alone(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    let mut alone = 0;
    for package in workspace.crates() {
        let check = ["check", "--package", &package.name, "--no-default-features"];
        step.cargo(workspace, &check, &[])?;
        alone += 1;
        if package.name == "pagestone" {
            for feature in package.features.iter().filter(|feature| *feature != "default") {
                step.cargo(workspace, &[&check[..], &["--features", feature]].concat(), &[])?;
                alone += 1;
            }
        }
    }
    step.notes.push(format!("{alone} builds"));
    Ok(())
}

fn no_telemetry(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    const TELEMETRY: &str = "fast-telemetry";
    let tree = ["tree", "--edges", "normal", "--prefix", "none", "--package", "pagestone"];
    let names = |said: &str| said.lines().any(|line| line.split_whitespace().next() == Some(TELEMETRY));
    let without = [&tree[..], &["--no-default-features", "--features", "all"]].concat();
    let said = step.cargo(workspace, &without, &[])?;
    if names(&said) {
        return Err(Failed(format!("{said}\n{TELEMETRY} is in the graph of a build without metrics\n")));
    }
    // If it were nowhere, the search above would prove nothing.
    let said = step.cargo(workspace, &tree, &[])?;
    if !names(&said) {
        return Err(Failed(format!("{said}\n{TELEMETRY} is not in the graph of a default build\n")));
    }
    Ok(())
}

/// Writers and imports killed at random instants, and nothing lost that they acknowledged.
fn killed_processes(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    step.notes.push(soak::kills(workspace, KILL_ROUNDS)?);
    Ok(())
}

/// The examples that `soak` runs, each for a while: crash images, flips, damage, histories.
fn long_forms(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    for (name, figures) in soak::examples_but_kills(workspace, LONG_SECONDS)? {
        step.notes.push(format!("\n    {name}: {figures}"));
    }
    Ok(())
}
