//! How a background thread sleeps and is told to end.

use std::time::Duration;

use pagestone_sync::{Condvar, Mutex};

/// A flag that is set once, and a bell. A thread sleeps on it between two rounds of its work.
///
/// ```
/// use pagestone_threading::StopSignal;
/// use std::time::Duration;
/// let signal = StopSignal::new();
/// assert!(!signal.wait_for(Duration::from_millis(1)));
/// signal.stop();
/// assert!(signal.wait_for(Duration::from_secs(3600)));
/// ```
#[derive(Debug, Default)]
pub struct StopSignal {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    woken: bool,
}

impl StopSignal {
    /// Not stopped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeps until the time is over, or [`StopSignal::wake`] or [`StopSignal::stop`] is called, also if that was before. Gives
    /// whether it is stopped.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stopped && !state.woken {
            state = self.rung.wait_for(state, limit).0;
        }
        state.woken = false;
        state.stopped
    }

    /// Ends a sleep early: there is work.
    pub fn wake(&self) {
        self.state.lock().woken = true;
        self.rung.notify_all();
    }

    /// Ends every sleep, now and later.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.rung.notify_all();
    }

    /// Whether [`StopSignal::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}
