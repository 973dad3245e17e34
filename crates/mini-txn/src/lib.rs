//! Atomic groups of page changes over pool and log.
#![forbid(unsafe_code)]
