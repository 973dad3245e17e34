//! What the fuzz targets share.
//!
//! Invariant: everything here follows from the input alone, so that an input that failed once fails again.
//!
//! ```text
//!   repair.rs            checksums put right, so that hostile bytes get past them
//!   fuzz_targets/
//!     page_decode.rs     any bytes as a page: verified, taken apart, read and changed as a slotted page
//!     slotted_ops.rs     any changes of a slotted page, beside a sorted vector
//!     page_file_open.rs  any bytes as a page file: opened, every page read, never written to
//! ```
#![forbid(unsafe_code)]

pub mod repair;
