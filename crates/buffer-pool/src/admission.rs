//! The gate for operations that pin several pages at once.
//!
//! Invariant: operations inside the gate together asked for at most half of the frames, so that none waits for a frame that
//! another one of them holds for good. Operations that do not pass it hold no pin while they wait for a frame.

use pagestone_sync::{Condvar, Mutex};

use crate::BufferPool;

#[derive(Debug)]
pub(crate) struct Gate {
    left: Mutex<usize>,
    freed: Condvar,
    all: usize,
}

impl Gate {
    pub(crate) fn new(frames: usize) -> Self {
        let all = frames / 2;
        Self { left: Mutex::new(all), freed: Condvar::new(), all }
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
        let frames = frames.min(self.gate.all);
        let mut left = self.gate.left.lock();
        while *left < frames {
            left = self.gate.freed.wait(left);
        }
        *left -= frames;
        Admission { gate: &self.gate, frames }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        *self.gate.left.lock() += self.frames;
        self.gate.freed.notify_all();
    }
}
