//! `cargo xtask loom`: every model of every crate, and what became of its mutants, as a table.
//!
//! Invariant: a row is printed for every exploration that ended well, and the command succeeds only if all of them did and there is
//! no invariant without a mutant that its models kill.
//!
//! A model is a test in a target called `loom_…`, or `shuttle_…` where it has more interleavings than loom can try. It prints its rows itself (`pagestone_sync::checking`), one for the code as it is and
//! one for each bug that was planted and found.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use crate::step::{Failed, Step};
use crate::workspace::{Workspace, cargo};

/// What tries the interleavings of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checker {
    /// All of them, up to a bound of preemptions, in the C11 memory model.
    Loom,
    /// Some of them, at random, of models that have too many.
    Shuttle,
}

impl Checker {
    /// How the names of its test targets begin.
    fn targets(self) -> &'static str {
        match self {
            Self::Loom => "loom_",
            Self::Shuttle => "shuttle_",
        }
    }

    /// Every crate is built another way for each, so each has a target directory of its own, called so.
    fn directory(self) -> &'static str {
        self.targets().trim_end_matches('_')
    }

    fn flags(self) -> &'static str {
        match self {
            Self::Loom => "--cfg loom --cfg pagestone_faults",
            Self::Shuttle => "--cfg loom --cfg shuttle --cfg pagestone_faults",
        }
    }
}

/// How a row begins in what the tests say.
const ROW: &str = "loom-row\t";
/// Ends the names of the tests that the check leaves out.
pub(crate) const AT_LENGTH: &str = "at_length";

/// One line of the table: the columns as the test printed them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    invariant: String,
    model: String,
    preemptions: String,
    executions: String,
    seconds: String,
    mutant: String,
    killed: String,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let mut columns = line.strip_prefix(ROW)?.split('\t').map(str::to_owned);
        let mut next = || columns.next();
        Some(Self {
            invariant: next()?,
            model: next()?,
            preemptions: next()?,
            executions: next()?,
            seconds: next()?,
            mutant: next()?,
            killed: next()?,
        })
    }

    fn columns(&self) -> [&str; 7] {
        [
            &self.invariant,
            &self.model,
            &self.preemptions,
            &self.executions,
            &self.seconds,
            &self.mutant,
            &self.killed,
        ]
    }
}

/// The rows in what the tests said.
pub(crate) fn rows(said: &str) -> Vec<Row> {
    said.lines().filter_map(Row::read).collect()
}

/// The invariants whose models no mutant proves able to fail.
pub(crate) fn without_mutant(rows: &[Row]) -> Vec<&str> {
    let killed: BTreeSet<&str> =
        rows.iter().filter(|row| row.killed == "yes").map(|row| row.invariant.as_str()).collect();
    let invariants: BTreeSet<&str> = rows.iter().map(|row| row.invariant.as_str()).collect();
    invariants.difference(&killed).copied().collect()
}

/// Runs every model of both checkers and prints the table.
pub(crate) fn run(workspace: &Workspace, preemptions: Option<usize>) -> bool {
    let began = Instant::now();
    let mut rows = Vec::new();
    for checker in [Checker::Loom, Checker::Shuttle] {
        let preemptions = preemptions.filter(|_| checker == Checker::Loom);
        match explore(workspace, checker, preemptions) {
            Ok(more) => rows.extend(more),
            Err(Failed(said)) => {
                println!("{said}");
                return false;
            }
        }
    }
    print(&rows);
    let mutants = rows.iter().filter(|row| row.killed == "yes").count();
    println!(
        "\n{} models, {mutants} mutants killed, {:.0} s",
        rows.len() - mutants,
        began.elapsed().as_secs_f64()
    );
    let unproven = without_mutant(&rows);
    unproven
        .iter()
        .for_each(|invariant| println!("no mutant shows that a model of this can fail: {invariant}"));
    unproven.is_empty()
}

/// What became of every model of one checker; at least one.
fn explore(workspace: &Workspace, checker: Checker, preemptions: Option<usize>) -> Result<Vec<Row>, Failed> {
    let mut command = command(workspace, checker)?;
    command.args(["--", "--show-output"]);
    if let Some(preemptions) = preemptions {
        command.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
    }
    match rows(&Step::default().run(command)?) {
        none if none.is_empty() => Err(Failed(format!("no model is under {}\n", checker.directory()))),
        rows => Ok(rows),
    }
}

fn print(rows: &[Row]) {
    let heads = ["invariant", "model", "preemptions", "executions", "seconds", "mutant", "killed"];
    let width = |column: usize| {
        let lengths = rows.iter().map(|row| row.columns()[column].chars().count());
        lengths.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    for columns in [heads].into_iter().chain(rows.iter().map(Row::columns)) {
        let line: Vec<String> =
            columns.iter().zip(widths).map(|(column, width)| format!("{column:width$}")).collect();
        println!("{}", line.join("  ").trim_end());
    }
}

/// Builds and runs a checker's targets. What follows are arguments of the tests.
pub(crate) fn command(workspace: &Workspace, checker: Checker) -> Result<Command, Failed> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .env("RUSTFLAGS", checker.flags())
        .args([
            "test",
            "--release",
            "--config",
            "profile.release.lto=\"off\"",
            "--no-fail-fast",
            "--target-dir",
        ])
        .arg(workspace.target.join(checker.directory()));
    let mut models = workspace.targets("test", checker.targets()).peekable();
    if models.peek().is_none() {
        return Err(Failed(format!("no test target is called {}…", checker.targets())));
    }
    for (package, target) in models {
        command.args(["--package", &package.name, "--test", &target.name]);
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_an_invariant_without_a_killed_mutant_is_told() {
        let said = "test one ... ok\n\
             loom-row\tP1\tone\t2\t100\t0.5\t-\t-\n\
             loom-row\tP1\tone\t2\t-\t0.1\ta fence is missing\tyes\n\
             loom-row\tP2\ttwo\t3\t7\t0.5\t-\t-\n\
             loom-row\tP2\ttwo_at_length\t4\t9\t0.5\t-\t-\n\
             loom-row\tcut off\n";
        let rows = rows(said);
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[1].columns(), ["P1", "one", "2", "-", "0.1", "a fence is missing", "yes"]);
        assert_eq!(without_mutant(&rows), ["P2"]);
    }
}
