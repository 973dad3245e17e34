//! The storage substrate beneath a database.
#![forbid(unsafe_code)]
