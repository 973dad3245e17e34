//! The one place that knows whether pagestone runs on `std` or under the loom model checker.
//!
//! Invariant: every atomic, lock, condition variable, thread and parked waiter of pagestone comes from here, so that
//! a model under `--cfg loom` runs the production types and not a copy of them.
//!
//! ```text
//!   production crates ──► pagestone_sync ──► platform.rs   std, parking_lot, crossbeam-queue
//!                                        ├─► model.rs      loom            (--cfg loom), shuttle (--cfg loom --cfg shuttle)
//!                                        └─► brief.rs      a lock of atomics, over either
//!   their models     ──► checking.rs     explores them, and shows that they can fail   (--cfg loom)
//!                        at_random.rs    some executions of larger ones, where checking.rs would try them all   (--cfg shuttle)
//!                        faults.rs       the bugs that show it   (--cfg pagestone_faults)
//! ```
//!
//! The two halves have the same names and the same meaning; nothing outside this crate asks which one is in use.
#![deny(unsafe_code)]

#[cfg(shuttle)]
mod at_random;
pub mod brief;
#[cfg(loom)]
pub mod checking;
pub mod faults;
#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod platform;

#[cfg(loom)]
pub use model::{
    Arc, BriefGuard, BriefMutex, Condvar, Mutex, MutexGuard, Queue, RwLock, RwLockReadGuard,
    RwLockWriteGuard, atomic, hint, parking, thread,
};
#[cfg(not(loom))]
pub use platform::{
    Arc, BriefGuard, BriefMutex, Condvar, Mutex, MutexGuard, Queue, RwLock, RwLockReadGuard,
    RwLockWriteGuard, atomic, hint, parking, thread,
};
