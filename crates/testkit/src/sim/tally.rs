//! How often each fault was really injected.
//!
//! Invariant: a lane that planned a fault and never had it has shown nothing about it; [`FaultTally::check`] says which.

use std::collections::BTreeMap;
use std::fmt;

use super::disk::SimDisk;
use super::fault::{DiskOp, FaultId};
use super::kind::FaultKind;

/// Counts over many disks: by kind of fault and call, how many plans there were and how many calls they made fail.
///
/// ```
/// use std::path::Path;
/// use pagestone_direct_io::Disk;
/// use pagestone_testkit::{DiskOp, FaultKind, FaultTally, SimDisk};
/// let mut tally = FaultTally::default();
/// for op in [DiskOp::List, DiskOp::SyncDir] {
///     let disk = SimDisk::new(1);
///     let plan = disk.fail(FaultKind::Io.on(op));
///     let _ = disk.list(Path::new("/")); // the workload
///     tally.count(FaultKind::Io, op, &disk, plan);
/// }
/// assert_eq!(tally.injected(FaultKind::Io, DiskOp::List), 1);
/// assert!(tally.check().expect_err("no directory was synced").contains("EIO on SyncDir"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultTally {
    counts: BTreeMap<(FaultKind, DiskOp), Count>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Count {
    plans: u64,
    injected: u64,
}

impl FaultTally {
    /// Takes in what came of a plan.
    pub fn count(&mut self, kind: FaultKind, op: DiskOp, disk: &SimDisk, plan: FaultId) {
        let count = self.counts.entry((kind, op)).or_default();
        count.plans += 1;
        count.injected += disk.injected(plan);
    }

    /// How often this fault was injected into this call.
    pub fn injected(&self, kind: FaultKind, op: DiskOp) -> u64 {
        self.counts.get(&(kind, op)).map_or(0, |count| count.injected)
    }

    /// All faults that were injected.
    pub fn total(&self) -> u64 {
        self.counts.values().map(|count| count.injected).sum()
    }

    /// `Err` with a line for each fault that was planned and never injected.
    pub fn check(&self) -> Result<(), String> {
        let never = self.counts.iter().filter(|(_, count)| count.injected == 0);
        let lines: String = never
            .map(|((kind, op), count)| format!("{kind} on {op:?}: {} plans, never injected\n", count.plans))
            .collect();
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    }
}

impl fmt::Display for FaultTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, op), count) in &self.counts {
            writeln!(f, "{kind} on {op:?}: {} in {} plans", count.injected, count.plans)?;
        }
        Ok(())
    }
}
