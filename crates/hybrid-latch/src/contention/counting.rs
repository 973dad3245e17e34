//! A latch as its owner takes it: the three ways in that can wait.

use std::panic::Location;

use super::{Contention, WaitKind};
use crate::{Exclusive, HybridLatch, Optimistic, Poisoned, Shared};

/// A latch, and where its waits are counted. The site of a wait is the line that called; a function with `#[track_caller]` passes on
/// the line that called it.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    latch: &'a HybridLatch,
    contention: &'a Contention,
}

impl HybridLatch {
    /// The latch, its waits counted there.
    #[inline]
    pub fn counting<'a>(&'a self, contention: &'a Contention) -> Counting<'a> {
        Counting { latch: self, contention }
    }
}

impl<'a> Counting<'a> {
    /// As [`HybridLatch::optimistic_spin`].
    #[inline]
    #[track_caller]
    pub fn optimistic_spin(self) -> Result<Optimistic<'a>, Poisoned> {
        let at = Location::caller();
        self.latch
            .optimistic_or_restart()
            .or_else(|_| self.contention.counted(WaitKind::Optimistic, at, || self.latch.optimistic_spin()))
    }

    /// As [`HybridLatch::lock_shared`].
    #[inline]
    #[track_caller]
    pub fn lock_shared(self) -> Result<Shared<'a>, Poisoned> {
        let at = Location::caller();
        self.latch
            .shared_in_turn()
            .or_else(|_| self.contention.counted(WaitKind::Shared, at, || self.latch.lock_shared_waiting()))
    }

    /// As [`HybridLatch::lock_exclusive`].
    #[inline]
    #[track_caller]
    pub fn lock_exclusive(self) -> Result<Exclusive<'a>, Poisoned> {
        let at = Location::caller();
        self.latch.try_lock_exclusive().or_else(|_| {
            self.contention.counted(WaitKind::Exclusive, at, || self.latch.lock_exclusive_waiting())
        })
    }
}
