//! What the model checker needs otherwise: the only place of this crate that asks for it.

/// Caches of an allocator: so many more than threads that allocate at once, that two of these seldom share one.
#[cfg(not(loom))]
pub(super) const CACHES: usize = 64;

/// One for each thread of a model.
#[cfg(loom)]
pub(super) const CACHES: usize = 2;
