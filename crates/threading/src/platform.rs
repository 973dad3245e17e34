//! The system's calls under the same names everywhere; the only place of this crate that asks which system it is.

#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod calls;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod calls;

pub(crate) use calls::{affinity, pin};
