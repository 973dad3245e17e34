//! Faults on schedule.
//!
//! Invariant: a plan counts the calls that it matches and the faults that it really injected; a test that asks afterwards
//! cannot pass because nothing went wrong.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::crash::PathPredicate;

/// The calls of the file seam.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum DiskOp {
    /// [`Disk::open`](pagestone_direct_io::Disk::open) of a file that is there, or is not and shall not be made.
    Open,
    /// [`Disk::open`](pagestone_direct_io::Disk::open) that makes the file.
    Create,
    /// [`Disk::create_dir`](pagestone_direct_io::Disk::create_dir).
    CreateDir,
    /// [`Disk::rename`](pagestone_direct_io::Disk::rename); its path is the old one.
    Rename,
    /// [`Disk::remove_file`](pagestone_direct_io::Disk::remove_file).
    Remove,
    /// [`Disk::list`](pagestone_direct_io::Disk::list).
    List,
    /// [`Disk::kind`](pagestone_direct_io::Disk::kind).
    Kind,
    /// [`Disk::sync_dir`](pagestone_direct_io::Disk::sync_dir).
    SyncDir,
    /// [`File::read_at`](pagestone_direct_io::File::read_at), of one buffer or several.
    Read,
    /// [`File::write_at`](pagestone_direct_io::File::write_at), of one buffer or several.
    Write,
    /// [`File::sync`](pagestone_direct_io::File::sync).
    Sync,
    /// [`File::len`](pagestone_direct_io::File::len).
    Len,
    /// [`File::set_len`](pagestone_direct_io::File::set_len).
    SetLen,
    /// [`File::reserve`](pagestone_direct_io::File::reserve).
    Reserve,
    /// [`File::punch_hole`](pagestone_direct_io::File::punch_hole).
    PunchHole,
    /// [`File::drop_cache`](pagestone_direct_io::File::drop_cache).
    DropCache,
    /// [`File::try_lock`](pagestone_direct_io::File::try_lock).
    Lock,
    /// [`File::map`](pagestone_direct_io::File::map).
    Map,
    /// [`Map::flush`](pagestone_direct_io::Map::flush).
    Flush,
}

impl DiskOp {
    /// All of them.
    pub const ALL: [DiskOp; 19] = [
        Self::Open,
        Self::Create,
        Self::CreateDir,
        Self::Rename,
        Self::Remove,
        Self::List,
        Self::Kind,
        Self::SyncDir,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Len,
        Self::SetLen,
        Self::Reserve,
        Self::PunchHole,
        Self::DropCache,
        Self::Lock,
        Self::Map,
        Self::Flush,
    ];
}

/// What a failed sync leaves behind (Rebello and others, *Can Applications Recover from fsync Failures?*, USENIX ATC 2020).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum AfterFailedSync {
    /// The writes are lost; the cache shows them all the same and takes them for clean.
    CleanWithNew,
    /// The writes are lost and the cache shows the durable bytes again.
    CleanWithOld,
    /// Some sectors reached the disk, the others are lost; the cache shows all of them.
    PartlyPersisted,
    /// The sync succeeds and so do its writes; the next sync of the file fails, and the writes since are as for
    /// [`AfterFailedSync::CleanWithNew`].
    ReportedLate,
}

impl AfterFailedSync {
    /// All four.
    pub const ALL: [AfterFailedSync; 4] =
        [Self::CleanWithNew, Self::CleanWithOld, Self::PartlyPersisted, Self::ReportedLate];
}

/// What a call does instead of succeeding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Errno(i32),
    Short(usize),
    Torn { errno: i32, bytes: usize },
    DoneButReported(i32),
    FailedSync { errno: i32, after: AfterFailedSync },
    Reordered,
}

/// Which calls fail, and how. Without further words: the next call that can fail so, once.
///
/// ```
/// use pagestone_testkit::{AfterFailedSync, DiskOp, FaultPlan};
/// const EIO: i32 = 5;
/// // the third write to any file of the log
/// FaultPlan::errno(EIO).on(DiskOp::Write).path(|path| path.starts_with("/db/log")).skip(2);
/// // every sync from now on
/// FaultPlan::failed_sync(EIO, AfterFailedSync::PartlyPersisted).forever();
/// // the call with number 17, whatever it is
/// FaultPlan::errno(EIO).skip(17);
/// ```
#[derive(Clone)]
#[must_use = "a plan does nothing until it is given to SimDisk::fail"]
pub struct FaultPlan {
    fault: Fault,
    ops: Vec<DiskOp>,
    path: Option<PathPredicate>,
    skip: u64,
    times: u64,
}

impl FaultPlan {
    fn new(fault: Fault, ops: &[DiskOp]) -> Self {
        Self { fault, ops: ops.to_vec(), path: None, skip: 0, times: 1 }
    }

    /// Fails with this error number and changes nothing. A sync that fails so is
    /// [`AfterFailedSync::CleanWithNew`].
    pub fn errno(errno: i32) -> Self {
        Self::new(Fault::Errno(errno), &DiskOp::ALL)
    }

    /// A read or write of more bytes than that transfers so many and says so; 0 is a write that takes nothing, or a false end
    /// of the file (I1, I3).
    pub fn short(bytes: usize) -> Self {
        Self::new(Fault::Short(bytes), &[DiskOp::Read, DiskOp::Write])
    }

    /// A write takes so many bytes and fails with this error number.
    pub fn torn(errno: i32, bytes: usize) -> Self {
        Self::new(Fault::Torn { errno, bytes }, &[DiskOp::Write])
    }

    /// The call changes what it should and reports this error number all the same.
    pub fn done_but_reported(errno: i32) -> Self {
        let changing = [
            DiskOp::Create,
            DiskOp::CreateDir,
            DiskOp::Rename,
            DiskOp::Remove,
            DiskOp::SyncDir,
            DiskOp::Write,
            DiskOp::Sync,
            DiskOp::Flush,
            DiskOp::SetLen,
            DiskOp::Reserve,
            DiskOp::PunchHole,
            DiskOp::DropCache,
        ];
        Self::new(Fault::DoneButReported(errno), &changing)
    }

    /// A sync, or the flush of a map, fails with this error number and leaves this behind.
    pub fn failed_sync(errno: i32, after: AfterFailedSync) -> Self {
        Self::new(Fault::FailedSync { errno, after }, &[DiskOp::Sync, DiskOp::Flush])
    }

    /// A batch of several transfers is done in another order than it was given in, by lot (I17). With plans for single reads and
    /// writes beside it, some of a reordered batch fail or come short. Counted once a batch.
    pub fn reordered() -> Self {
        Self::new(Fault::Reordered, &[DiskOp::Read, DiskOp::Write])
    }

    /// Only calls of this kind. Panics if the fault makes no sense there: a short rename, say.
    pub fn on(mut self, op: DiskOp) -> Self {
        assert!(self.ops.contains(&op), "{:?} cannot befall {op:?}", self.fault);
        self.ops = vec![op];
        self
    }

    /// Only calls on paths of which this is true: the path that the file was opened by, or the call's own.
    pub fn path(mut self, predicate: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.path = Some(Arc::new(predicate));
        self
    }

    /// Lets so many matching calls pass first.
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Fails so many matching calls in a row.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Fails every matching call from there on.
    pub fn forever(self) -> Self {
        self.times(u64::MAX)
    }

    fn matches(&self, op: DiskOp, path: &Path, what: Call) -> bool {
        let possible = match (self.fault, what) {
            (Fault::Reordered, Call::Batch) => true,
            (Fault::Reordered, _) | (_, Call::Batch) => false,
            (Fault::Short(most), Call::Transfer(len)) => len > most,
            _ => true,
        };
        possible && self.ops.contains(&op) && self.path.as_ref().is_none_or(|predicate| predicate(path))
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = if self.path.is_some() { "some paths" } else { "all paths" };
        write!(
            f,
            "{:?} on {:?} of {paths}, after {} calls, {} times",
            self.fault, self.ops, self.skip, self.times
        )
    }
}

/// What a plan is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    /// A call that moves no bytes.
    Plain,
    /// A read or write of so many bytes: those that it would move if all went well.
    Transfer(usize),
    /// Several reads, or several writes, handed over at once.
    Batch,
}

/// A plan that a disk was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct FaultId(usize);

/// The plans of a disk and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plans: Vec<(FaultPlan, u64)>,
    active: bool,
}

impl Faults {
    pub(crate) fn add(&mut self, plan: FaultPlan) -> FaultId {
        self.plans.push((plan, 0));
        self.active = true;
        FaultId(self.plans.len() - 1)
    }

    /// No plan fires any more; the counts stay.
    pub(crate) fn heal(&mut self) {
        for (plan, _) in &mut self.plans {
            plan.times = 0;
        }
        self.active = false;
    }

    pub(crate) fn injected(&self, id: FaultId) -> u64 {
        self.plans[id.0].1
    }

    /// What befalls this call. Every plan counts the call; the first whose turn it is fires.
    pub(crate) fn befall(&mut self, op: DiskOp, path: &Path, call: Call) -> Option<Fault> {
        if !self.active {
            return None;
        }
        let mut fault = None;
        for (plan, injected) in &mut self.plans {
            if plan.times == 0 || !plan.matches(op, path, call) {
                continue;
            }
            if plan.skip > 0 {
                plan.skip -= 1;
            } else if fault.is_none() {
                fault = Some(plan.fault);
                plan.times -= u64::from(plan.times != u64::MAX);
                *injected += 1;
            }
        }
        fault
    }
}
