//! Threads by class, pinned or not.
//!
//! Invariant: a thread that was asked to be pinned runs nothing of its body before it is; if it cannot be, it runs nothing at all and
//! whoever asked is told.

use std::sync::{Arc, mpsc};
use std::{fmt, io};

use crate::{CpuSet, NoTopology, ThreadClass, Topology, Worker, platform, spawn};

/// Starts threads by class. A clone goes by the same topology.
#[derive(Clone, Debug)]
pub struct Spawner {
    place: Result<Arc<Topology>, Arc<str>>,
}

impl Spawner {
    /// Leaves every thread to the system's scheduler: what a library should do unless it is asked otherwise.
    pub fn unpinned() -> Self {
        Self { place: Err("nobody asked for it".into()) }
    }

    /// Pins by what the system says of its processors; if it does not say, as [`Spawner::unpinned`], with the reason.
    pub fn detected() -> Self {
        match Topology::detect() {
            Ok(topology) => Self::pinned(topology),
            Err(reason) => Self { place: Err(reason.to_string().into()) },
        }
    }

    /// Pins by this topology.
    pub fn pinned(topology: Topology) -> Self {
        Self { place: Ok(Arc::new(topology)) }
    }

    /// What it goes by.
    pub fn topology(&self) -> Option<&Topology> {
        self.place.as_ref().ok().map(|topology| &**topology)
    }

    /// Why it pins nothing; none if it does.
    pub fn reason(&self) -> Option<&str> {
        self.place.as_ref().err().map(|reason| &**reason)
    }

    /// As [`spawn`], on the processors of the class.
    ///
    /// Errors: those of [`spawn`], and what the system says if it refuses the place; then neither closure has run.
    pub fn spawn(
        &self,
        class: ThreadClass,
        name: &str,
        on_panic: impl FnOnce(String) + Send + 'static,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<Worker> {
        let Some(cpus) = self.topology().and_then(|topology| topology.cpus(class)) else {
            return spawn(name, on_panic, body);
        };
        let (tell, told) = mpsc::sync_channel(1);
        let worker = spawn(name, on_panic, move || {
            let pinned = platform::pin(&cpus);
            let goes_on = pinned.is_ok();
            tell.send(pinned).expect("who starts a thread waits for its place");
            if goes_on {
                body();
            }
        })?;
        match told.recv() {
            Ok(Ok(())) => Ok(worker),
            Ok(Err(refused)) => {
                // It has nothing more to do.
                worker.join().map_err(|panicked| io::Error::other(panicked.to_string()))?;
                Err(refused)
            }
            Err(mpsc::RecvError) => Err(io::Error::other("a thread ended before it was pinned")),
        }
    }
}

/// Where the calling thread may run.
///
/// Errors: [`NoTopology::Unsupported`] on every system but Linux, [`NoTopology::Affinity`] with what the system said.
pub fn affinity() -> Result<CpuSet, NoTopology> {
    platform::affinity()
}

impl fmt::Display for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Err(reason) => write!(f, "not pinned: {reason}"),
            Ok(topology) => {
                f.write_str("pinned")?;
                for class in ThreadClass::ALL {
                    if let Some(cpus) = topology.cpus(class) {
                        write!(f, ", {class}: {cpus}")?;
                    }
                }
                Ok(())
            }
        }
    }
}
