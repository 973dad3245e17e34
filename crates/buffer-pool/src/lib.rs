//! A buffer pool that is as fast as memory and larger than memory.
#![forbid(unsafe_code)]
