//! What the model checker needs otherwise: small numbers, so that it ends.

/// Places where threads wait for a load, shared by the pages.
#[cfg(not(loom))]
pub(crate) const LOAD_PLACES: usize = 64;
#[cfg(loom)]
pub(crate) const LOAD_PLACES: usize = 1;
