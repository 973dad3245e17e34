//! What the model checker needs otherwise: the only place of this crate that asks for it.

/// Caches of an allocator: so many more than threads that allocate at once, that two of these seldom share one.
#[cfg(not(loom))]
pub(super) const CACHES: usize = 64;

/// One for each thread of a model.
#[cfg(loom)]
pub(super) const CACHES: usize = 2;

/// Words that a cache leases at once, used up or not.
#[cfg(not(loom))]
pub(super) const LEASES: usize = 8;

/// So that a lease ends soon.
#[cfg(loom)]
pub(super) const LEASES: usize = 2;
