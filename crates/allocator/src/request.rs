//! What is asked of the allocator under the log, and what it needs next.
//!
//! Invariant: a request is served under the mutex in one step, [`Step::Take`], or not at all; every other step is I/O with the mutex free,
//! after which the question is asked again.

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// That many ids, wherever they are.
    Singles(u64),
    /// That many ids in a row.
    Run(u64),
    /// That many settled ids, in at most so many runs.
    Extents { pages: u64, runs: usize },
}

impl Request {
    pub(crate) fn ids(self) -> u64 {
        match self {
            Self::Singles(ids) | Self::Run(ids) | Self::Extents { pages: ids, .. } => ids,
        }
    }
}

/// How far a request looks for free ids in regions that are not known yet before it makes the file longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Into that many more regions: the bound on what one operation costs. Later requests go on from there.
    Regions(u32),
    /// Into all of them: the file cannot grow.
    All,
}

/// What a request needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// There are enough ids.
    Take,
    /// This region's bits.
    Load(u64),
    /// A new region, in a file of at least so many pages.
    Format { region: u64, pages: u64 },
    /// What another thread is loading or formatting.
    Wait,
    /// Ids that no file can have.
    NoSpace,
}
