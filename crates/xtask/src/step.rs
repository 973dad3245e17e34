//! One step: commands run one after the other, what they said, and how many tests they counted.

use std::io::Read;
use std::process::Command;

use crate::workspace::{Workspace, cargo};

/// What became of a step so far. The first command that fails ends it.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) tally: Tally,
    /// What is worth a word when all went well.
    pub(crate) notes: Vec<String>,
}

/// Why a step failed: everything that its last command said.
pub(crate) struct Failed(pub(crate) String);

/// Tests, as the test runners count them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Step {
    /// Runs cargo in the workspace. Gives what it said.
    pub(crate) fn cargo(
        &mut self,
        workspace: &Workspace,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<String, Failed> {
        let mut command = cargo();
        command.current_dir(&workspace.root).args(args).envs(env.iter().copied());
        self.run(command)
    }

    /// Runs a command. Gives what it said, on both streams in their order.
    pub(crate) fn run(&mut self, mut command: Command) -> Result<String, Failed> {
        command.env("CARGO_TERM_COLOR", "never").stdin(std::process::Stdio::null());
        let called = format!("{command:?}");
        let (success, said) = capture(command).map_err(|error| Failed(format!("{called}: {error}\n")))?;
        self.tally.add(Tally::read(&said));
        if success { Ok(said) } else { Err(Failed(format!("{said}\n{called} failed\n"))) }
    }
}

fn capture(mut command: Command) -> std::io::Result<(bool, String)> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // Our ends of the pipe stand in the command; as long as they are open the reader sees no end.
    drop(command);
    let mut said = Vec::new();
    reader.read_to_end(&mut said)?;
    Ok((child.wait()?.success(), String::from_utf8_lossy(&said).into_owned()))
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Sums up the result lines of `cargo test` and of `cargo nextest` in what a command said.
    fn read(said: &str) -> Self {
        let mut tally = Self::default();
        for line in said.lines().map(str::trim_start) {
            let counts = match line.strip_prefix("test result:") {
                Some(counts) => counts,
                None if line.starts_with("Summary [") => {
                    line.split_once("run:").map_or("", |(_, counts)| counts)
                }
                None => continue,
            };
            for count in counts.split([';', ',', '.']) {
                let mut words = count.split_whitespace();
                let number = words.next().and_then(|number| number.parse::<u64>().ok());
                match (number, words.next()) {
                    (Some(number), Some("passed")) => tally.passed += number,
                    (Some(number), Some("failed" | "timed" | "exec")) => tally.failed += number,
                    _ => {}
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_of_both_runners_are_counted() {
        let said = "running 2 tests\n\
             test result: ok. 21 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 1.08s\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(Tally::read(said), Tally { passed: 25, failed: 2 });
        let said = "     Summary [   1.234s] 30 tests run: 26 passed (1 slow), 3 failed, 1 timed out, 7 skipped\n\
             a test printed: Summary of 9 passed\n";
        assert_eq!(Tally::read(said), Tally { passed: 26, failed: 4 });
        assert_eq!(
            Tally::read("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped"),
            Tally { passed: 1, failed: 0 }
        );
    }

    #[test]
    fn both_streams_are_kept_and_failure_is_failure() {
        let mut step = Step::default();
        let mut command = cargo();
        command.arg("--version");
        let said = step.run(command);
        assert!(said.is_ok_and(|said| said.starts_with("cargo")));
        let mut command = cargo();
        command.arg("no-such-command");
        assert!(step.run(command).is_err_and(|failed| failed.0.contains("no-such-command")));
        let command = Command::new("/nowhere/no-such-program");
        assert!(step.run(command).is_err_and(|failed| failed.0.contains("no-such-program")));
    }
}
