//! Concurrent B+tree over a buffer pool.
#![forbid(unsafe_code)]
