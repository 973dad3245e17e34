//! Bugs that can be planted in the production code, to show that the models find them.
//!
//! Invariant: without `--cfg pagestone_faults` nothing can be planted, [`planted`] is the constant `false`, the code behind it is
//! gone from the build, and no static state is left.
//!
//! A bug is named by what it does wrong, in words, where it is planted; the test that plants it says the same words. One is
//! planted at a time, once, in a process of its own: see `checking.rs`.

/// Whether this bug is planted in this process.
#[cfg(not(pagestone_faults))]
#[inline(always)]
pub const fn planted(_: &str) -> bool {
    false
}

#[cfg(pagestone_faults)]
pub use switch::{plant, planted};

#[cfg(pagestone_faults)]
mod switch {
    // Not the atomics of the model: the switch is no part of it, and must not add to its interleavings.
    use std::sync::OnceLock;

    static PLANTED: OnceLock<String> = OnceLock::new();

    /// Whether this bug is planted in this process.
    pub fn planted(bug: &str) -> bool {
        PLANTED.get().is_some_and(|planted| planted == bug)
    }

    /// Plants one bug for the rest of the process. Panics if one is planted already.
    pub fn plant(bug: &str) {
        PLANTED.set(bug.to_owned()).expect("one bug is planted in a process");
    }
}
