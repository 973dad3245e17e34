//! The kvstore command.
#![forbid(unsafe_code)]
fn main() {}
