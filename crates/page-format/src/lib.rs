//! Words and bytes: what a pagestone page is, on disk and in a frame, and the contracts between the floors above.
//!
//! Invariant: a page that left this crate as valid is the page that was asked for, of the file that was asked, and every
//! byte of it is covered by its checksum.
//!
//! ```text
//!   ids.rs       PageId, FrameIndex, Lsn, PageSize, StoreUuid      one newtype per number that could be confused
//!   header.rs    the 32 bytes in front of every page               drawn, const-asserted
//!   checksum.rs  CRC32C or CRC-64/NVME, seeded with the file       stamp and verify, in one order
//!   buffer.rs    AlignedBuf                                        what direct I/O reads into
//!   page.rs      Page: an owned, aligned, private page
//!   racing.rs    SpeculativePage, PageWriter                       bytes that somebody may be changing
//!   slotted/     sorted cells in a page: search, insert, compact
//!   contracts.rs PageStore, WriteAhead, PageOp, RedoTable          the seams
//!   reads.rs     PageReads                                        one read begun while others are under way
//!   serde.rs     the value types in a serde format              feature `serde`
//!   memory.rs    MemoryStore: a PageStore without a file
//!   error.rs     PageError
//! ```
#![forbid(unsafe_code)]

mod buffer;
mod checksum;
mod contracts;
mod error;
mod header;
mod ids;
mod memory;
mod page;
mod racing;
mod reads;
#[cfg(feature = "serde")]
mod serde;
pub mod slotted;

pub use buffer::{AlignedBuf, IO_ALIGNMENT};
pub use checksum::{ChecksumKind, Crc32c, PageChecksum, crc32c};
pub use contracts::{ENGINE_OP_KINDS, OpKind, PageOp, PageStore, RedoRange, RedoTable, WriteAhead};
pub use error::{PageError, PageResult, Poison};
pub use header::{FORMAT_VERSION, PAGE_HEADER_SIZE, PAGE_MAGIC, PageHeader, PageKind, SwipArray};
pub use ids::{
    DEFAULT_PAGE_SIZE, FrameIndex, Lsn, MAX_PAGE_SIZE, MIN_PAGE_SIZE, PageId, PageSize, StoreUuid,
};
pub use memory::MemoryStore;
pub use page::Page;
pub use racing::{OutOfBounds, PageWriter, SpeculativePage};
pub use reads::{PageRead, PageReads};
