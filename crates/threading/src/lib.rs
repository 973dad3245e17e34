//! Named threads whose panics are noticed.
#![forbid(unsafe_code)]
