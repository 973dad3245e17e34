//! The 64-bit self-validating page reference.
#![forbid(unsafe_code)]
