//! One pager for many threads.
//!
//! Invariant: many read or one writes; what a guard lends lives no longer than the guard.

use pagestone_sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A pager that threads share: many readers or one writer. A cheap clone.
///
/// ```
/// use pagestone_mapped_pages::{Pager, SharedPager};
/// # let dir = tempfile::tempdir()?;
/// let pager = SharedPager::new(Pager::<4096>::create(dir.path().join("pages"))?);
/// let id = pager.write().alloc()?;
/// id.get_mut(&mut pager.write())?.as_bytes_mut().fill(7);
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| assert_eq!(id.get(&pager.read()).expect("allocated").as_bytes()[0], 7));
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedPager<P>(Arc<RwLock<P>>);

impl<P> SharedPager<P> {
    /// Of a pager, or of what has one: [`crate::Pager`], [`crate::DynPager`], [`crate::SubPageAllocator`].
    pub fn new(pager: P) -> Self {
        Self(Arc::new(RwLock::new(pager)))
    }

    /// Waits until nobody writes; others read beside.
    pub fn read(&self) -> RwLockReadGuard<'_, P> {
        self.0.read()
    }

    /// Waits until it has the pager for itself. A thread that holds a guard already waits for ever.
    pub fn write(&self) -> RwLockWriteGuard<'_, P> {
        self.0.write()
    }

    /// The pager, from the last of its clones; from any other, the clone.
    pub fn into_inner(self) -> Result<P, Self> {
        Arc::try_unwrap(self.0).map(RwLock::into_inner).map_err(Self)
    }
}

impl<P> Clone for SharedPager<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
