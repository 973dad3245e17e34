//! What the model checker needs otherwise: small numbers, so that it ends.

/// Places where threads wait for a load, shared by the pages.
#[cfg(not(loom))]
pub(crate) const LOAD_PLACES: usize = 64;
#[cfg(loom)]
pub(crate) const LOAD_PLACES: usize = 1;

/// A hint brings in this part of the pool at most, so that it does not push out its own pages, nor everybody's.
#[cfg(not(loom))]
pub(crate) const PREFETCH_SHARE: usize = 16;
#[cfg(loom)]
pub(crate) const PREFETCH_SHARE: usize = 1;

/// The low mark of the page provider: this part of the frames, and so many at most.
#[cfg(not(loom))]
pub(crate) const PROVIDED_SHARE: usize = 64;
#[cfg(loom)]
pub(crate) const PROVIDED_SHARE: usize = 2;
pub(crate) const PROVIDED_MAX: usize = 128;
