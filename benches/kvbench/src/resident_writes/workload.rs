//! What is done, and a batch of it.
//!
//! Invariant: a batch is drawn before its time counts, keys and all, and is the same for every side in the same turn.

use super::keys::KeySet;
use super::zipf::Zipf;
use crate::BenchResult;
use crate::peers::visible::Visible;
use crate::writers::mix;

/// Bytes of a value: its key's stamp, its version, and what fills it up.
pub(super) const VALUE: usize = 100;
/// Operations of a batch, and scans.
const OPS: usize = 1024;
const SCANS: usize = 32;
/// Rows of a scan.
const SCAN_ROWS: u64 = 100;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Random overwrites (G5).
    Puts,
    /// Half gets, half puts, by Zipf's law (G4).
    YcsbA,
    /// Random look-ups.
    Gets,
    /// 100 rows from a random key on, counted by the row.
    Scans,
}

impl Workload {
    pub(super) const ALL: [Workload; 4] = [Workload::Puts, Workload::YcsbA, Workload::Gets, Workload::Scans];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Puts => "random overwrites",
            Self::YcsbA => "YCSB-A: half gets, half puts, zipf 0.99",
            Self::Gets => "random gets",
            Self::Scans => "scans of 100 rows from a random key on, by the row",
        }
    }
}

struct Op {
    number: u64,
    /// End of its key in the batch.
    end: usize,
    is_put: bool,
}

/// What is drawn at once.
#[derive(Default)]
pub(super) struct Batch {
    keys: Vec<u8>,
    ops: Vec<Op>,
    scans: bool,
}

impl Batch {
    pub(super) fn draw(&mut self, workload: Workload, keys: &KeySet, zipf: &Zipf, random: &mut u64) {
        self.keys.clear();
        self.ops.clear();
        self.scans = workload == Workload::Scans;
        for _ in 0..if self.scans { SCANS } else { OPS } {
            *random = mix(*random);
            let number = match workload {
                Workload::YcsbA => zipf.row(*random),
                Workload::Puts | Workload::Gets => *random % keys.len(),
                Workload::Scans => *random % keys.len().saturating_sub(SCAN_ROWS).max(1),
            };
            let is_put = match workload {
                Workload::Puts => true,
                Workload::YcsbA => mix(*random) & 1 == 0,
                Workload::Gets | Workload::Scans => false,
            };
            self.keys.extend_from_slice(keys.get(number));
            self.ops.push(Op { number, end: self.keys.len(), is_put });
        }
    }

    /// Does all of it, looks at what it reads, and gives how much that was.
    pub(super) fn run(
        &self,
        side: &dyn Visible,
        rows: u64,
        version: u64,
        scratch: &mut Vec<u8>,
    ) -> BenchResult<u64> {
        let (mut from, mut done) = (0, 0);
        for op in &self.ops {
            let key = &self.keys[from..op.end];
            from = op.end;
            done += 1;
            if self.scans {
                let many = SCAN_ROWS.min(rows - op.number);
                scan(side, key, op.number, many)?;
                done += many - 1;
            } else if op.is_put {
                side.put(key, &value(op.number, version))?;
            } else {
                side.get(key, scratch, &mut |found| check(op.number, found))?;
            }
        }
        Ok(done)
    }
}

fn scan(side: &dyn Visible, key: &[u8], first: u64, many: u64) -> BenchResult<()> {
    let mut seen = 0;
    side.scan(key, &mut |found, value| {
        if seen == 0 && found != key {
            return Err(format!("a scan begins at {found:?} and not at {key:?}").into());
        }
        check(first + seen, Some(value))?;
        seen += 1;
        Ok(seen < many)
    })?;
    if seen < many { Err(format!("a scan gave {seen} rows of {many}").into()) } else { Ok(()) }
}

/// The value of a key with this number.
pub(super) fn value(number: u64, version: u64) -> [u8; VALUE] {
    let mut value = [version as u8; VALUE];
    value[..8].copy_from_slice(&mix(number).to_le_bytes());
    value[8..16].copy_from_slice(&version.to_le_bytes());
    value
}

/// Values tell whose they are.
pub(super) fn check(number: u64, found: Option<&[u8]>) -> BenchResult<()> {
    let found = found.ok_or_else(|| format!("key {number} is gone"))?;
    if found.len() == VALUE && found.starts_with(&mix(number).to_le_bytes()) {
        Ok(())
    } else {
        Err(format!("key {number} has another one's value").into())
    }
}
