//! Every state that a power cut can leave.
//!
//! Invariant: an image that comes out of here is legal, and what is acknowledged in it was noted before the cut; so a
//! store that loses something in an image has lost it.
//!
//! ```text
//!   journal   1  2  3  4  5 ...        replayed once, one step a cut
//!                     │
//!   cut.rs            ▼  durable + pending atoms: a sector of a write, a length, a name
//!   cover.rs          which subsets of the atoms: all of them if they are few, else a covering set
//!                     │
//!   image.rs          ▼  the durable state with one subset applied, in order
//!   states.rs         an iterator over the images of all cuts, each once
//! ```
//!
//! A subset of the pending atoms, applied in the order of issue, gives every sector one of its versions since the last
//! sync: all legal states are had so, but for lengths between two that were set, which are added, and garbage in a sector
//! that was being written, which is added on demand.

mod cover;
mod cut;
mod image;
mod states;

pub use image::{CrashImage, ImageKind};
pub use states::{CrashOptions, CrashStates, CrashStats, PathPredicate};

pub(crate) use cover::random_medium;
