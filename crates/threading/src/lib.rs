//! Named threads whose panics are noticed, where they run, and the signal that stops them.
//!
//! Invariant: a thread that was spawned here ends in one of two ways, and its owner learns which: its body returned, or it
//! panicked and `on_panic` has run before the thread was gone (E8). A signal to stop is never missed.
//!
//! ```text
//!   worker.rs       spawn, Worker, WorkerPanicked
//!   stop_signal.rs  StopSignal: wait between two rounds of work; wake, stop
//!   spawner.rs      Spawner: threads by class, pinned or not
//!    ├ class.rs        what a thread is for
//!    ├ topology.rs     which processors serve that, or why it cannot be told
//!    └ cpu_set.rs      processors by number
//!   platform.rs     the system's calls: linux.rs (unsafe), elsewhere.rs (says that there are none)
//! ```
//!
//! Pinning is for whoever has a machine of his own; a library leaves threads where the system puts them unless it is asked:
//!
//! ```
//! use pagestone_threading::{Spawner, ThreadClass};
//!
//! let threads = Spawner::detected(); // pins by class, or says why not
//! println!("{threads}");
//! let worker = threads.spawn(ThreadClass::Efficient, "sweeper", |message| eprintln!("{message}"), || ())?;
//! worker.join().expect("no panic");
//! # Ok::<(), std::io::Error>(())
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
#![deny(unsafe_code)]

mod class;
mod cpu_set;
mod platform;
mod spawner;
mod stop_signal;
mod topology;
mod worker;

pub use class::ThreadClass;
pub use cpu_set::CpuSet;
pub use spawner::{Spawner, affinity};
pub use stop_signal::StopSignal;
pub use topology::{CoreKind, Cpu, NoTopology, Topology};
pub use worker::{Worker, WorkerPanicked, spawn};
