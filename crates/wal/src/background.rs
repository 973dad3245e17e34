//! A leader by the clock: what is committed relaxed becomes durable within a bounded interval.
//!
//! Invariant: while it lives, everything that was appended is durable an interval and one batch later, or the log is poisoned; its
//! end makes durable what was appended before.
//!
//! The clock decides only when somebody flushes; what is durable is decided where it always is (`commit.rs`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pagestone_threading::{StopSignal, Worker};

use crate::wal::Wal;

/// A thread that flushes the log again and again, until this is dropped.
#[derive(Debug)]
#[must_use = "the thread ends when this is dropped"]
pub struct BackgroundLeader {
    stop: Arc<StopSignal>,
    worker: Option<Worker>,
}

impl BackgroundLeader {
    /// The interval that is meant for [`crate::CommitMode::Relaxed`].
    pub const INTERVAL: Duration = Duration::from_millis(10);

    /// Starts the thread. It ends by itself when a flush fails, which has poisoned the log and told every waiter; a panic of it
    /// poisons the log as well.
    ///
    /// Errors: the system has no thread for us.
    pub fn start(log: &Arc<Wal>, interval: Duration) -> io::Result<Self> {
        let stop = Arc::new(StopSignal::new());
        let (signal, body, end) = (Arc::clone(&stop), Arc::clone(log), Arc::clone(log));
        let on_panic = move |message: String| {
            end.fail(&format!("log: the background leader panicked: {message}"));
        };
        let worker = pagestone_threading::spawn("pagestone-lead", on_panic, move || {
            loop {
                let stopped = signal.wait_for(interval);
                // An error has ended the handle and told everybody who waits, or will (R5).
                if body.flush().is_err() || stopped {
                    return;
                }
            }
        })?;
        Ok(Self { stop, worker: Some(worker) })
    }
}

impl Drop for BackgroundLeader {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join(); // a panic there has poisoned the log
        }
    }
}
