//! A latch on one word that readers do not write to.
//!
//! Invariant: an [`Optimistic`] that validates saw the protected bytes as they stood at one instant, at the version it was
//! sampled at. Every exclusive unlock leaves a version that was never seen before (P6), with one named exception,
//! [`Exclusive::unlock_unchanged`] (P5); tag bits, shared holders and sleepers are no changes (P8); no panic leaves a latch
//! held (P10).
//!
//! ```text
//!                     lock_exclusive, try_lock_exclusive
//!           ┌────────────────────────────────────────────────► Exclusive ── drop ──► free, version + 1
//!           │                                                  ▲    ▲  │             (poisoned, if by a panic)
//!    free ──┤                        upgrade_to_exclusive      │    │  ├─ unlock_unchanged ─► free, same version
//!           │  optimistic_*  ┌─────────────────────────────────┘    │  │
//!           ├──────────────► Optimistic ── upgrade_to_shared ─┐     │  └─ downgrade, version + 1 ─┐
//!           │                (writes nothing)                 ▼     │                             │
//!           └────────────────────────────────────────────► Shared ──┴◄────────────────────────────┘
//!              lock_shared, try_lock_shared                         try_upgrade_to_exclusive, by the only holder
//! ```
//!
//! ```text
//!   word.rs        the bits and every transition of them, pure
//!   latch.rs       HybridLatch: the word and who may take it
//!   optimistic.rs  sample, validate, upgrade
//!   shared.rs      Shared
//!   exclusive.rs   Exclusive: the release fence, the unlocks, poisoning
//!   wait.rs        a short spin, then sleep; wake
//!   error.rs       Conflict, Poisoned
//!   contention/    who waited, where: with feature `metrics`
//!   variant.rs     what a model under `--cfg loom` has otherwise
//! ```
//!
//! After Leis, Haubenschild, Neumann, *Optimistic Lock Coupling* (IEEE Data Eng. Bull. 2019) and Böttcher, Leis, Giceva,
//! Neumann, *Scalable and Robust Latches for Database Systems* (DaMoN 2020); the orderings after Boehm (MSPC 2012).
//!
//! ```
//! use pagestone_hybrid_latch::HybridLatch;
//! use pagestone_sync::atomic::{AtomicU64, Ordering};
//!
//! let latch = HybridLatch::new();
//! let value = AtomicU64::new(1);
//!
//! let sampled = latch.optimistic_or_restart()?;        // writes nothing
//! let seen = value.load(Ordering::Relaxed);
//! sampled.validate()?;                                 // now `seen` can be believed
//! assert_eq!(seen, 1);
//!
//! let exclusive = sampled.upgrade_to_exclusive()?;     // still the version it was sampled at
//! value.store(seen + 1, Ordering::Relaxed);
//! drop(exclusive);
//! assert!(sampled.validate().is_err());                // what was sampled before is out of date
//! # Ok::<(), pagestone_hybrid_latch::Conflict>(())
//! ```
#![forbid(unsafe_code)]

mod contention;
mod error;
mod exclusive;
mod latch;
mod optimistic;
mod shared;
mod variant;
mod wait;
mod word;

pub use contention::{Contention, Counting, WaitKind, WaitSite, Waits};
pub use error::{Conflict, Poisoned};
pub use exclusive::Exclusive;
pub use latch::HybridLatch;
pub use optimistic::Optimistic;
pub use shared::Shared;
pub use word::Tag;
