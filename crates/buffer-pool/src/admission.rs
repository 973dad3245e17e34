//! The gate for operations that pin several pages at once.
//!
//! Invariant: operations inside the gate together asked for at most half of the frames, so that none waits for a frame that
//! another one of them holds for good; and they enter in the order in which they came. Operations that do not pass it hold no pin
//! while they wait for a frame.
//!
//! ```text
//!   came, in order       at the head: fits beside those inside?
//!   3  1  1  5  ──────►  yes: enters      no: waits, and all behind it, until some have left
//! ```
//!
//! In order, because an operation that asks for much would else wait for as long as those that ask for little keep coming. So it waits
//! for those who were inside when it came, for those before it, and for nobody else. It costs something: who would fit waits
//! behind who does not. For that, too, a thread passes the gate once and not again while it is inside.
//!
//! When the budget is lowered, nobody enters until those inside fit into the lower one, and not a frame is taken away before.

use std::time::Instant;

use pagestone_sync::faults::planted;
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
    /// How many ever came, and how many of them have entered: who comes takes the one number, and waits until it is the other.
    came: u64,
    entered: u64,
}

impl Inside {
    fn fits(&self, frames: usize) -> bool {
        self.frames + frames <= self.most
    }
}

impl Gate {
    pub(crate) fn new(frames: usize) -> Self {
        let inside = Inside { frames: 0, most: frames / 2, came: 0, entered: 0 };
        Self { inside: Mutex::new(inside), changed: Condvar::new() }
    }

    /// The pool has so many frames from now on, or as before, and those inside fit.
    pub(crate) fn follow(&self, frames: usize) {
        self.inside.lock().most = frames / 2;
        self.changed.notify_all();
    }

    /// The pool is to have no more than so many frames: nobody enters any more unless he fits, and those inside are waited for until
    /// they do. If they do not in time, gives the frames that they asked for.
    pub(crate) fn narrow(&self, frames: usize, give_up: Instant) -> Result<(), usize> {
        let mut inside = self.inside.lock();
        inside.most = frames / 2;
        while inside.frames > inside.most && !planted("a lowered budget does not wait for who was admitted") {
            let left = give_up.saturating_duration_since(Instant::now());
            let (again, out_of_time) = self.changed.wait_for(inside, left);
            inside = again;
            if out_of_time && inside.frames > inside.most {
                return Err(inside.frames);
            }
        }
        Ok(())
    }

    fn enter(&self, frames: usize) -> usize {
        let mut inside = self.inside.lock();
        let turn = inside.came;
        inside.came += 1;
        loop {
            let frames = frames.min(inside.most);
            if inside.entered == turn && inside.fits(frames) {
                inside.frames += frames;
                inside.entered += 1;
                if inside.entered != inside.came && !planted("who enters the gate does not tell the next one")
                {
                    self.changed.notify_all();
                }
                return frames;
            }
            inside = self.changed.wait(inside);
        }
    }

    fn leave(&self, frames: usize) {
        self.inside.lock().frames -= frames;
        if !planted("who leaves the gate tells nobody") {
            self.changed.notify_all();
        }
    }
}

/// The right to pin a number of pages at once; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it at once gives the frames back"]
pub struct Admission<'p> {
    gate: &'p Gate,
    frames: usize,
}

impl Admission<'_> {
    /// What it was admitted for: what it asked for, or half of the pool if that is fewer. The budget leaves it as many.
    pub fn frames(&self) -> usize {
        self.frames
    }
}

impl BufferPool {
    /// Waits until an operation may pin `frames` pages; operations enter in the order in which they came. Take it before any latch and any
    /// pin, and not while holding another. One that asks for more than half of the pool waits until it is alone.
    pub fn admit(&self, frames: usize) -> Admission<'_> {
        Admission { frames: self.gate.enter(frames), gate: &self.gate }
    }

    /// The most frames that operations inside the gate may ask for together, half of the pool: one that asks for as many gets them, and keeps
    /// them while it is inside, however the budget moves.
    pub fn admission_max(&self) -> usize {
        self.gate.inside.lock().most
    }

    /// Operations that wait now to be admitted.
    pub fn waiting_for_admission(&self) -> usize {
        let inside = self.gate.inside.lock();
        (inside.came - inside.entered) as usize
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.frames);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore};

    use super::*;

    fn until_waiting(pool: &BufferPool, number: usize) {
        while pool.waiting_for_admission() < number {
            thread::yield_now();
        }
    }

    /// Who asks for much would wait for ever if those who ask for little entered beside each other all the time.
    #[test]
    fn who_asks_for_little_does_not_overtake_who_asks_for_much() {
        let pool = &BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 8);
        let (entered, order) = mpsc::channel();
        let inside = pool.admit(2);
        thread::scope(|scope| {
            // All of it; then what would fit beside what is inside, if it might.
            for (place, frames) in [4, 1, 2, 1].into_iter().enumerate() {
                let entered = entered.clone();
                scope.spawn(move || {
                    let admission = pool.admit(frames);
                    entered.send(frames).expect("somebody listens");
                    drop(admission);
                });
                until_waiting(pool, place + 1);
            }
            assert!(order.try_recv().is_err(), "nobody passes who stands first");
            drop(inside);
            assert_eq!(
                order.recv(),
                Ok(4),
                "it waited for those who were there before it, and for no others"
            );
            let mut rest: Vec<usize> = order.iter().take(3).collect();
            rest.sort_unstable(); // they fit together
            assert_eq!(rest, [1, 1, 2]);
        });
        assert_eq!((pool.waiting_for_admission(), pool.gate.inside.lock().frames), (0, 0));
    }
}
