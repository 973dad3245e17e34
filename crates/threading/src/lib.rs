//! Named threads whose panics are noticed.
//!
//! Invariant (E8): a panic in a thread that was started here is reported once, with its message, before the thread ends; none
//! passes in silence.
//!
//! Classes, topology and pinning come with the work that needs them; what runs in the background today is I/O, which the
//! scheduler places well enough.
#![forbid(unsafe_code)]

mod stop_signal;
mod worker;

pub use stop_signal::StopSignal;
pub use worker::{Panicked, Worker, spawn};
