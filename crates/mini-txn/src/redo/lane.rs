//! A thread that applies windows, and the two places between it and who gathers them.
//!
//! Invariant: at most one window waits; after the first error, or a panic, no further record is applied, and whoever hands over or
//! waits is told at once.
//!
//! ```text
//!   hand_over ──► waiting ──► run: apply ──► idle ──► the next hand_over gets it back, with its memory
//! ```

use std::io;

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{PageError, PageResult, Poison};
use pagestone_sync::{Arc, Condvar, Mutex};
use pagestone_threading::{Worker, spawn};

use super::RedoCounts;
use super::apply::Applier;
use super::window::Window;

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
    /// Windows that were applied, empty.
    idle: Vec<Window>,
    /// No further window comes.
    last: bool,
    /// How the thread ended, or that it is going to: none is applied any more.
    ended: Option<PageResult<RedoCounts>>,
}

impl Lane {
    /// Errors: the system has no thread for us.
    pub(super) fn start(number: usize, applier: Applier<Arc<BufferPool>>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (body, failed) = (Arc::clone(&shared), Arc::clone(&shared));
        let on_panic = move |message: String| {
            failed.end(Err(Poison::new().poison(format_args!("a thread of redo panicked: {message}"))));
        };
        let worker = spawn(&format!("pagestone-redo{number}"), on_panic, move || body.run(applier))?;
        Ok(Self { shared, worker: Some(worker) })
    }

    /// Gives the thread a window, once it has begun with the one before. Gives an empty one back.
    pub(super) fn hand_over(&self, window: Window) -> PageResult<Window> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(ended) = state.ended.take() {
                // It was told; whoever asks again learns as much.
                state.ended = Some(Err(PageError::Closed));
                return ended.and(Err(PageError::Closed));
            }
            if state.waiting.is_none() {
                break;
            }
            state = self.shared.changed.wait(state);
        }
        state.waiting = Some(window);
        let idle = state.idle.pop().unwrap_or_default();
        drop(state);
        self.shared.changed.notify_all();
        Ok(idle)
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
            self.state.lock().idle.push(window);
        }
        self.end(Ok(applier.counts()));
    }

    /// The next window; none if there will be none.
    fn next(&self) -> Option<Window> {
        let mut state = self.state.lock();
        loop {
            if let Some(window) = state.waiting.take() {
                drop(state);
                self.changed.notify_all();
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
