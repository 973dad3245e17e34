//! What the model checker needs otherwise: the only place of this crate that asks for it.

use pagestone_sync::atomic::AtomicU64;

use crate::HybridLatch;

/// How often a waiter looks again before it sleeps: some microseconds, longer than a page is held.
#[cfg(not(loom))]
pub(crate) const SPINS: u32 = 64;
/// How often who would share lets a sleeper go first.
#[cfg(not(loom))]
pub(crate) const TURNS: u32 = 8;

/// A model gains nothing from looking twice at the same word.
#[cfg(loom)]
pub(crate) const SPINS: u32 = 0;
/// One turn shows what many do.
#[cfg(loom)]
pub(crate) const TURNS: u32 = 1;

impl HybridLatch {
    /// A free latch at version 0, without tags.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// A free latch at version 0, without tags. (The model's atomics cannot be made in a constant.)
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<HybridLatch>() == 8);
