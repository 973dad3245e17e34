//! Holding the latch together with others.
//!
//! Invariant: while one of these lives nobody holds the latch exclusively.

use std::marker::PhantomData;

use crate::word::{LEAVE_SHARED, Word};
use crate::{Exclusive, HybridLatch};

/// A share of a latch; dropping it leaves. Not `Send`: a latch is left by the thread that took it.
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// let latch = pagestone_hybrid_latch::HybridLatch::new();
/// send(latch.lock_shared());
/// ```
#[derive(Debug)]
#[must_use = "a guard that is dropped at once protects nothing"]
pub struct Shared<'a> {
    latch: &'a HybridLatch,
    not_send: PhantomData<*const ()>,
}

impl<'a> Shared<'a> {
    /// For the share that the caller has just taken.
    pub(crate) fn new(latch: &'a HybridLatch) -> Self {
        Self { latch, not_send: PhantomData }
    }

    /// Turns the only share into exclusive holding, without a gap; gives the share back if it is not the only one.
    ///
    /// Two holders who insist would wait for each other for ever: who is refused lets go and begins anew.
    pub fn try_upgrade_to_exclusive(self) -> Result<Exclusive<'a>, Shared<'a>> {
        match self.latch.acquire(Word::upgrade_only_holder) {
            Ok(_) => {
                let latch = self.latch;
                std::mem::forget(self);
                Ok(Exclusive::new(latch))
            }
            Err(_) => Err(self),
        }
    }
}

impl Drop for Shared<'_> {
    #[inline]
    fn drop(&mut self) {
        self.latch.release(LEAVE_SHARED);
    }
}
