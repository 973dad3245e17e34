//! `cargo xtask loom`: every model of every crate, and what became of its mutants, as a table.
//!
//! Invariant: a row is printed for every exploration that ended well, and the command succeeds only if all of them did and there is
//! no invariant without a mutant that its models kill.
//!
//! A model is a test in a target called `loom_…`. It prints its rows itself (`pagestone_sync::checking`), one for the code as it is and
//! one for each bug that was planted and found.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use crate::step::{Failed, Step};
use crate::workspace::{Workspace, cargo};

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

/// Runs every model and prints the table.
pub(crate) fn run(workspace: &Workspace, preemptions: Option<usize>) -> bool {
    let began = Instant::now();
    let Some(mut command) = command(workspace) else {
        println!("no test target is called loom_…");
        return false;
    };
    command.args(["--", "--show-output"]);
    if let Some(preemptions) = preemptions {
        command.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
    }
    let said = match Step::default().run(command) {
        Ok(said) => said,
        Err(Failed(said)) => {
            println!("{said}");
            return false;
        }
    };
    let rows = rows(&said);
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
    !rows.is_empty() && unproven.is_empty()
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

/// Builds and runs the targets, if there are any; with a target directory of its own, because every crate is built another way.
/// What follows are arguments of the tests.
pub(crate) fn command(workspace: &Workspace) -> Option<Command> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .env("RUSTFLAGS", "--cfg loom --cfg pagestone_faults")
        .args([
            "test",
            "--release",
            "--config",
            "profile.release.lto=\"off\"",
            "--no-fail-fast",
            "--target-dir",
        ])
        .arg(workspace.target.join("loom"));
    let mut models = workspace.targets("test", "loom_").peekable();
    models.peek()?;
    for (package, target) in models {
        command.args(["--package", &package.name, "--test", &target.name]);
    }
    Some(command)
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
