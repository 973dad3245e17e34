//! What a background thread waits on between two rounds of work.
//!
//! Invariant: `stop` is for good, and everybody who waits then or later returns at once. A `wake` ends one wait, the one
//! that goes on or else the next one, so that none is lost between two rounds; wakes do not add up.

use std::time::{Duration, Instant};

use pagestone_sync::{Condvar, Mutex};

/// Stops a thread, or wakes it early.
#[derive(Debug, Default)]
pub struct StopSignal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    woken: bool,
}

impl StopSignal {
    /// Nobody has stopped anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until stopped, woken, or for `limit`. Gives whether it is stopped: then no more rounds.
    pub fn wait_for(&self, limit: Duration) -> bool {
        // A limit past the end of time is no limit.
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return true;
            }
            if std::mem::take(&mut state.woken) {
                return false;
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state),
                Some(Duration::ZERO) => return false,
                Some(left) => self.changed.wait_for(state, left).0,
            };
        }
    }

    /// Ends one wait early.
    pub fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    /// Ends all waits, now and later.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether [`StopSignal::stop`] was called: for the middle of a long round.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    const AT_ONCE: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn time_runs_out_without_a_signal() {
        let signal = StopSignal::new();
        let start = Instant::now();
        assert!(!signal.wait_for(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(!signal.wait_for(Duration::ZERO));
    }

    #[test]
    fn stop_ends_every_wait_now_and_later() {
        let signal = StopSignal::new();
        let start = Instant::now();
        thread::scope(|scope| {
            let signal = &signal;
            let waiters =
                [LONG, LONG, Duration::MAX].map(|limit| scope.spawn(move || signal.wait_for(limit)));
            thread::sleep(Duration::from_millis(20));
            assert!(!signal.is_stopped());
            signal.stop();
            assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic")));
        });
        assert!(signal.wait_for(LONG) && signal.is_stopped());
        signal.wake();
        assert!(signal.wait_for(LONG), "a wake undid a stop");
        assert!(start.elapsed() < AT_ONCE);
    }

    #[test]
    fn a_wake_ends_one_wait_even_the_next_one() {
        let signal = StopSignal::new();
        let start = Instant::now();
        signal.wake();
        signal.wake();
        assert!(!signal.wait_for(LONG), "a wake was lost");
        assert!(start.elapsed() < AT_ONCE);
        let start = Instant::now();
        assert!(!signal.wait_for(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20), "wakes added up");
    }

    #[test]
    fn a_wake_ends_a_wait_that_goes_on() {
        let signal = StopSignal::new();
        let start = Instant::now();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| signal.wait_for(LONG));
            thread::sleep(Duration::from_millis(20));
            signal.wake();
            assert!(!waiter.join().expect("no panic"));
        });
        assert!(start.elapsed() < AT_ONCE);
    }

    #[test]
    fn every_wake_between_rounds_brings_a_round() {
        let signal = StopSignal::new();
        let rounds = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut rounds = 0;
                while !signal.wait_for(LONG) {
                    rounds += 1;
                }
                rounds
            });
            for _ in 0..100 {
                signal.wake();
            }
            // The last wake was taken, by the wait it met or by the one after: only then is its mark gone.
            let start = Instant::now();
            while signal.state.lock().woken {
                assert!(start.elapsed() < AT_ONCE, "a wake was lost");
                thread::yield_now();
            }
            signal.stop();
            worker.join().expect("no panic")
        });
        assert!((1..=100).contains(&rounds), "{rounds}");
    }
}
