//! What the model checker needs otherwise: the only place of this crate that asks for it.

/// Caches of an allocator: more than processors that allocate at once, mostly.
#[cfg(not(loom))]
pub(super) const CACHES: usize = 16;

/// One for each thread of a model.
#[cfg(loom)]
pub(super) const CACHES: usize = 2;
