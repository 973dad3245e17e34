//! The kinds of faults that systems have, each with the calls that it befalls.
//!
//! Invariant: what is listed for a call is what that call of the seam gives on a real system, so that a loop over all of them
//! asks nothing of a store that no disk would. Interruptions of calls that `std` repeats by itself are not listed: they never
//! come through the seam.

use std::fmt;

use super::fault::{AfterFailedSync, DiskOp, FaultPlan};

/// A kind of fault. [`FaultKind::every`] is what an error loop goes through, [`FaultTally`](super::FaultTally) what shows
/// that none was left out.
///
/// ```
/// use pagestone_testkit::{DiskOp, FaultKind, SimDisk};
/// for (kind, op) in FaultKind::every() {
///     let disk = SimDisk::new(1);
///     let plan = disk.fail(kind.on(op).skip(3));
///     // ... the workload, then a look at what it left; and that the fault was there:
///     let _ = disk.injected(plan);
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// `EINTR`: reads and writes are tried again, a sync has failed (I4).
    Interrupted,
    /// `EAGAIN` (I5).
    Again,
    /// `EBUSY` (I5).
    Busy,
    /// `EIO` (I6 to I9).
    Io,
    /// `ENOSPC` (I10 to I12).
    NoSpace,
    /// `EROFS`: the system has made the file system read-only (I13).
    ReadOnly,
    /// `EACCES` (I14).
    NoPermission,
    /// `EMFILE` (I16).
    NoDescriptors,
    /// `ENOMEM` (I16).
    NoMemory,
    /// A read or write of more than one byte moves one and says so (I1, I3).
    Short,
    /// A write takes nothing; a read says that the file ends (I2, I3).
    Zero,
    /// A write takes its first sector and fails with `EIO`.
    Torn,
    /// The call does its work and reports `EIO` all the same.
    DoneButReported,
    /// A sync fails with `EIO` and leaves this behind (I9).
    FailedSync(AfterFailedSync),
    /// The transfers of a batch are done in another order (I17).
    Reordered,
}

/// Calls that change names.
const NAMES: [DiskOp; 4] = [DiskOp::Create, DiskOp::CreateDir, DiskOp::Rename, DiskOp::Remove];

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 18] = [
        Self::Interrupted,
        Self::Again,
        Self::Busy,
        Self::Io,
        Self::NoSpace,
        Self::ReadOnly,
        Self::NoPermission,
        Self::NoDescriptors,
        Self::NoMemory,
        Self::Short,
        Self::Zero,
        Self::Torn,
        Self::DoneButReported,
        Self::FailedSync(AfterFailedSync::CleanWithNew),
        Self::FailedSync(AfterFailedSync::CleanWithOld),
        Self::FailedSync(AfterFailedSync::PartlyPersisted),
        Self::FailedSync(AfterFailedSync::ReportedLate),
        Self::Reordered,
    ];

    /// Every kind with every call that it befalls.
    pub fn every() -> impl Iterator<Item = (FaultKind, DiskOp)> {
        let calls = |kind: FaultKind| DiskOp::ALL.into_iter().filter(move |op| kind.befalls(*op));
        Self::ALL.into_iter().flat_map(move |kind| calls(kind).map(move |op| (kind, op)))
    }

    /// Whether a real system has this fault on this call.
    pub fn befalls(self, op: DiskOp) -> bool {
        use DiskOp::*;
        let transfer = matches!(op, Read | Write);
        let sync = matches!(op, Sync | Flush);
        match self {
            Self::Interrupted => transfer || sync || op == SyncDir,
            Self::Again | Self::Busy | Self::Short | Self::Zero | Self::Reordered => transfer,
            Self::Io => op != Map,
            Self::NoSpace => {
                sync || matches!(op, Write | SetLen | Reserve | SyncDir | Create | CreateDir | Rename)
            }
            Self::ReadOnly => NAMES.contains(&op) || matches!(op, Open | Write | SetLen | Reserve),
            Self::NoPermission => NAMES.contains(&op) || matches!(op, Open | List | SyncDir),
            Self::NoDescriptors => matches!(op, Open | Create | List | SyncDir),
            Self::NoMemory => transfer || op == Map,
            Self::Torn => op == Write,
            Self::DoneButReported => {
                NAMES.contains(&op) || sync || matches!(op, Write | SetLen | Reserve | SyncDir)
            }
            Self::FailedSync(_) => sync,
        }
    }

    /// A plan for the next call of this kind on which it can happen. Panics if a system has no such fault there.
    pub fn on(self, op: DiskOp) -> FaultPlan {
        assert!(self.befalls(op), "no system has {self} on {op:?}");
        match self {
            Self::Interrupted => FaultPlan::errno(libc::EINTR),
            Self::Again => FaultPlan::errno(libc::EAGAIN),
            Self::Busy => FaultPlan::errno(libc::EBUSY),
            Self::Io => FaultPlan::errno(libc::EIO),
            Self::NoSpace => FaultPlan::errno(libc::ENOSPC),
            Self::ReadOnly => FaultPlan::errno(libc::EROFS),
            Self::NoPermission => FaultPlan::errno(libc::EACCES),
            Self::NoDescriptors => FaultPlan::errno(libc::EMFILE),
            Self::NoMemory => FaultPlan::errno(libc::ENOMEM),
            Self::Short => FaultPlan::short(1),
            Self::Zero => FaultPlan::short(0),
            Self::Torn => FaultPlan::torn(libc::EIO, 512),
            Self::DoneButReported => FaultPlan::done_but_reported(libc::EIO),
            Self::FailedSync(after) => FaultPlan::failed_sync(libc::EIO, after),
            Self::Reordered => FaultPlan::reordered(),
        }
        .on(op)
    }

    /// The name by which it is printed and read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupted => "EINTR",
            Self::Again => "EAGAIN",
            Self::Busy => "EBUSY",
            Self::Io => "EIO",
            Self::NoSpace => "ENOSPC",
            Self::ReadOnly => "EROFS",
            Self::NoPermission => "EACCES",
            Self::NoDescriptors => "EMFILE",
            Self::NoMemory => "ENOMEM",
            Self::Short => "short",
            Self::Zero => "zero",
            Self::Torn => "torn",
            Self::DoneButReported => "done-but-reported",
            Self::FailedSync(AfterFailedSync::CleanWithNew) => "clean-with-new",
            Self::FailedSync(AfterFailedSync::CleanWithOld) => "clean-with-old",
            Self::FailedSync(AfterFailedSync::PartlyPersisted) => "partly-persisted",
            Self::FailedSync(AfterFailedSync::ReportedLate) => "reported-late",
            Self::Reordered => "reordered",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_befalls_some_call_and_makes_a_plan_there() {
        let every: Vec<_> = FaultKind::every().collect();
        for kind in FaultKind::ALL {
            assert!(every.iter().any(|(there, _)| *there == kind), "{kind}");
        }
        for op in DiskOp::ALL {
            assert!(every.iter().any(|(_, there)| *there == op), "{op:?}");
        }
        for (kind, op) in every {
            let _ = kind.on(op); // panics if the plan knows better
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), FaultKind::ALL.len());
    }
}
