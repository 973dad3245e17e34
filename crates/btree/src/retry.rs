//! The one loop that owns every retry.
//!
//! Invariant: a step is taken again only here, with no latch held; a page that it faulted on stays pinned while it is, so
//! that every fault is progress. An operation pins at most [`PINS`] pages this way.

use pagestone_buffer_pool::{Pin, Restart};
use pagestone_mini_txn::LoggedPool;
use pagestone_sync::{hint, thread};

use crate::TreeResult;
use crate::descend::Hold;
use crate::error::Interrupt;

/// Faulted pages kept pinned at once.
pub(crate) const PINS: usize = 2;
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
pub(crate) fn optimistically<T>(
    env: &LoggedPool,
    mut step: impl FnMut(Attempt) -> Result<T, Interrupt>,
) -> TreeResult<T> {
    env.check_open()?;
    let pool = env.pool();
    let mut pins: [Option<Pin<'_>>; PINS] = [const { None }; PINS];
    let mut faults = 0;
    let mut conflicts = 0;
    let mut suspect = None;
    loop {
        let attempt = if conflicts < PATIENCE { Attempt::Optimistic } else { Attempt::Latched };
        match step(attempt) {
            Ok(answer) => return Ok(answer),
            Err(Interrupt::Fail(error)) => return Err(error),
            Err(Interrupt::Restart(Restart::Conflict)) => {
                conflicts += 1;
                back_off(conflicts);
            }
            Err(Interrupt::Restart(Restart::Fault(id))) => {
                // Let go of the oldest pin first: the frame it holds may be the one that is needed.
                let slot = &mut pins[faults % PINS];
                *slot = None;
                faults += 1;
                match pool.fault(id) {
                    Ok(pin) => *slot = Some(pin),
                    // The page may have been freed and its bytes used again since the holder was read: read it again, and
                    // believe the error if it still names the page.
                    Err(error) if suspect == Some(id) => return Err(error.into()),
                    Err(_) => suspect = Some(id),
                }
            }
        }
    }
}

fn back_off(conflicts: u32) {
    if conflicts < 4 {
        hint::spin_loop();
    } else {
        thread::yield_now();
    }
}
