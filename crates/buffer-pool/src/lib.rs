//! A buffer pool that is as fast as memory and larger than memory.
//!
//! Invariant: a read that validates saw only bytes of the page it asked for, as of one instant (P1), and a changed page
//! reaches storage only after the log is durable up to its LSN (P11). The numbered rules are in `docs/invariants.md`.
//!
//! ```text
//!              resolve(swip)                                    fault(id)
//!   holder ──► frame hint ──► header says the same id: hot      table: claim Loading, or wait for the loader
//!                        └──► table ──► hot, hint repaired       frame: free list, else evict (clean first, dirty in batches)
//!                                  └──► Restart::Fault(id)       read, verify, publish, pinned
//!
//!   frame.rs     the 64-byte header of a frame, apart from the page bytes      arena/     the page bytes (unsafe lives here)
//!   table.rs     page id -> frame; one loader per page                         guards.rs  optimistic, shared, exclusive, pin
//!   resolve.rs   the hot path                                                  fault.rs   the miss path
//!   evict.rs     second chance; a frame changes its page only here             write_back.rs   log first, then the pages
//!   flush.rs     who asks for it: one page, all, or the oldest first            admission.rs    who may pin several pages
//!   loads.rs     who waits for another's load        by_id.rs     fetch and new_page, for any engine
//!   batch.rs     many pages at once: fetch_many, prefetch         faults.rs  many, each as it comes
//!   budget.rs    frames in use, raised and lowered
//!   write_out.rs all that is dirty, in the order of the file      provider.rs  frames that are freed ahead of time
//!   read_ahead.rs  pages that are read ahead of time
//! ```
//!
//! In the face by swip a latch is never held across I/O or a wait: what needs I/O is a [`Restart::Fault`], which the caller
//! serves after it has dropped every guard. In the face by id a [`PageMut`] is a lock that its user holds; eviction never waits for
//! one. After vmcache (Leis et al., SIGMOD 2023) for the frame's life, LIPAH (CIDR 2025) for
//! the hint beside the page id.
#![deny(unsafe_code)]

mod admission;
mod arena;
mod batch;
mod budget;
mod by_id;
mod evict;
mod fault;
mod faults;
mod flush;
mod frame;
mod guards;
mod loads;
mod metrics;
#[cfg(loom)]
pub mod model;
mod options;
mod pool;
mod provider;
mod read_ahead;
mod resolve;
mod staging;
mod stats;
mod table;
mod variant;
mod write_back;
mod write_out;

pub use admission::Admission;
pub use by_id::{PageGuard, PageMut, PageRef};
pub use faults::{Begun, Faults};
pub use flush::Flushed;
pub use guards::{ExclusivePage, OptimisticPage, PageMark, Pin, SharedPage};
pub use options::{MIN_FRAMES, PoolOptions};
pub use pagestone_threading::{Spawner, ThreadClass, WorkerPanicked};
pub use pool::{BufferPool, Restart};
pub use provider::PageProvider;
pub use read_ahead::ReadAhead;
pub use stats::PoolStats;
pub use write_out::WriteOut;
