//! The work that no caller waits for: the flush of relaxed writes, checkpoints, and the rest of interrupted drops.
//!
//! Invariant: a background thread that panics or meets an error on the write path poisons the handle (E8, R5); none ends in
//! silence.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use pagestone_page_format::PageError;
use pagestone_threading::{StopSignal, Worker, spawn};
use pagestone_wal::WalError;

use crate::checkpoint::Core;
use crate::{Durability, StoreError, StoreResult};

/// How often the checkpointer looks at the log.
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn is_full_disk(error: &StoreError) -> bool {
    match error {
        StoreError::Page(PageError::NoSpace { .. }) | StoreError::Wal(WalError::NoSpace { .. }) => true,
        StoreError::Page(PageError::Io { source, .. }) | StoreError::Wal(WalError::Io { source, .. }) => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}

/// The threads of one handle.
#[derive(Debug)]
pub(crate) struct Workers {
    stop: Arc<StopSignal>,
    workers: Vec<Worker>,
}

impl Workers {
    pub(crate) fn none() -> Self {
        Self { stop: Arc::new(StopSignal::new()), workers: Vec::new() }
    }

    pub(crate) fn start(core: &Arc<Core>) -> StoreResult<Self> {
        let mut all = Self::none();
        if let Durability::Relaxed { interval } = core.durability {
            all.add(core, "pagestone-flush", interval, |core| core.sync())?;
        }
        all.add(core, "pagestone-ckpt", LOOK_EVERY, |core| {
            if core.checkpoint_is_due() { core.checkpoint() } else { Ok(()) }
        })?;
        all.resume_drops(core)?;
        Ok(all)
    }

    /// Finishes, once, what was being dropped when the store was closed or killed. A drop that fails is counted and stays logged: the
    /// next opening takes it up, or whoever asks for its name, and is told the error. It is no reason to end the handle.
    fn resume_drops(&mut self, core: &Arc<Core>) -> StoreResult<()> {
        let (stop, core) = (Arc::clone(&self.stop), Arc::clone(core));
        let poison = core.env.poison().clone();
        let on_panic = move |message: String| {
            poison.poison(format_args!("the thread pagestone-drops panicked: {message}"));
        };
        let worker = spawn("pagestone-drops", on_panic, move || {
            // Counted there.
            let _ = core.catalog.resume_drops(&|| stop.is_stopped());
        })
        .map_err(|error| StoreError::io("starting a background thread", error))?;
        self.workers.push(worker);
        Ok(())
    }

    fn add(
        &mut self,
        core: &Arc<Core>,
        name: &'static str,
        every: Duration,
        work: fn(&Core) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let (stop, core) = (Arc::clone(&self.stop), Arc::clone(core));
        let poison = core.env.poison().clone();
        let on_panic = move |message: String| {
            poison.poison(format_args!("the thread {name} panicked: {message}"));
        };
        let worker = spawn(name, on_panic, move || {
            while !stop.wait_for(every) {
                match work(&core) {
                    Ok(()) => {}
                    // A full disk may have room again (I12); the writers are told by their own reservations.
                    Err(error) if is_full_disk(&error) => {}
                    Err(error) => {
                        core.env.poison().poison(format_args!("the thread {name}: {error}"));
                        return;
                    }
                }
            }
        })
        .map_err(|error| StoreError::io("starting a background thread", error))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Ends them all and waits for it.
    pub(crate) fn stop(&mut self) {
        self.stop.stop();
        for worker in self.workers.drain(..) {
            // A panic was reported to `on_panic` when it happened and poisoned the handle.
            let _ = worker.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}
