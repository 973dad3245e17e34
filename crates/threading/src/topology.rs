//! Which processors there are, and of what kind.
//!
//! Invariant: only processors that the process may use are in it, and there is at least one; when it cannot be told, the reason is.
//!
//! ```text
//!   what the calling thread may use     sched_getaffinity
//!   cores and packages                  /sys/devices/system/cpu/cpuN/topology/{core_id,physical_package_id}
//!   fast and saving cores               /sys/devices/cpu_core/cpus, cpu_atom/cpus      (x86 with both)
//!                                       else /sys/devices/system/cpu/cpuN/cpu_capacity (less than the most: saving)
//!                                       else all are alike
//! ```

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::{CpuSet, ThreadClass, platform};

/// The processors that this process may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    cpus: Vec<Cpu>,
}

/// One processor, as the system's scheduler counts them: a core has several if it runs several threads at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// The system's number of it.
    pub number: u32,
    /// The number of its core within its package.
    pub core: u32,
    /// The number of its package.
    pub package: u32,
    /// What its core is built for.
    pub kind: CoreKind,
}

/// What a core is built for. Where all are alike, all are fast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CoreKind {
    /// Speed.
    Fast,
    /// Saving power.
    Saving,
}

/// Why there is no topology. Everything goes on unpinned without one.
#[derive(Debug)]
#[non_exhaustive]
pub enum NoTopology {
    /// Nobody has written this for the system.
    Unsupported {
        /// Its name.
        system: &'static str,
    },
    /// The system does not say which processors may be used.
    Affinity {
        /// What it said instead.
        source: io::Error,
    },
    /// What describes a processor cannot be read: sandboxes hide it.
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// What describes a processor is not what it should be.
    Malformed {
        /// What was read.
        path: PathBuf,
        /// What stood there.
        found: String,
    },
    /// No processor was named.
    Empty,
}

impl Topology {
    /// Asks the system what the calling thread may use.
    ///
    /// Errors: [`NoTopology`] with the reason; on every system but Linux it is [`NoTopology::Unsupported`].
    pub fn detect() -> Result<Self, NoTopology> {
        Self::read(Path::new("/sys/devices"), &platform::affinity()?)
    }

    /// One that somebody else knows of. [`NoTopology::Empty`] without processors.
    pub fn new(cpus: impl IntoIterator<Item = Cpu>) -> Result<Self, NoTopology> {
        let cpus: Vec<Cpu> = cpus.into_iter().collect();
        if cpus.is_empty() { Err(NoTopology::Empty) } else { Ok(Self { cpus }) }
    }

    /// Every processor.
    pub fn all(&self) -> &[Cpu] {
        &self.cpus
    }

    /// Whether there are both kinds of cores.
    pub fn is_hybrid(&self) -> bool {
        self.cpus.iter().any(|cpu| cpu.kind != self.cpus[0].kind)
    }

    /// How many cores these processors are of.
    pub fn cores(&self) -> usize {
        let mut cores: Vec<_> = self.cpus.iter().map(|cpu| (cpu.package, cpu.core)).collect();
        cores.sort_unstable();
        cores.dedup();
        cores.len()
    }

    /// Where threads of a class run: never nowhere. None for [`ThreadClass::Unpinned`]. If all cores are alike every class has them all.
    pub fn cpus(&self, class: ThreadClass) -> Option<CpuSet> {
        let of = |kind: Option<CoreKind>| -> CpuSet {
            self.cpus
                .iter()
                .filter(|cpu| !self.is_hybrid() || kind.is_none_or(|kind| cpu.kind == kind))
                .map(|cpu| cpu.number)
                .collect()
        };
        match class {
            ThreadClass::Performance => Some(of(Some(CoreKind::Fast))),
            ThreadClass::Efficient => Some(of(Some(CoreKind::Saving))),
            ThreadClass::Worker => Some(of(None)),
            ThreadClass::Unpinned => None,
        }
    }

    /// Out of the files below `devices`.
    fn read(devices: &Path, allowed: &CpuSet) -> Result<Self, NoTopology> {
        let mut cpus = Vec::with_capacity(allowed.len());
        for number in allowed.iter() {
            let cpu = devices.join(format!("system/cpu/cpu{number}"));
            let (core, package) =
                (value(&cpu.join("topology/core_id"))?, value(&cpu.join("topology/physical_package_id"))?);
            cpus.push(Cpu { number, core, package, kind: CoreKind::Fast });
        }
        let saving = saving(devices, allowed)?;
        for cpu in cpus.iter_mut().filter(|cpu| saving.contains(cpu.number)) {
            cpu.kind = CoreKind::Saving;
        }
        Self::new(cpus)
    }
}

/// The processors of the saving kind.
fn saving(devices: &Path, allowed: &CpuSet) -> Result<CpuSet, NoTopology> {
    let atom = devices.join("cpu_atom/cpus");
    if let Some(list) = text(&atom)? {
        return list.parse().map_err(|found| NoTopology::Malformed { path: atom, found });
    }
    let mut capacities = Vec::with_capacity(allowed.len());
    for number in allowed.iter() {
        let path = devices.join(format!("system/cpu/cpu{number}/cpu_capacity"));
        // Not every system has an opinion.
        if text(&path)?.is_none() {
            return Ok(CpuSet::default());
        }
        capacities.push((number, value(&path)?));
    }
    let most = capacities.iter().map(|(_, capacity)| *capacity).max();
    Ok(capacities.into_iter().filter(|(_, capacity)| Some(*capacity) != most).map(|(cpu, _)| cpu).collect())
}

/// What a file says; nothing if there is none.
fn text(path: &Path) -> Result<Option<String>, NoTopology> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NoTopology::Unreadable { path: path.into(), source }),
    }
}

/// The number in a file that must be there. Where firmware does not know, Linux says -1: one package, one core for all.
fn value(path: &Path) -> Result<u32, NoTopology> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| NoTopology::Unreadable { path: path.into(), source })?;
    match text.trim() {
        "-1" => Ok(0),
        number => {
            number.parse().map_err(|_| NoTopology::Malformed { path: path.into(), found: number.into() })
        }
    }
}

impl fmt::Display for NoTopology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { system } => write!(f, "threads are not pinned on {system}"),
            Self::Affinity { source } => {
                write!(f, "the system does not say which processors may be used: {source}")
            }
            Self::Unreadable { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::Malformed { path, found } => {
                write!(f, "{} holds {found:?} and no number", path.display())
            }
            Self::Empty => f.write_str("no processor was named"),
        }
    }
}

impl std::error::Error for NoTopology {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Affinity { source } | Self::Unreadable { source, .. } => Some(source),
            Self::Unsupported { .. } | Self::Malformed { .. } | Self::Empty => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as the system shows it: for each processor its core, package and capacity.
    fn devices(cpus: &[(u32, i32, i32, Option<u32>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (number, core, package, capacity) in cpus {
            let cpu = dir.path().join(format!("system/cpu/cpu{number}"));
            put(&cpu.join("topology/core_id"), core);
            put(&cpu.join("topology/physical_package_id"), package);
            capacity.iter().for_each(|capacity| put(&cpu.join("cpu_capacity"), capacity));
        }
        dir
    }

    fn put(path: &Path, line: impl fmt::Display) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, format!("{line}\n")).expect("a file");
    }

    fn set(list: &str) -> CpuSet {
        list.parse().expect("a list")
    }

    fn places(topology: &Topology) -> [Option<String>; 4] {
        ThreadClass::ALL.map(|class| topology.cpus(class).map(|cpus| cpus.to_string()))
    }

    fn expected(performance: &str, worker: &str, efficient: &str) -> [Option<String>; 4] {
        [Some(performance.into()), Some(worker.into()), Some(efficient.into()), None]
    }

    #[test]
    fn cores_that_are_alike_serve_every_class() {
        let dir = devices(&[(0, 0, 0, None), (1, 0, 0, None), (2, 0, 1, None), (3, 1, 1, None)]);
        let topology = Topology::read(dir.path(), &set("0-3")).expect("a topology");
        assert_eq!((topology.is_hybrid(), topology.cores(), topology.all().len()), (false, 3, 4));
        assert_eq!(places(&topology), expected("0-3", "0-3", "0-3"));
    }

    #[test]
    fn x86_names_its_saving_cores() {
        let dir = devices(&[(0, 0, 0, None), (1, 0, 0, None), (2, 8, 0, None), (3, 9, 0, None)]);
        put(&dir.path().join("cpu_core/cpus"), "0-1");
        put(&dir.path().join("cpu_atom/cpus"), "2-3");
        let topology = Topology::read(dir.path(), &set("0-3")).expect("a topology");
        assert!(topology.is_hybrid());
        assert_eq!(places(&topology), expected("0-1", "0-3", "2-3"));
        // What the process may not use is not there, and one kind alone serves every class.
        let topology = Topology::read(dir.path(), &set("3")).expect("a topology");
        assert!(!topology.is_hybrid());
        assert_eq!(places(&topology), expected("3", "3", "3"));
    }

    #[test]
    fn elsewhere_capacities_tell() {
        let dir = devices(&[(0, 0, -1, Some(446)), (1, 1, -1, Some(446)), (2, 2, -1, Some(1024))]);
        let topology = Topology::read(dir.path(), &set("0-2")).expect("a topology");
        assert_eq!(places(&topology), expected("2", "0-2", "0-1"));
        assert_eq!(topology.all()[2].package, 0);
    }

    #[test]
    fn a_reason_is_stated() {
        let dir = devices(&[(0, 0, 0, None)]);
        let refused = Topology::read(dir.path(), &set("0-1")).expect_err("no processor 1").to_string();
        assert!(refused.contains("cpu1") && refused.contains("cannot be read"), "{refused}");
        put(&dir.path().join("system/cpu/cpu0/topology/core_id"), "many");
        let refused = Topology::read(dir.path(), &set("0")).expect_err("no number");
        assert!(matches!(refused, NoTopology::Malformed { found, .. } if found == "many"));
        let dir = devices(&[(0, 0, 0, None)]);
        put(&dir.path().join("cpu_atom/cpus"), "0-");
        assert!(matches!(Topology::read(dir.path(), &set("0")), Err(NoTopology::Malformed { .. })));
        assert!(matches!(Topology::new([]), Err(NoTopology::Empty)));
        let told = NoTopology::Unsupported { system: "macos" }.to_string();
        assert_eq!(told, "threads are not pinned on macos");
    }
}
