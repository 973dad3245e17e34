//! The one loop that owns every retry.
//!
//! Invariant: a step is taken again only here, with no latch held. The pages that it faulted on stay pinned meanwhile, so that
//! every fault is progress: eviction, which prefers clean pages, would else take the way down as fast as it is read. An operation
//! pins at most [`PINS`] pages this way, and lets go of all of them before it waits for a frame.

use pagestone_buffer_pool::{Pin, Restart};
use pagestone_page_format::PageError;
use pagestone_sync::{hint, thread};

use crate::TreeResult;
use crate::descend::Hold;
use crate::error::Interrupt;
use crate::tree::TreeEnv;

/// Faulted pages kept pinned at once: more than a tree has levels, but for keys near their limit.
const PINS: usize = 12;
/// Conflicts after which an operation takes latches on the way down.
const PATIENCE: u32 = 16;

/// How patient an attempt still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Nothing is written on the way down; everything is validated.
    Optimistic,
    /// Latches, top down, the parent's until the child's is taken: slower, but it arrives.
    Latched,
}

impl Attempt {
    /// How a reader holds the nodes on its way.
    pub(crate) fn reading(self) -> Hold {
        match self {
            Self::Optimistic => Hold::Optimistic,
            Self::Latched => Hold::Shared,
        }
    }

    /// How a writer holds them.
    pub(crate) fn writing(self) -> Hold {
        match self {
            Self::Optimistic => Hold::Optimistic,
            Self::Latched => Hold::Exclusive,
        }
    }
}

/// Takes `step` until it gives an answer or an error.
#[inline]
pub(crate) fn optimistically<T>(
    env: &TreeEnv,
    mut step: impl FnMut(Attempt) -> Result<T, Interrupt>,
) -> TreeResult<T> {
    env.check_open()?;
    env.check_kept()?;
    // Most often the first attempt is all: it is taken in line, and whatever follows from its failure is not.
    match step(Attempt::Optimistic) {
        Ok(answer) => Ok(answer),
        Err(interrupt) => again(env, interrupt, &mut step),
    }
}

/// Goes on after a first attempt that ended so.
#[cold]
pub(crate) fn again<T>(
    env: &TreeEnv,
    first: Interrupt,
    step: &mut dyn FnMut(Attempt) -> Result<T, Interrupt>,
) -> TreeResult<T> {
    // What stands where a dropped tree's pages stood explains any error.
    until_answered(env, first, step).map_err(|error| env.check_kept().err().unwrap_or(error))
}

fn until_answered<T>(
    env: &TreeEnv,
    first: Interrupt,
    step: &mut dyn FnMut(Attempt) -> Result<T, Interrupt>,
) -> TreeResult<T> {
    let (pool, metrics) = (env.pool(), &env.counters.metrics);
    let mut pinned: Vec<Pin<'_>> = Vec::new();
    let mut conflicts = 0;
    let mut suspect = None;
    let mut outcome = Err(first);
    loop {
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(Interrupt::Fail(error)) => return Err(*error),
            Err(Interrupt::Restart(Restart::Conflict)) => {
                conflicts += 1;
                metrics.conflicts.inc();
                back_off(conflicts);
            }
            Err(Interrupt::Restart(Restart::Fault(id))) => {
                metrics.faults.inc();
                if pinned.len() == PINS {
                    pinned.remove(0);
                }
                let fault = match pool.try_fault(id) {
                    Ok(None) => {
                        pinned.clear(); // nobody waits for a frame while holding one
                        pool.fault(id)
                    }
                    Ok(Some(pin)) => Ok(pin),
                    Err(error) => Err(error),
                };
                match fault {
                    Ok(pin) => pinned.push(pin),
                    // About the pool and not about the page.
                    Err(error @ PageError::BufferPoolExhausted { .. }) => return Err(error.into()),
                    // The page may have been freed and its bytes used again since the holder was read: read it again, and
                    // believe the error if it still names the page.
                    Err(error) if suspect == Some(id) => return Err(error.into()),
                    Err(_) => suspect = Some(id),
                }
            }
        }
        // Now and then an optimistic attempt again: it tells what is wrong with a path on which no latch can be had.
        let patient = conflicts < PATIENCE || conflicts % PATIENCE == 0;
        let attempt = if patient { Attempt::Optimistic } else { Attempt::Latched };
        if attempt == Attempt::Latched {
            metrics.latched.inc();
        }
        outcome = step(attempt);
    }
}

fn back_off(conflicts: u32) {
    if conflicts < 4 {
        hint::spin_loop();
    } else {
        thread::yield_now();
    }
}
