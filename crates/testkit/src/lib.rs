//! What proves pagestone: a simulated disk, every state that a power cut can leave it in, and faults on schedule.
//!
//! Invariant: everything here follows from the seed and the calls; no clock, no environment, no other randomness. What
//! failed once fails again. (`soak.rs` alone asks the clock, for how long to go on and for a seed that it prints.)
//!
//! ```text
//!   rng.rs    Rng                                          seeded numbers for tests
//!   sim/      SimDisk, FaultPlan, Schedule, Violation      a disk in memory that forgets, tears, fails and audits
//!   environment.rs  Mount, as_another_user               file systems and users that need a privilege; skips aloud
//!   error_loop.rs   ErrorLoop                              fails call N of a workload, for all N and in every way
//!   linear.rs        Stamps, ThreadHistory, check_linear   whether one order of calls explains what threads saw of a key
//!   soak.rs          Soak                                  what a long form is told: seconds, seed
//!   crash/    CrashStates, CrashImage, CrashOptions        every legal state after a power cut, one by one
//! ```
//!
//! The whole of a crash test:
//!
//! ```
//! use std::path::Path;
//! use pagestone_direct_io::{DirectIo, Disk, OpenHow, read_exact_at, write_all_at};
//! use pagestone_testkit::{CrashOptions, SimDisk};
//!
//! # fn main() -> std::io::Result<()> {
//! let (disk, path) = (SimDisk::new(42), Path::new("/log"));
//! let file = disk.open(path, &OpenHow::create_new(DirectIo::Off))?;
//! disk.sync_dir(Path::new("/"))?;
//! for number in 1..=3 {
//!     write_all_at(&*file, &[number; 512], u64::from(number - 1) * 512)?;
//!     file.sync()?;
//!     disk.note(number.into()); // acknowledged: from here on it must be there
//! }
//! for image in disk.crash_states(&CrashOptions::default()) {
//!     let crashed = image.disk();
//!     for number in image.acknowledged() {
//!         let file = crashed.open(path, &OpenHow::read(DirectIo::Off))?;
//!         let mut sector = [0; 512];
//!         read_exact_at(&*file, &mut sector, (number - 1) * 512)?;
//!         assert_eq!(sector, [*number as u8; 512], "{}", image.explain());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod crash;
mod environment;
mod error_loop;
mod linear;
mod rng;
mod sim;
mod soak;

pub use crash::{CrashImage, CrashOptions, CrashStates, CrashStats, ImageKind, PathPredicate};
pub use environment::{Mount, OpenDir, as_another_user, is_superuser, skipped};
pub use error_loop::{ErrorLoop, ErrorLoopReport, Strike, StruckDisk};
pub use linear::{KeyCall, NotLinear, Saw, Stamps, ThreadHistory, check_linear};
pub use rng::Rng;
pub use sim::{
    AfterFailedSync, AtomicWrites, DiskOp, FaultId, FaultKind, FaultPlan, FaultTally, Keep, NotDurable,
    PlannedFault, Schedule, SimDisk, SimOptions, Violation, errno,
};
pub use soak::Soak;
