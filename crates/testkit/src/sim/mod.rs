//! A disk in memory.
//!
//! Invariant: what the disk shows now, what would be there after a power cut, and what lies between the two are kept
//! apart; nothing passes from the first to the second but through a sync.
//!
//! ```text
//!    calls ──► fault.rs   does this call fail today?   kind.rs: the faults that systems have   tally.rs: what was injected
//!                │
//!              disk.rs, file.rs, map.rs   the seam; state.rs holds what callers see, the live names and bytes
//!                │  one Operation each
//!                │            sync.rs: what a sync does, and one that fails   watch.rs: what the audit looks at
//!              journal.rs         what happened, in order
//!                │
//!              model.rs           durable: names and bytes; pending: changes no sync has covered
//! ```
//!
//! Maps change bytes without a call. `maps.rs` looks at them whenever anybody looks at the disk, and every change that it finds
//! is one more write of the journal.
//!
//! The model is a function of the journal. The enumeration of crashes replays the journal into a model of its own and
//! takes every cut on the way.

mod audit;
mod content;
mod disk;
mod errno;
mod fault;
mod file;
mod journal;
mod kind;
mod lock;
mod map;
mod maps;
mod model;
mod names;
mod schedule;
mod state;
mod sync;
mod tally;
mod watch;

pub use audit::{NotDurable, Violation};
pub use disk::{AtomicWrites, Keep, SimDisk, SimOptions};
pub use errno::errno;
pub use fault::{AfterFailedSync, DiskOp, FaultId, FaultPlan};
pub use kind::FaultKind;
pub use schedule::{PlannedFault, Schedule};
pub use tally::FaultTally;

pub(crate) use content::{CHUNK, SECTOR};
pub(crate) use journal::{LengthChange, Operation, Write};
pub(crate) use model::{Change, Medium, Model};
pub(crate) use names::{FileId, NameChange, Walk};
