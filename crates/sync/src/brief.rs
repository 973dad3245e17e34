//! How [`BriefMutex`](crate::BriefMutex) keeps its value to one at a time; the value itself is in `platform.rs`.
//!
//! Invariant: who has turned `busy` is the only one until it turns it back; and who waits for it waits for one other, who was told by
//! nobody but needs nobody to go on.
//!
//! ```text
//!   lock ── busy: false ► true ──────────────────────────────► has it ── busy := false
//!     └─ busy, or wanted ─► turn (others sleep here) ── busy ──► has it, and no longer the turn
//!   hold ─────────────────► turn ───────────────────── busy ──► has it, and the turn
//! ```
//!
//! `wanted` sends those who come later to the turn, so that who waits for `busy` waits for one other. Who has the lock by `hold` keeps the turn,
//! so those who meet it sleep there, and the mutex of the turn wakes them. A model of this file alone: `tests/loom_brief_lock.rs`.

use crate::atomic::{AtomicBool, Ordering};
use crate::faults::planted;
use crate::{Mutex, MutexGuard, hint, thread};

/// Spins of who waits, before it lets others run.
const SPINS: u32 = 64;

/// The lock of a `BriefMutex`, without a value and without a guard: who takes it gives it up, and nobody else does.
#[derive(Debug)]
pub struct BriefLock {
    busy: AtomicBool,
    wanted: AtomicBool,
    turn: Mutex<()>,
}

impl Default for BriefLock {
    fn default() -> Self {
        Self::new()
    }
}

impl BriefLock {
    /// Nobody has it.
    pub fn new() -> Self {
        Self { busy: AtomicBool::new(false), wanted: AtomicBool::new(false), turn: Mutex::new(()) }
    }

    /// Waits for it and takes it, for some nanoseconds.
    #[inline]
    pub fn lock(&self) {
        if self.wanted.load(Ordering::Relaxed) || !self.try_lock() {
            let turn = self.hold();
            if planted("who has a brief lock for a moment keeps the turn") {
                std::mem::forget(turn);
            } // else who comes next waits for `busy`
        }
    }

    /// Takes it if nobody has it.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire pairs with the release of who had it before.
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let free = self.busy.compare_exchange(false, true, acquire, relaxed).is_ok();
        free || planted("a brief lock is taken though another has it")
    }

    /// Waits for it and takes it, for as long as it takes: takes the turn, which is given up behind the lock, then the lock.
    #[cold]
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock();
        if !self.try_lock() {
            self.wanted.store(true, Ordering::Relaxed);
            let mut spins = 0;
            while self.busy.load(Ordering::Relaxed) || !self.try_waited() {
                spins += 1;
                if spins < SPINS { hint::spin_loop() } else { thread::yield_now() }
            }
            self.wanted.store(false, Ordering::Relaxed);
        }
        turn
    }

    /// Takes it, having seen that nobody had it: another may have come between.
    fn try_waited(&self) -> bool {
        if planted("who has waited for a brief lock believes what it saw") {
            self.busy.store(true, Ordering::Relaxed);
            return true;
        }
        self.try_lock()
    }

    /// Gives it up; for who has it.
    #[inline]
    pub fn unlock(&self) {
        // Pairs with `try_lock`.
        let release = if planted("a brief lock is given up with no release") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        if !planted("a brief lock is not given up") {
            self.busy.store(false, release);
        }
    }
}
