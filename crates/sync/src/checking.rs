//! Runs a model and its mutants, under `--cfg loom` alone.
//!
//! Invariant: a model counts only if it can fail: it passes as the code is, and fails, with the finding that is named beside it,
//! with each of the bugs planted that it is there to catch.
//!
//! ```text
//!   #[test] fn no_wake_up_is_lost          explores the code as it is
//!        │  for each bug: the same test in a process of its own
//!        └──► no_wake_up_is_lost plant=…   plants the bug, explores, must fail with the finding
//! ```
//!
//! A process each, because a deadlock, which is what a lost wake-up is here, ends one: it unwinds through held guards.
//! With `--cfg shuttle` beside it, a model is tried at random, as often as it says where others say how many preemptions
//! (`at_random.rs`).
//!
//! Every exploration prints one line that begins with [`ROW`], tabs between its fields; `cargo xtask loom` makes a table of them.
//!
//! Two arguments that the test runner knows mean more here. `--skip mutants` leaves the mutants out, for bounds that they need not be
//! tried with. `--skip at_length`, which leaves out the tests of such names, cuts every exploration of the others after
//! [`CUT`] executions: that is what the check does, and a row that was cut says so.

use std::cell::Cell;
use std::process::Command;
#[cfg(not(shuttle))]
use std::sync::Arc;
#[cfg(not(shuttle))]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How a line for the table begins.
pub const ROW: &str = "loom-row";
/// What a deadlock is reported as.
pub const DEADLOCK: &str = "deadlock; threads =";

/// Executions of an exploration that is cut.
#[cfg(not(shuttle))]
const CUT: usize = 5_000;
/// Steps of one execution at most: a model that takes more does not end.
#[cfg(not(shuttle))]
const MAX_BRANCHES: usize = 50_000;

thread_local! {
    /// Executions of the model that this thread is in, and whether they were all.
    static EXECUTIONS: Cell<(u64, bool)> = const { Cell::new((0, true)) };
}

/// A model, and the bugs that it must find.
#[derive(Debug)]
pub struct Model {
    invariant: &'static str,
    test: &'static str,
    preemptions: usize,
    bugs: Vec<(&'static str, &'static [&'static str])>,
}

/// A model of `invariant`, run by the test of this path in its binary, with at most so many preemptions in an execution.
pub fn model(invariant: &'static str, test: &'static str, preemptions: usize) -> Model {
    Model { invariant, test, preemptions, bugs: Vec::new() }
}

impl Model {
    /// With `bug` planted the model must fail, and say one of `findings`.
    pub fn catches(mut self, bug: &'static str, findings: &'static [&'static str]) -> Self {
        self.bugs.push((bug, findings));
        self
    }

    /// Explores `body`, as it is and with each bug.
    pub fn check(self, body: impl Fn() + Send + Sync + 'static) {
        self.run(|preemptions| explore(preemptions, body));
    }

    /// As [`Model::check`], for a body that calls [`explore`] itself, once or several times, with the bound that it is given.
    pub fn run(self, body: impl FnOnce(usize)) {
        let mut args = std::env::args();
        if let Some(bug) = args.find_map(|arg| arg.strip_prefix("plant=").map(str::to_owned)) {
            assert!(self.bugs.iter().any(|(own, _)| *own == bug), "no bug of this model: {bug}");
            plant(&bug);
            return body(self.preemptions);
        }
        EXECUTIONS.set((0, true));
        let began = Instant::now();
        body(self.preemptions);
        let (executions, all) = EXECUTIONS.get();
        self.print(&format!("{executions}{}", if all { "" } else { ", cut" }), began, "-", "-");
        if skips("mutants") {
            return;
        }
        for (bug, findings) in &self.bugs {
            let began = Instant::now();
            self.must_find(bug, findings);
            self.print("-", began, bug, "yes");
        }
    }

    fn must_find(&self, bug: &str, findings: &[&str]) {
        let child = Command::new(std::env::current_exe().expect("a test has a file"))
            .args(["--exact", self.test, &format!("plant={bug}"), "--nocapture"])
            .env("RUST_BACKTRACE", "0")
            .env_remove("LOOM_MAX_PREEMPTIONS")
            .env_remove("LOOM_MAX_DURATION")
            .output()
            .expect("a test can run itself");
        let said =
            [child.stdout, child.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(!child.status.success(), "{} passes although {bug}: {said}", self.test);
        let found = findings.iter().any(|finding| said.contains(finding));
        assert!(found, "{} failed otherwise although {bug}: {said}", self.test);
    }

    fn print(&self, executions: &str, since: Instant, bug: &str, killed: &str) {
        let bound = bound(self.preemptions);
        let (invariant, test, seconds) = (self.invariant, self.test, since.elapsed().as_secs_f64());
        println!("{ROW}\t{invariant}\t{test}\t{bound}\t{executions}\t{seconds:.1}\t{bug}\t{killed}");
    }
}

#[cfg(pagestone_faults)]
use crate::faults::plant;

#[cfg(not(pagestone_faults))]
fn plant(_: &str) {
    panic!("mutants need --cfg pagestone_faults");
}

fn skips(what: &str) -> bool {
    let args: Vec<String> = std::env::args().collect();
    args.windows(2).any(|pair| pair[0] == "--skip" && pair[1] == what)
}

/// So many executions of the model are done, and whether they were all.
pub(crate) fn note_executions(executions: u64, all: bool) {
    let (before, all_before) = EXECUTIONS.get();
    EXECUTIONS.set((before + executions, all_before && all));
}

#[cfg(shuttle)]
use crate::at_random::bound;
#[cfg(shuttle)]
pub use crate::at_random::explore;

/// What `LOOM_MAX_PREEMPTIONS` says, if it says anything.
#[cfg(not(shuttle))]
fn bound(preemptions: usize) -> usize {
    loom::model::Builder::new().preemption_bound.unwrap_or(preemptions)
}

/// Runs `body` in every interleaving with at most so many preemptions, within what DPOR tells apart. `LOOM_MAX_PREEMPTIONS` sets
/// another bound.
#[cfg(not(shuttle))]
pub fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound(preemptions));
    builder.max_branches = MAX_BRANCHES;
    builder.checkpoint_interval = 1000; // how often it looks at its limits
    let limited = skips("at_length");
    if limited {
        builder.max_permutations = Some(CUT);
    }
    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let executed = executions.load(Ordering::Relaxed);
    // Loom counts from one.
    note_executions(executed, !(limited && executed + 1 >= CUT as u64));
}
