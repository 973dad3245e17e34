//! Several faults together, by lot.
//!
//! Invariant: a schedule follows from its seed and the clean run, and its text says all of it: what failed once can be made to fail
//! again by whoever reads the message, and can be made smaller until nothing in it is idle.
//!
//! ```text
//!   7: EIO/Write+12x1 short/Read+0x* reported-late/Sync+2x1
//!   │  │   │     │  └ how often in a row, * for ever
//!   │  │   │     └ so many calls of the kind pass first
//!   │  │   └ the call
//!   │  └ the kind of fault
//!   └ the seed
//! ```

use std::fmt;
use std::str::FromStr;

use super::disk::SimDisk;
use super::fault::{DiskOp, FaultId};
use super::kind::FaultKind;
use super::tally::FaultTally;
use crate::rng::Rng;

/// One fault of a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedFault {
    /// What happens.
    pub kind: FaultKind,
    /// To which call.
    pub op: DiskOp,
    /// After so many such calls.
    pub skip: u64,
    /// So often in a row; `u64::MAX` is for ever.
    pub times: u64,
}

/// Faults that are planned together.
///
/// ```
/// use pagestone_testkit::Schedule;
/// let schedule: Schedule = "7: EIO/Write+12x1 short/Read+0x*".parse()?;
/// assert_eq!(schedule.faults.len(), 2);
/// assert_eq!(schedule.to_string(), "7: EIO/Write+12x1 short/Read+0x*");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// What the faults were drawn by, and what the disk's own choices should follow from.
    pub seed: u64,
    /// The faults.
    pub faults: Vec<PlannedFault>,
}

impl Schedule {
    /// Some faults, at most so many, of the calls that were made on `clean`: a disk on which the workload ran without any.
    pub fn by_lot(seed: u64, clean: &SimDisk, most: usize) -> Self {
        let possible: Vec<_> = FaultKind::every().filter(|(_, op)| clean.calls(*op) > 0).collect();
        let mut rng = Rng::new(seed);
        let mut faults = Vec::new();
        if !possible.is_empty() {
            for _ in 0..1 + rng.below(most.max(1) as u64) {
                let (kind, op) = *rng.pick(&possible);
                let skip = rng.below(clean.calls(op));
                let times = *rng.pick(&[1, 1, 1, 2, 5, u64::MAX]);
                faults.push(PlannedFault { kind, op, skip, times });
            }
        }
        Self { seed, faults }
    }

    /// Plans all of it, in the order of the faults.
    pub fn plan(&self, disk: &SimDisk) -> Vec<FaultId> {
        let plan = |fault: &PlannedFault| fault.kind.on(fault.op).skip(fault.skip).times(fault.times);
        self.faults.iter().map(|fault| disk.fail(plan(fault))).collect()
    }

    /// Takes in what came of it; `plans` are those that [`Schedule::plan`] gave.
    pub fn count(&self, tally: &mut FaultTally, disk: &SimDisk, plans: &[FaultId]) {
        for (fault, plan) in self.faults.iter().zip(plans) {
            tally.count(fault.kind, fault.op, disk, *plan);
        }
    }

    /// The smallest schedule found that still fails: with fewer faults, each happening less often and sooner. `fails` runs the workload
    /// on a fresh disk. A schedule that does not fail is given back as it is.
    #[must_use]
    pub fn shrink(self, mut fails: impl FnMut(&Schedule) -> bool) -> Schedule {
        if !fails(&self) {
            return self;
        }
        let mut smallest = self;
        while let Some(smaller) = smallest.smaller().into_iter().find(&mut fails) {
            smallest = smaller;
        }
        smallest
    }

    /// One step smaller, the longest steps first.
    fn smaller(&self) -> Vec<Schedule> {
        let mut found = Vec::new();
        for at in 0..self.faults.len() {
            let mut fewer = self.clone();
            fewer.faults.remove(at);
            found.push(fewer);
        }
        let changed = |at: usize, change: &dyn Fn(&mut PlannedFault)| {
            let mut other = self.clone();
            change(&mut other.faults[at]);
            other
        };
        for (at, fault) in self.faults.iter().enumerate() {
            if fault.times > 1 {
                found.push(changed(at, &|fault| fault.times = 1));
                found.push(changed(at, &|fault| fault.times = fault.times.min(1000) - 1));
            }
            if fault.skip > 0 {
                found.push(changed(at, &|fault| fault.skip = 0));
                found.push(changed(at, &|fault| fault.skip /= 2));
                found.push(changed(at, &|fault| fault.skip -= 1));
            }
        }
        found.retain(|other| other != self);
        found
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}+{}x", self.kind, self.op, self.skip)?;
        if self.times == u64::MAX { f.write_str("*") } else { write!(f, "{}", self.times) }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.seed)?;
        self.faults.iter().try_for_each(|fault| write!(f, " {fault}"))
    }
}

impl FromStr for PlannedFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = || format!("{text:?} is no fault, which is told as in EIO/Write+12x1");
        let (kind, rest) = text.split_once('/').ok_or_else(told)?;
        let (op, rest) = rest.split_once('+').ok_or_else(told)?;
        let (skip, times) = rest.split_once('x').ok_or_else(told)?;
        let kind = FaultKind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(told)?;
        let op = DiskOp::ALL.into_iter().find(|known| format!("{known:?}") == op).ok_or_else(told)?;
        let skip = skip.parse().map_err(|_| told())?;
        let times = if times == "*" { u64::MAX } else { times.parse().map_err(|_| told())? };
        if !kind.befalls(op) {
            return Err(format!("no system has {kind} on {op:?}"));
        }
        Ok(Self { kind, op, skip, times })
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = || format!("{text:?} is no schedule: it begins with its seed and a colon");
        let (seed, faults) = text.split_once(':').ok_or_else(told)?;
        let seed = seed.trim().parse().map_err(|_| told())?;
        let faults = faults.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { seed, faults })
    }
}
