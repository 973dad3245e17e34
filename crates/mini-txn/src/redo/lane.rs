//! A thread that applies windows, and the two places between it and who gathers them.
//!
//! Invariant: the thread has a window, or its empty one is to be had, never both; after the first error, or a panic, no further record is
//! applied, and whoever hands over or waits is told at once.
//!
//! ```text
//!   hand_over ──► waiting ──► run: apply ──► idle ──► the next hand_over gets it, with its memory
//! ```
//!
//! So who gathers has one window and who applies the other one, and a window grows as long as the other is applied: the slower the
//! threads are, the more records of a page come to them together, which makes them faster.

use std::io;

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{PageError, PageResult, Poison};
use pagestone_sync::{Arc, Condvar, Mutex};
use pagestone_threading::{Worker, spawn};

use super::RedoCounts;
use super::apply::Applier;
use super::window::Window;

/// How long [`Lane::hand_over`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    /// Until the thread has applied what it has.
    UntilIdle,
}

/// One thread of redo.
#[derive(Debug)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<Window>,
    /// An empty window, while the thread has nothing to do.
    idle: Option<Window>,
    /// No further window comes.
    last: bool,
    /// How the thread ended, or that it is going to: none is applied any more.
    ended: Option<PageResult<RedoCounts>>,
}

impl Lane {
    /// Errors: the system has no thread for us.
    pub(super) fn start(number: usize, applier: Applier<Arc<BufferPool>>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.state.lock().idle = Some(Window::default());
        let (body, failed) = (Arc::clone(&shared), Arc::clone(&shared));
        let on_panic = move |message: String| {
            failed.end(Err(Poison::new().poison(format_args!("a thread of redo panicked: {message}"))));
        };
        let worker = spawn(&format!("pagestone-redo{number}"), on_panic, move || body.run(applier))?;
        Ok(Self { shared, worker: Some(worker) })
    }

    /// Gives the thread a window, and takes an empty one, once it has nothing to do. With [`Patience::None`] the window is left as it
    /// is if the thread is at work.
    pub(super) fn hand_over(&self, window: &mut Window, patience: Patience) -> PageResult<()> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(ended) = state.ended.take() {
                // It was told; whoever asks again learns as much.
                state.ended = Some(Err(PageError::Closed));
                return ended.and(Err(PageError::Closed));
            }
            match (state.idle.take(), patience) {
                (Some(idle), _) => {
                    state.waiting = Some(std::mem::replace(window, idle));
                    drop(state);
                    self.shared.changed.notify_all();
                    return Ok(());
                }
                (None, Patience::None) => return Ok(()),
                (None, Patience::UntilIdle) => state = self.shared.changed.wait(state),
            }
        }
    }

    /// Waits until everything is applied.
    pub(super) fn finish(mut self) -> PageResult<RedoCounts> {
        self.join();
        self.shared.state.lock().ended.take().unwrap_or(Err(PageError::Closed))
    }

    fn join(&mut self) {
        self.shared.state.lock().last = true;
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            // A panic was noted by `on_panic`.
            let _ = worker.join();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn run(&self, mut applier: Applier<Arc<BufferPool>>) {
        while let Some(mut window) = self.next() {
            if let Err(error) = applier.apply(&mut window) {
                return self.end(Err(error));
            }
            self.state.lock().idle = Some(window);
            self.changed.notify_all();
        }
        self.end(Ok(applier.counts()));
    }

    /// The next window; none if there will be none.
    fn next(&self) -> Option<Window> {
        let mut state = self.state.lock();
        loop {
            if let Some(window) = state.waiting.take() {
                return Some(window);
            }
            if state.last {
                return None;
            }
            state = self.changed.wait(state);
        }
    }

    fn end(&self, how: PageResult<RedoCounts>) {
        self.state.lock().ended = Some(how);
        self.changed.notify_all();
    }
}
