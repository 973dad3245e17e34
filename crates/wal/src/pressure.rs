//! Backpressure: writers slow down before the log is full, so that none of them stops.
//!
//! Invariant: a delay is at most [`crate::WalOptions::delay_max`], is spent before anything is reserved, and promises nothing:
//! the budget is kept by what comes after it. It ends early when a checkpoint makes room.
//!
//! ```text
//!   delay_max ┤                       ╱ LogFull after full_wait
//!             │                    ╱  │
//!             │                 ╱     │
//!           0 ┼──────────────╱────────┴── use of the budget
//!             0            75 %      100 %
//! ```
//!
//! Why a slope: writers that run into a wall all stop at once, for as long as a checkpoint takes, and then all run at once. On
//! a slope they settle where they write as fast as checkpoints free the log. Every writer waits for itself, so that many of
//! them are slowed down no more than one. The clock decides how long somebody sleeps and nothing else.

use std::time::{Duration, Instant};

use pagestone_sync::MutexGuard;

use crate::block::block_lsn;
use crate::error::WalResult;
use crate::wal::{State, Wal};

impl Wal {
    /// Whether a reservation of `bytes` more is to be delayed.
    #[inline]
    pub(crate) fn is_pressed(&self, state: &State, bytes: usize) -> bool {
        self.use_with(state, bytes) > self.options.delay_from() && !self.options.delay_max.is_zero()
    }

    /// Bytes of the budget that are used and promised, with `bytes` more.
    pub(crate) fn use_with(&self, state: &State, bytes: usize) -> u64 {
        let behind = state.buffer.block_behind(state.outstanding + bytes);
        block_lsn(behind).get().saturating_sub(state.keep.get())
    }

    /// Sleeps as long as the log's use asks for: less than it did when the use falls meanwhile, more when it rises.
    #[cold]
    pub(crate) fn slow_down<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        bytes: usize,
    ) -> WalResult<MutexGuard<'a, State>> {
        let began = Instant::now();
        let mut asked = self.options.delay_at(self.use_with(&state, bytes));
        state.stats.delays += 1;
        state.stats.delay_us += asked.as_micros() as u64;
        loop {
            self.poison.check()?;
            let left = asked.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(state);
            }
            state.delayed += 1;
            state = self.eased.wait_for(state, left).0;
            state.delayed -= 1;
            asked = self.options.delay_at(self.use_with(&state, bytes));
        }
    }

    /// Releases the mutex after the keep LSN rose, and wakes those who sleep longer than they need to now.
    pub(crate) fn ease(&self, state: MutexGuard<'_, State>) {
        let delayed = state.delayed > 0;
        self.tell_room(state);
        if delayed {
            self.eased.notify_all();
        }
    }
}

impl crate::WalOptions {
    /// Use of the budget above which writers are delayed, in bytes.
    pub(crate) fn delay_from(&self) -> u64 {
        self.log_bytes - self.log_bytes / 4
    }

    /// How long a writer is delayed at this use of the budget, in bytes.
    pub(crate) fn delay_at(&self, used: u64) -> Duration {
        let slope = self.log_bytes / 4;
        let over = used.saturating_sub(self.delay_from()).min(slope);
        let max = self.delay_max.as_micros();
        Duration::from_micros((max * u128::from(over) / u128::from(slope.max(1))) as u64)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::WalOptions;

    #[test]
    fn the_delay_is_none_to_three_quarters_and_rises_to_its_limit() {
        let options =
            WalOptions { log_bytes: 1000, delay_max: Duration::from_micros(500), ..WalOptions::default() };
        let micros: Vec<u128> = [0, 500, 750, 751, 800, 875, 950, 1000, 5000]
            .map(|used| options.delay_at(used).as_micros())
            .to_vec();
        assert_eq!(micros, [0, 0, 0, 2, 100, 250, 400, 500, 500]);
        let off = WalOptions { delay_max: Duration::ZERO, ..options };
        assert_eq!(off.delay_at(1000), Duration::ZERO);
    }
}
