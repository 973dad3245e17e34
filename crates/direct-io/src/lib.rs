//! Files: opened for direct I/O, read and written at positions, locked, synced, and the seam that a simulated disk shares.
//!
//! Invariant: everything above this crate touches files through [`Disk`] and [`File`] and nothing else, so that what the
//! simulated disk proves about the layers above holds for the real one.
//!
//! ```text
//!   seam.rs       Disk, File, Map, OpenHow, Create, DirectIo, ...    the contract, method by method
//!   file_map.rs   FileMap                                            the system's map, or another
//!   finish.rs     read_exact_at, write_all_at, write_durable         the only loops that finish a transfer (I1, I3, I4, I5)
//!   reads.rs      Reads, OwnedRead                                    one read begun while others are under way
//!   writes.rs     Writes, OwnedWrite                                  the same of writes
//!   lock.rs       lock_within                                        a bounded wait for a lock (E1, I18)
//!   page_file/    PageFile: PageStore, PageFileOptions               pages at their places in a file, which may describe itself
//!   shared_sync.rs  SharedSync: File                                 one sync at a time, shared, final when it fails (I9)
//!   double_write/ DoubleWrite: PageStore, DoubleWriteFile            torn pages are restored
//!   real/         RealDisk                                           the real file system, one file per platform
//! ```
#![deny(unsafe_code)] // the platform files under real/ opt out and argue each call

mod double_write;
mod file_map;
mod finish;
mod lock;
mod page_file;
mod reads;
mod real;
#[cfg(test)]
mod scripted;
mod seam;
mod shared_sync;
mod writes;

pub use double_write::{DoubleWrite, DoubleWriteFile, DoubleWriteStats, Restored};
pub use file_map::FileMap;
pub use finish::{
    read_exact_at, read_exact_batch, read_exact_vectored_at, wait_all, wait_exact, write_all_at,
    write_all_batch, write_all_batch_atomic, write_all_stream, write_all_vectored_at, write_durable,
};
pub use lock::{lock_shared_within, lock_within};
pub use page_file::{PageFile, PageFileOptions};
pub use reads::{OwnedRead, Reads};
pub use real::{MappedPage, RealDisk};
pub use seam::{
    Backend, Create, DirectIo, Disk, DurableBy, File, Map, MapAccess, OpenHow, PathKind, ReadAt, WriteAt,
};
pub use shared_sync::SharedSync;
pub use writes::{OwnedWrite, Writes};
