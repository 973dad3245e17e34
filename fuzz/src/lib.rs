//! What the fuzz targets share.
//!
//! Invariant: everything here follows from the input alone, so that an input that failed once fails again.
//!
//! ```text
//!   repair.rs            checksums put right, so that hostile bytes get past them
//!   repair_mapped.rs     the same for a file of mapped pages
//!   fuzz_targets/
//!     page_decode.rs     any bytes as a page: verified, taken apart, read and changed as a slotted page
//!     slotted_ops.rs     any changes of a slotted page, beside a sorted vector
//!     page_file_open.rs  any bytes as a page file: opened, every page read, never written to
//!     mapped_open.rs     a file of mapped pages, damaged: opened, a hundred operations beside sets, opened again
//! ```
#![forbid(unsafe_code)]

pub mod repair;
pub mod repair_mapped;
