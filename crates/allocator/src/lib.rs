//! Page-id allocator and space map of pagestone.
#![forbid(unsafe_code)]
