//! The two ways in which a latch says no, never mixed: look again, or give up.

use std::fmt;

/// Somebody else holds the latch, or has changed what it protects: control flow, and not weather. Start again.
///
/// Whoever starts again waits with [`crate::HybridLatch::optimistic_spin`] or a `lock_*` before long: those tell a latch
/// that is busy from one that is poisoned for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict;

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the latch is held or its version has moved on")
    }
}

impl std::error::Error for Conflict {}

/// A thread panicked while it held the latch exclusively: what it protects may be half changed, for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Poisoned;

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a thread panicked while it held the latch exclusively")
    }
}

impl std::error::Error for Poisoned {}
