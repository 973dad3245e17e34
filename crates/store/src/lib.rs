//! A crash-safe store: open, recover, checkpoint, trees.
#![forbid(unsafe_code)]
