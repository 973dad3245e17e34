//! Named threads whose panics are noticed, and the signal that stops them.
//!
//! Invariant: a thread that was spawned here ends in one of two ways, and its owner learns which: its body returned, or it
//! panicked and `on_panic` has run before the thread was gone (E8). A signal to stop is never missed.
//!
//! ```text
//!   worker.rs       spawn, Worker, WorkerPanicked
//!   stop_signal.rs  StopSignal: wait between two rounds of work; wake, stop
//! ```
//!
//! A background thread is a loop around the signal, and its panic handler poisons whatever it worked on, so that those who
//! wait for it get an error and not silence:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use pagestone_threading::{StopSignal, spawn};
//!
//! let stop = Arc::new(StopSignal::new());
//! let worker = spawn(
//!     "checkpointer",
//!     |message| eprintln!("the checkpointer panicked: {message}"),
//!     {
//!         let stop = Arc::clone(&stop);
//!         move || while !stop.wait_for(Duration::from_secs(1)) { /* one round of work */ }
//!     },
//! )?;
//! stop.wake(); // a round now
//! stop.stop();
//! worker.join().expect("no round panicked");
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod stop_signal;
mod worker;

pub use stop_signal::StopSignal;
pub use worker::{Worker, WorkerPanicked, spawn};
