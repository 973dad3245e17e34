//! What was counted, at about one instant.

use std::fmt;
use std::panic::Location;

/// What was waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WaitKind {
    /// A sample: for somebody who held the latch exclusively.
    Optimistic,
    /// A share: for the same, or for a sleeper whose turn it was.
    Shared,
    /// The latch alone: for anybody who held it.
    Exclusive,
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimistic => "optimistic",
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        })
    }
}

/// A line of source where latches were waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitSite {
    /// The line that asked for the latch.
    pub at: &'static Location<'static>,
    /// What for.
    pub kind: WaitKind,
    /// How often.
    pub waits: u64,
    /// How long, in all.
    pub nanoseconds: u64,
}

/// The file without the directories before its crate's, the line, and what was waited for: `btree/src/descend.rs:88 exclusive`.
impl fmt::Display for WaitSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.at.file().split(['/', '\\']).collect();
        let from = parts.iter().rposition(|part| *part == "src").map_or(0, |src| src.saturating_sub(1));
        write!(f, "{}:{} {}", parts[from..].join("/"), self.at.line(), self.kind)
    }
}

/// How often latches were waited for. All zero without feature `metrics`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// Samples that waited.
    pub optimistic: u64,
    /// Shares that waited.
    pub shared: u64,
    /// Exclusive holders that waited.
    pub exclusive: u64,
    /// How long all of them waited.
    pub nanoseconds: u64,
}
