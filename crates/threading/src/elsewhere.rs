//! Where threads are not pinned: every system but Linux. It says so, and the threads run wherever the system puts them.

use std::io;

use crate::{CpuSet, NoTopology};

/// Not to be told.
pub(crate) fn affinity() -> Result<CpuSet, NoTopology> {
    Err(NoTopology::Unsupported { system: std::env::consts::OS })
}

/// `Unsupported`: for a topology that somebody else knows of.
pub(crate) fn pin(_: &CpuSet) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, NoTopology::Unsupported { system: std::env::consts::OS }))
}
