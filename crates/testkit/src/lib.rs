//! Simulated disk.
#![forbid(unsafe_code)]
