//! Optimistic, shared and exclusive latch on one word.
#![forbid(unsafe_code)]
