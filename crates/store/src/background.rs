//! The work that no caller waits for: the flush of relaxed writes, checkpoints, the next segments of the log, and the rest of
//! interrupted drops.
//!
//! Invariant: a background thread that panics or meets an error on the write path poisons the handle (E8, R5); none ends in
//! silence.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use pagestone_page_format::PageError;
use pagestone_threading::{Spawner, StopSignal, ThreadClass, Worker};
use pagestone_wal::WalError;

use crate::checkpoint::{Core, Next};
use crate::{Durability, StoreError, StoreResult};

/// How often the log is looked at while it grows, and while nothing is written.
const LOOK_SOON: Duration = Duration::from_millis(2);
const LOOK_IDLE: Duration = Duration::from_millis(10);
/// How long a full disk is left alone.
const DISK_FULL: Duration = Duration::from_millis(100);

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
    spawner: Spawner,
    workers: Vec<Worker>,
}

impl Workers {
    pub(crate) fn none() -> Self {
        Self::with(Spawner::unpinned())
    }

    fn with(spawner: Spawner) -> Self {
        Self { stop: Arc::new(StopSignal::new()), spawner, workers: Vec::new() }
    }

    /// The names are those that the system shows, so they have 15 bytes at most.
    pub(crate) fn start(core: &Arc<Core>, spawner: Spawner) -> StoreResult<Self> {
        use ThreadClass::{Efficient, Performance};
        let mut all = Self::with(spawner);
        if let Durability::Relaxed { interval } = core.durability {
            all.add(core, Performance, "pagestone-flush", move |core| core.sync().map(|()| interval))?;
        }
        all.add(core, Efficient, "pagestone-ckpt", |core| {
            Ok(match core.checkpoint_round()? {
                Next::AtOnce => Duration::ZERO,
                Next::Soon => LOOK_SOON,
                Next::Idle => LOOK_IDLE,
            })
        })?;
        // Apart from the checkpointer: writing a segment's zeros takes long, and no writer should have to do it.
        all.add(core, Efficient, "pagestone-log", |core| {
            Ok(core.env.log().prepare().map(|()| LOOK_IDLE)?)
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
        let body = move || {
            // Counted there.
            let _ = core.catalog.resume_drops(&|| stop.is_stopped());
        };
        let worker = self
            .spawner
            .spawn(ThreadClass::Efficient, "pagestone-drops", on_panic, body)
            .map_err(|error| StoreError::io("starting a background thread", error))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Starts a thread that does `work` again and again; it says how long to wait before the next time.
    fn add(
        &mut self,
        core: &Arc<Core>,
        class: ThreadClass,
        name: &'static str,
        work: impl Fn(&Core) -> StoreResult<Duration> + Send + 'static,
    ) -> StoreResult<()> {
        let (stop, core) = (Arc::clone(&self.stop), Arc::clone(core));
        let poison = core.env.poison().clone();
        let on_panic = move |message: String| {
            poison.poison(format_args!("the thread {name} panicked: {message}"));
        };
        let body = move || {
            let mut pause = LOOK_SOON;
            while !stop.wait_for(pause) {
                pause = match work(&core) {
                    Ok(pause) => pause,
                    // A full disk may have room again (I12); the writers are told by their own reservations.
                    Err(error) if is_full_disk(&error) => DISK_FULL,
                    Err(error) => {
                        core.env.poison().poison(format_args!("the thread {name}: {error}"));
                        return;
                    }
                };
            }
        };
        let worker = self
            .spawner
            .spawn(class, name, on_panic, body)
            .map_err(|error| StoreError::io("starting a background thread", error))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Where they run, in words.
    pub(crate) fn placement(&self) -> String {
        self.spawner.to_string()
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
