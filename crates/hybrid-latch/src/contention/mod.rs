//! Who waited for latches, for how long, and where.
//!
//! Invariant: whoever finds a latch free counts nothing and reads no clock; without feature `metrics`, and in models, nobody does, and
//! a [`Contention`] has size zero.
//!
//! A latch is eight bytes and has no room for it; so the owner of many latches has one [`Contention`] for all of them, and takes
//! them through [`HybridLatch::counting`](crate::HybridLatch::counting).
//!
//! ```text
//!   counting.rs  Counting: a latch as its owner takes it
//!   waits.rs     what was counted: WaitKind, WaitSite, Waits
//!   on.rs        Contention, over telemetry     (feature `metrics`)
//!   off.rs       the same name, empty           (without; in models)
//! ```

mod counting;
#[cfg(any(not(feature = "metrics"), loom))]
mod off;
#[cfg(all(feature = "metrics", not(loom)))]
mod on;
mod waits;

pub use counting::Counting;
#[cfg(any(not(feature = "metrics"), loom))]
pub use off::Contention;
#[cfg(all(feature = "metrics", not(loom)))]
pub use on::Contention;
pub use waits::{WaitKind, WaitSite, Waits};
