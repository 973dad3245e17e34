//! Bugs that can be planted, to show that the models find them.
//!
//! Invariant: without `--cfg pagestone_faults` nothing can be planted, [`planted`] is the constant `false`, and no static
//! state is left.
#![cfg_attr(not(pagestone_faults), allow(unreachable_pub))] // public with the cfg, private without

/// A bug in the latch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Fault {
    /// A writer does not fence off its stores after it took the word.
    NoReleaseFence = 1,
    /// A reader does not fence off its loads before it validates.
    NoAcquireFence = 2,
    /// A writer unlocks at the version it was taken at.
    UnlockKeepsVersion = 3,
    /// A tag is set by a load and a store.
    PlainStoreTag = 4,
    /// An unlock does not publish what was written.
    RelaxedUnlock = 5,
    /// An upgrade takes the latch at whatever version.
    UpgradeIgnoresVersion = 6,
    /// An unlock wakes nobody.
    SilentUnlock = 7,
    /// An unlock wakes everybody before it clears PARKED.
    WakeBeforeClear = 8,
    /// Who sleeps does not look whether PARKED still stands.
    SleepUnmarked = 9,
}

/// Whether this bug is planted now.
#[cfg(not(pagestone_faults))]
#[inline(always)]
pub const fn planted(_: Fault) -> bool {
    false
}

#[cfg(pagestone_faults)]
pub use switch::{plant, planted};

#[cfg(pagestone_faults)]
mod switch {
    // Not the atomics of pagestone-sync: the switch is no part of the model, and must not add to its interleavings.
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Fault;

    static PLANTED: AtomicU32 = AtomicU32::new(0);

    /// Whether this bug is planted now.
    pub fn planted(fault: Fault) -> bool {
        PLANTED.load(Ordering::Relaxed) == fault as u32
    }

    /// Plants one bug, or none, in the whole process.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.store(fault.map_or(0, |fault| fault as u32), Ordering::Relaxed);
    }
}
