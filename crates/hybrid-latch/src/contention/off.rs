//! The counters when nobody looks.

use std::panic::Location;

use super::{WaitKind, WaitSite, Waits};

/// Who waited for the latches of one owner: counted nowhere.
#[derive(Debug, Default)]
pub struct Contention(());

impl Contention {
    /// Nobody has waited, for good.
    pub const fn new() -> Self {
        Self(())
    }

    /// None.
    pub fn waits(&self) -> Waits {
        Waits::default()
    }

    /// None.
    pub fn top_sites(&self, _most: usize) -> Vec<WaitSite> {
        Vec::new()
    }

    #[inline(always)]
    pub(super) fn counted<T>(
        &self,
        _kind: WaitKind,
        _at: &'static Location<'static>,
        wait: impl FnOnce() -> T,
    ) -> T {
        wait()
    }
}

const _: () = assert!(size_of::<Contention>() == 0);
