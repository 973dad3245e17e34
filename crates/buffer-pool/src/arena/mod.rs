//! The page bytes: mapped memory, or what stands for it in a model.

#[cfg(not(loom))]
mod mapped;
#[cfg(loom)]
mod model;

#[cfg(not(loom))]
pub(crate) use mapped::Arena;
#[cfg(loom)]
pub(crate) use model::Arena;
