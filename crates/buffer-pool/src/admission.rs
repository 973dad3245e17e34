//! The gate for operations that pin several pages at once.
//!
//! Invariant: operations inside the gate together asked for at most half of the frames, so that none waits for a frame that
//! another one of them holds for good. Operations that do not pass it hold no pin while they wait for a frame. When the budget is
//! lowered, those inside stay, and nobody enters until the sum is right again.

use pagestone_sync::{Condvar, Mutex};

use crate::BufferPool;

#[derive(Debug)]
pub(crate) struct Gate {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inside {
    /// What those inside asked for.
    frames: usize,
    /// What they may ask for together.
    most: usize,
}

impl Gate {
    pub(crate) fn new(frames: usize) -> Self {
        Self { inside: Mutex::new(Inside { frames: 0, most: frames / 2 }), changed: Condvar::new() }
    }

    /// The pool has so many frames from now on.
    pub(crate) fn follow(&self, frames: usize) {
        self.inside.lock().most = frames / 2;
        self.changed.notify_all();
    }
}

/// The right to pin a number of pages at once; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it at once gives the frames back"]
pub struct Admission<'p> {
    gate: &'p Gate,
    frames: usize,
}

impl BufferPool {
    /// Waits until an operation may pin `frames` pages. Take it before any latch and any pin. One that asks for more than
    /// half of the pool waits until it is alone.
    pub fn admit(&self, frames: usize) -> Admission<'_> {
        let mut inside = self.gate.inside.lock();
        loop {
            let frames = frames.min(inside.most);
            if inside.frames + frames <= inside.most {
                inside.frames += frames;
                return Admission { gate: &self.gate, frames };
            }
            inside = self.gate.changed.wait(inside);
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.gate.inside.lock().frames -= self.frames;
        self.gate.changed.notify_all();
    }
}
