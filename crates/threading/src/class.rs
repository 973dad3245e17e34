//! What a thread is for, which says where it should run.

use std::fmt;

/// What a thread is for. Which processors that means is in [`crate::Topology::cpus`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ThreadClass {
    /// Somebody waits for it: the fast cores.
    Performance,
    /// It helps with what somebody waits for: every core that the process may use.
    Worker,
    /// Nobody waits for it: the cores that save power, if there are such, else every core.
    Efficient,
    /// Left to the system's scheduler, whatever the topology.
    Unpinned,
}

impl ThreadClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Performance, Self::Worker, Self::Efficient, Self::Unpinned];
}

impl fmt::Display for ThreadClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Performance => "performance",
            Self::Worker => "worker",
            Self::Efficient => "efficient",
            Self::Unpinned => "unpinned",
        })
    }
}
