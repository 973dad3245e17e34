//! Fail call N, for N = 0, 1, 2, ... until the workload passes: once, and then it and all after it, for every kind of call and every
//! way in which it can fail.
//!
//! Invariant: a loop ends well only if each way to fail really befell a call, each run came to an end, and the workload, which judges
//! its own answers, accepted all of them.
//!
//! ```text
//!   kind of call ──► ways to fail (I1 to I18) ──► once, for good ──► N = 0, 1, 2, ... ──► fresh disk ──► workload
//! ```
//!
//! A run that hangs ends the process with the name of what was failed: [`HANG`] is generous, so that only a hang reaches it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::{AfterFailedSync, DiskOp, FaultId, FaultPlan, SimDisk};

/// No run of a workload takes so long.
const HANG: Duration = Duration::from_secs(120);
/// So many calls are failed one after the other before a loop with a stride skips any.
const DENSE: u64 = 6;

/// The error numbers that any call can give (I4 to I16).
const ERRNOS: [i32; 9] = [
    libc::EINTR,
    libc::EAGAIN,
    libc::EBUSY,
    libc::EIO,
    libc::ENOSPC,
    libc::EROFS,
    libc::EACCES,
    libc::EMFILE,
    libc::ENOMEM,
];

/// One way in which a call fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Failure {
    /// With this number, and nothing is changed.
    Errno(i32),
    /// A transfer of at most so many bytes (I1, I3); of none it is a false end of the file (I2), or a write that takes nothing.
    Short(usize),
    /// A write of so many bytes, and then an error.
    Torn(usize),
    /// All is done, and an error is told.
    DoneButReported,
    /// A sync, with an after-effect.
    Sync(AfterFailedSync),
    /// A batch of transfers is done in another order (I17).
    Reordered,
}

impl Failure {
    fn all_of(op: DiskOp) -> Vec<Self> {
        let mut all = ERRNOS.map(Self::Errno).to_vec();
        if matches!(op, DiskOp::Read | DiskOp::Write) {
            all.extend([0, 1, 511, 3000].map(Self::Short));
        }
        match op {
            DiskOp::Write => all.extend([1, 512, 4096].map(Self::Torn)),
            DiskOp::Sync => all.extend(AfterFailedSync::ALL.map(Self::Sync)),
            _ => {}
        }
        use DiskOp::{Kind, Len, List, Lock, Map, Open, Read};
        let only_looks = [Open, List, Kind, Read, Len, Lock, Map];
        if !only_looks.contains(&op) {
            all.push(Self::DoneButReported);
        }
        all
    }

    fn plan(self, op: DiskOp) -> FaultPlan {
        match self {
            Self::Errno(errno) => FaultPlan::errno(errno),
            Self::Short(bytes) => FaultPlan::short(bytes),
            Self::Torn(bytes) => FaultPlan::torn(libc::EIO, bytes),
            Self::DoneButReported => FaultPlan::done_but_reported(libc::EIO),
            Self::Sync(after) => FaultPlan::failed_sync(libc::EIO, after),
            Self::Reordered => FaultPlan::reordered(),
        }
        .on(op)
    }

    /// Whether it is tried again for a while before it is told, so that a long row of it takes time.
    fn is_waited_for(self) -> bool {
        matches!(self, Self::Errno(libc::EINTR | libc::EAGAIN | libc::EBUSY) | Self::Short(0))
    }
}

/// What a run fails: which call, how, and whether all after it as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strike {
    op: DiskOp,
    failure: Failure,
    number: u64,
    for_good: bool,
}

impl Strike {
    /// The kind of call.
    pub fn op(&self) -> DiskOp {
        self.op
    }

    /// Whether all calls of the kind fail from the first one on.
    pub fn for_good(&self) -> bool {
        self.for_good
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = if self.for_good { " and all after it" } else { "" };
        write!(f, "{:?} number {}{after}: {:?}", self.op, self.number, self.failure)
    }
}

/// A disk on which something fails.
#[derive(Debug)]
pub struct StruckDisk {
    /// The disk.
    pub disk: SimDisk,
    /// What fails on it.
    pub strike: Strike,
    plan: FaultId,
}

impl StruckDisk {
    /// Whether it has failed by now.
    pub fn was_struck(&self) -> bool {
        self.disk.injected(self.plan) > 0
    }
}

/// The loop over one workload.
#[derive(Clone, Debug)]
pub struct ErrorLoop {
    ops: Vec<DiskOp>,
    batches: Vec<DiskOp>,
    stride: u64,
}

/// How often each way to fail befell a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorLoopReport {
    /// Runs of the workload.
    pub runs: u64,
    /// Calls that were failed.
    pub injected: u64,
    /// Ways to fail, over all kinds of calls; each befell one at least.
    pub ways: usize,
}

impl ErrorLoop {
    /// Over these kinds of calls, each of which the workload makes.
    pub fn new(ops: &[DiskOp]) -> Self {
        Self { ops: ops.to_vec(), batches: Vec::new(), stride: 1 }
    }

    /// Reorders batches of these kinds of transfers as well, several of which the workload makes.
    #[must_use]
    pub fn reordering(mut self, ops: &[DiskOp]) -> Self {
        self.batches = ops.to_vec();
        self
    }

    /// Behind the first few, fails only each so-manieth call, from a start that differs from one way to fail to the next: for
    /// workloads of many calls.
    #[must_use]
    pub fn stride(mut self, stride: u64) -> Self {
        self.stride = stride.max(1);
        self
    }

    /// Runs the workload on fresh disks, on two threads, until it passes with nothing failed, for every way to fail.
    ///
    /// The workload panics on a wrong answer, and heals the disk and opens anew before it returns. Panics if a way to fail befell
    /// nothing; ends the process if a run hangs.
    pub fn run(&self, workload: impl Fn(&StruckDisk) + Sync) -> ErrorLoopReport {
        let ways: Vec<(DiskOp, Failure)> = self
            .ops
            .iter()
            .flat_map(|op| Failure::all_of(*op).into_iter().map(|failure| (*op, failure)))
            .chain(self.batches.iter().map(|op| (*op, Failure::Reordered)))
            .collect();
        let counts = Mutex::new(BTreeMap::new());
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let watchdog = Watchdog::new();
                    while let Some(way) = ways.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let count = self.fail(*way, &watchdog, &workload);
                        counts.lock().unwrap_or_else(PoisonError::into_inner).insert(*way, count);
                    }
                });
            }
        });
        let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        for way in &ways {
            let (_, injected) = counts[way];
            assert!(injected > 0, "{way:?} befell no call: the workload makes none, or the loop is broken");
        }
        ErrorLoopReport {
            runs: counts.values().map(|(runs, _)| runs).sum(),
            injected: counts.values().map(|(_, injected)| injected).sum(),
            ways: ways.len(),
        }
    }

    /// Gives runs, and calls failed.
    fn fail(
        &self,
        (op, failure): (DiskOp, Failure),
        watchdog: &Watchdog,
        workload: &impl Fn(&StruckDisk),
    ) -> (u64, u64) {
        let (mut runs, mut injected) = (0, 0);
        for for_good in [false, true] {
            let mut number = 0;
            loop {
                let strike = Strike { op, failure, number, for_good };
                let disk = SimDisk::new(number);
                let plan = failure.plan(op).skip(number);
                let plan = disk.fail(if for_good { plan.forever() } else { plan });
                let struck = StruckDisk { disk, strike, plan };
                watchdog.begins(strike);
                let told = Told(strike);
                workload(&struck);
                drop(told);
                runs += 1;
                let failed = struck.disk.injected(plan);
                injected += failed;
                if failed == 0 {
                    break;
                }
                number += match (number, for_good && failure.is_waited_for()) {
                    (_, true) => (3 * number).max(1),
                    (..DENSE, _) => 1,
                    // Two ways to fail rarely skip the same calls.
                    (DENSE, _) => 1 + (op as u64 * 7 + runs * 3) % self.stride,
                    _ => self.stride,
                };
            }
        }
        watchdog.rests();
        (runs, injected)
    }
}

/// Says which run panicked.
struct Told(Strike);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

/// Ends the process if a run hangs.
struct Watchdog {
    /// The run that begins; nothing if none does.
    runs: mpsc::Sender<Option<Strike>>,
}

impl Watchdog {
    fn new() -> Self {
        let (runs, begun) = mpsc::channel();
        // It ends with its sender.
        thread::spawn(move || {
            let mut now: Option<Strike> = None;
            loop {
                now = match (begun.recv_timeout(HANG), now) {
                    (Ok(next), _) => next,
                    (Err(mpsc::RecvTimeoutError::Timeout), None) => None,
                    (Err(mpsc::RecvTimeoutError::Timeout), Some(strike)) => {
                        eprintln!("hangs: {strike}");
                        std::process::abort();
                    }
                    (Err(mpsc::RecvTimeoutError::Disconnected), _) => return,
                };
            }
        });
        Self { runs }
    }

    fn begins(&self, strike: Strike) {
        self.runs.send(Some(strike)).expect("the watchdog waits for its sender");
    }

    fn rests(&self) {
        self.runs.send(None).expect("the watchdog waits for its sender");
    }
}
