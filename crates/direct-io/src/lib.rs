//! Direct I/O files, aligned buffers, locks and durability barriers of pagestone.
#![forbid(unsafe_code)]
