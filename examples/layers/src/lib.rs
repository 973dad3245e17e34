//! The layers of pagestone one by one, and put together by hand.
//!
//! Invariant: each example is run by a test, and prints what its first lines say that it prints.
//!
//! ```text
//!   bin/page_file.rs       pages in a file: stamped, verified, told when damaged
//!   bin/log_alone.rs       an engine's own records in the log, and back
//!   bin/pool_over_file.rs  more pages than memory
//!   bin/latch_and_swip.rs  from page to page by references that mend themselves, writing nothing
//!   bin/hash_table.rs      a persistent hash table over mapped pages
//!   bin/heap_file.rs       heap/, used, crashed and recovered
//!   heap/                  a heap file: its own page kind, its own operations, all layers but tree and store
//! ```
//!
//! `cargo run -p pagestone-layers-examples --bin heap_file`
#![forbid(unsafe_code)]

pub mod heap;
