//! The work that no caller waits for: the flush of relaxed writes, checkpoints, the next segments of the log, frames freed and pages
//! read ahead of time, space taken back, and the rest of interrupted drops.
//!
//! Invariant: a background thread that panics or meets an error on the write path poisons the handle (E8, R5); none ends in
//! silence.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use pagestone_buffer_pool::{PageProvider, ReadAhead};
use pagestone_page_format::PageError;
use pagestone_threading::{Spawner, StopSignal, ThreadClass, Worker};
use pagestone_wal::WalError;

use crate::checkpoint::{Core, Next};
use crate::{AutoCompact, Durability, StoreError, StoreResult};

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
    spawner: Spawner,
    /// Who writes to the log, and waits for room in it: ended first, while there still are those who make it.
    writers: Crew,
    /// Who makes room: flush, checkpoints, segments.
    keepers: Crew,
    provider: Option<PageProvider>,
    readers: Option<ReadAhead>,
}

/// Threads that are told together.
#[derive(Debug)]
struct Crew {
    stop: Arc<StopSignal>,
    workers: Vec<Worker>,
}

impl Crew {
    fn new() -> Self {
        Self { stop: Arc::new(StopSignal::new()), workers: Vec::new() }
    }

    /// Ends them all and waits for it.
    fn stop(&mut self) {
        self.stop.stop();
        for worker in self.workers.drain(..) {
            // A panic was reported to `on_panic` when it happened and poisoned the handle.
            let _ = worker.join();
        }
    }
}

impl Workers {
    pub(crate) fn none() -> Self {
        Self::with(Spawner::unpinned())
    }

    fn with(spawner: Spawner) -> Self {
        Self { spawner, writers: Crew::new(), keepers: Crew::new(), provider: None, readers: None }
    }

    /// The names are those that the system shows, so they have 15 bytes at most.
    pub(crate) fn start(core: &Arc<Core>, spawner: Spawner) -> StoreResult<Self> {
        use ThreadClass::{Efficient, Performance, Worker as Helper};
        let mut all = Self::with(spawner);
        let keepers: fn(&mut Self) -> &mut Crew = |all| &mut all.keepers;
        if let Durability::Relaxed { interval } = core.durability {
            all.add(keepers, core, Performance, "pagestone-flush", move |core| {
                core.sync().map(|()| interval)
            })?;
        }
        all.add(keepers, core, Efficient, "pagestone-ckpt", |core| {
            Ok(match core.checkpoint_round()? {
                Next::AtOnce => Duration::ZERO,
                Next::Soon => LOOK_SOON,
                Next::Idle => LOOK_IDLE,
            })
        })?;
        // Apart from the checkpointer: writing a segment's zeros takes long, and no writer should have to do it.
        all.add(keepers, core, Efficient, "pagestone-log", |core| {
            Ok(core.env.log().prepare().map(|()| LOOK_IDLE)?)
        })?;
        if core.page_provider {
            all.provider = Some(PageProvider::start(core.env.pool(), &all.spawner, Helper)?);
        }
        all.readers = Some(ReadAhead::start(core.env.pool(), &all.spawner, Helper)?);
        if core.auto_compact != AutoCompact::Off {
            // It waits for room in the log, so it ends before those who make it.
            all.add(
                |all| &mut all.writers,
                core,
                Efficient,
                "pagestone-pack",
                |core| {
                    Ok(match core.auto_compact()? {
                        Next::AtOnce => Duration::ZERO,
                        Next::Soon => LOOK_SOON,
                        Next::Idle => LOOK_IDLE,
                    })
                },
            )?;
        }
        all.resume_drops(core)?;
        Ok(all)
    }

    /// Finishes, once, what was being dropped when the store was closed or killed. A drop that fails is counted and stays logged: the
    /// next opening takes it up, or whoever asks for its name, and is told the error. It is no reason to end the handle.
    fn resume_drops(&mut self, core: &Arc<Core>) -> StoreResult<()> {
        let (stop, core) = (Arc::clone(&self.writers.stop), Arc::clone(core));
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
        self.writers.workers.push(worker);
        Ok(())
    }

    /// Starts a thread that does `work` again and again; it says how long to wait before the next time.
    fn add(
        &mut self,
        crew: fn(&mut Self) -> &mut Crew,
        core: &Arc<Core>,
        class: ThreadClass,
        name: &'static str,
        work: impl Fn(&Core) -> StoreResult<Duration> + Send + 'static,
    ) -> StoreResult<()> {
        let (stop, core) = (Arc::clone(&crew(self).stop), Arc::clone(core));
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
        crew(self).workers.push(worker);
        Ok(())
    }

    /// Who starts threads for work that a caller waits for; nobody in a store without threads.
    pub(crate) fn helpers(&self) -> Option<Spawner> {
        self.readers.is_some().then(|| self.spawner.clone())
    }

    /// Where they run, in words.
    pub(crate) fn placement(&self) -> String {
        self.spawner.to_string()
    }

    /// Ends them all and waits for it. A group of an interrupted drop that waits for room in the log gets it from those who end last;
    /// without them it would wait as long as any writer may.
    pub(crate) fn stop(&mut self) {
        self.writers.stop();
        drop(self.readers.take());
        drop(self.provider.take());
        self.keepers.stop();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Who is told to stop may be in the middle of something that needs the others.
    #[test]
    fn who_makes_room_outlives_who_waits_for_it() {
        let mut workers = Workers::none();
        let (ask, asked) = mpsc::channel::<mpsc::Sender<()>>();
        let stop = Arc::clone(&workers.keepers.stop);
        let keeper = move || {
            while !stop.wait_for(Duration::from_millis(1)) {
                asked.try_iter().for_each(|answer: mpsc::Sender<()>| answer.send(()).expect("waited for"));
            }
        };
        let stop = Arc::clone(&workers.writers.stop);
        let (done, is_done) = mpsc::channel();
        let writer = move || {
            while !stop.wait_for(Duration::from_secs(3600)) {}
            let (answer, answered) = mpsc::channel();
            // Fails where the keeper has ended: its end of the channel went with it.
            done.send(ask.send(answer).is_ok() && answered.recv().is_ok()).expect("waited for");
        };
        let on_panic = |message: String| panic!("{message}");
        let spawn = |name, body: Box<dyn FnOnce() + Send>| {
            Spawner::unpinned().spawn(ThreadClass::Efficient, name, on_panic, body).expect("a thread")
        };
        workers.keepers.workers.push(spawn("keeper", Box::new(keeper)));
        workers.writers.workers.push(spawn("writer", Box::new(writer)));
        workers.stop();
        assert_eq!(is_done.recv(), Ok(true), "who makes room ended first");
    }
}
