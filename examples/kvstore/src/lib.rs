//! A key-value store on pagestone.
#![forbid(unsafe_code)]
