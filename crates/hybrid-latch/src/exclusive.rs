//! Holding the latch alone.
//!
//! Invariant: a guard releases once, in one of three ways: with a version never seen before (P6), with the version it was
//! taken at (P5), or, when its holder panics, with a new version and poisoned (P10).

use std::marker::PhantomData;

use pagestone_sync::atomic::{Ordering, fence};
use pagestone_sync::faults::planted;

use crate::word::{DOWNGRADE, FREE_CHANGED, FREE_POISONED, FREE_UNCHANGED};
use crate::{HybridLatch, Shared};

/// A latch held alone; dropping it unlocks with a new version. Not `Send`: a latch is left by the thread that took it.
///
/// If a panic began while it was held, dropping it poisons the latch: nobody can tell how far the change went.
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// let latch = pagestone_hybrid_latch::HybridLatch::new();
/// send(latch.lock_exclusive());
/// ```
#[derive(Debug)]
#[must_use = "a guard that is dropped at once protects nothing, and costs every reader a restart"]
pub struct Exclusive<'a> {
    latch: &'a HybridLatch,
    taken_in_panic: bool,
    not_send: PhantomData<*const ()>,
}

impl<'a> Exclusive<'a> {
    /// For the word that the caller has just taken.
    #[inline]
    pub(crate) fn new(latch: &'a HybridLatch) -> Self {
        // Its partner is the acquire fence of `Optimistic::validate`: whoever sees one of the relaxed stores behind this
        // fence sees, after his own, that the word was taken.
        if !planted("a writer has no release fence") {
            fence(Ordering::Release);
        }
        Self { latch, taken_in_panic: std::thread::panicking(), not_send: PhantomData }
    }

    /// Shares the latch from now on, without a gap. What was changed is a new version.
    #[inline]
    pub fn downgrade(self) -> Shared<'a> {
        let latch = self.latch;
        std::mem::forget(self);
        latch.release(DOWNGRADE);
        Shared::new(latch)
    }

    /// Unlocks with the version it was taken at, as if it had never been taken: samples from before stay valid.
    ///
    /// For two cases alone: nothing was changed (an eviction that was given up), or what was changed means the same to
    /// every reader (a page hint inside one swip was repaired, P5).
    #[inline]
    pub fn unlock_unchanged(self) {
        let latch = self.latch;
        std::mem::forget(self);
        latch.release(if planted("a repair is a change") { FREE_CHANGED } else { FREE_UNCHANGED });
    }
}

impl Drop for Exclusive<'_> {
    #[inline]
    fn drop(&mut self) {
        let release = if std::thread::panicking() && !self.taken_in_panic {
            FREE_POISONED
        } else if planted("an unlock keeps the version") {
            FREE_UNCHANGED
        } else {
            FREE_CHANGED
        };
        self.latch.release(release);
    }
}
