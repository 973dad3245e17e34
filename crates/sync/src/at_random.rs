//! Some of the interleavings of a body that has more than can be tried, under `--cfg loom --cfg shuttle`.
//!
//! Invariant: an execution follows from what its schedulers drew, and a failure prints the schedule that shuttle replays. What is not
//! found may still be there.

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::checking::note_executions;

/// A coroutine runs what a thread would run.
const STACK: usize = 1 << 20;
/// Of one execution: one that takes more does not end.
const STEPS: usize = 20_000_000;
/// Points at which an execution of the second half changes which thread goes first.
const DEPTH: usize = 4;

/// As it is: so many executions.
pub(crate) fn bound(executions: usize) -> usize {
    executions
}

/// Runs `body` so many times: half of them by a scheduler that picks at random, half by probabilistic concurrency testing (Burckhardt
/// et al., *A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs*, ASPLOS 2010).
pub fn explore(executions: usize, body: impl Fn() + Send + Sync + 'static) {
    let config = || {
        let mut config = Config::new();
        config.stack_size = STACK;
        config.max_steps = MaxSteps::FailAfter(STEPS);
        config
    };
    let (half, body) = (executions.div_ceil(2), Arc::new(body));
    let again = Arc::clone(&body);
    let ran = Runner::new(RandomScheduler::new(half), config()).run(move || again());
    let ran_by_priority = Runner::new(PctScheduler::new(DEPTH, half), config()).run(move || body());
    note_executions((ran + ran_by_priority) as u64, true);
}
