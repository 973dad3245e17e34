//! The raw loops: what the device gives to a program that does nothing with the bytes but look whether they are the right ones.
//!
//! Elsewhere than on Linux there are none; then the file has no contest.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod platform;

pub(crate) use platform::RawFile;
