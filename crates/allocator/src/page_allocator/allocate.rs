//! Ids handed out: from the thread's cache, else from the space, else from what has to be read or made first.
//!
//! Invariant: an attempt waits for nothing; what it needs is done with no cache and no space locked, and then it is made again.
//!
//! ```text
//!   attempt ── done ──► id
//!     ▲   │
//!     │   ├─ Load ───► that region's map is read
//!     │   ├─ Look ───► the lowest map with free ids that nobody has read, is read, if there is one
//!     │   ├─ Grow ───► the file grows ─────────┐ no space, the first time
//!     └───┴────────────────────────────────────┴──► what the other caches hold is recalled, all maps are looked at
//! ```

use pagestone_page_format::{PageError, PageId, PageResult};

use super::PageAllocator;
use super::cache::Cache;
use super::space::Need;

/// How many maps one run of ids looks at before it is taken from behind the others.
const LOOKS: u32 = 4;

impl PageAllocator {
    /// An id that nobody has; the file has room for its page.
    ///
    /// Errors: `NoSpace` if the file cannot grow, or whatever the store gives; `Poisoned` after a sync that failed.
    pub fn allocate(&self) -> PageResult<PageId> {
        self.poison.check()?;
        if let Some(id) = self.caches.own().take() {
            return Ok(PageId::new(id));
        }
        self.allocate_leased()
    }

    #[cold]
    fn allocate_leased(&self) -> PageResult<PageId> {
        self.obtain(1, |cache, _| {
            if let Some(id) = cache.take_lowest() {
                return Ok(PageId::new(id));
            }
            let mut space = self.space.lock();
            cache.flush(&mut space);
            cache.lease(space.lease(&self.regions)?);
            Ok(PageId::new(cache.take().expect("a lease begins with a free id")))
        })
    }

    /// `count` ids in a row, of which this is the first; otherwise as [`PageAllocator::allocate`]. `NoSpace` for none, and for more than
    /// [`crate::region_bits`] - 2.
    pub fn allocate_extent(&self, count: u32) -> PageResult<PageId> {
        self.poison.check()?;
        let count = count.into();
        self.obtain(count, |cache, looks| {
            let start = {
                let mut space = self.space.lock();
                cache.recall(&mut space);
                space.take_run(&self.regions, count, looks > 0)?
            };
            for (region, word, mask) in self.words(start, count) {
                let region = self.region_at(region);
                let before = region.in_use.set(word, mask);
                assert!(
                    before == 0,
                    "A2: of {count} ids from {start} on some are handed out and have an owner"
                );
                cache.changed(region, mask.count_ones().into());
            }
            Ok(PageId::new(start))
        })
    }

    /// Attempts something that takes ids, again and again with what it needs, under the lock of the thread's cache. It is told how many
    /// more maps may be looked at.
    fn obtain<T>(&self, ids: u64, attempt: impl Fn(&mut Cache, u32) -> Result<T, Need>) -> PageResult<T> {
        let (mut looks, mut all) = (LOOKS, false);
        loop {
            let attempted = attempt(&mut self.caches.own(), looks);
            let need = match attempted {
                Ok(done) => return Ok(done),
                Err(need) => need,
            };
            match self.provide(need, ids) {
                Ok(()) if need == Need::Look && !all => looks = looks.saturating_sub(1),
                Ok(()) => {}
                // A full disk: what other threads hold, and what stands in maps that nobody has looked at, is all there is.
                Err(PageError::NoSpace { .. }) if !all => {
                    (looks, all) = (u32::MAX, true);
                    self.recall();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Does what must be done with no cache and no space locked.
    #[cold]
    fn provide(&self, need: Need, ids: u64) -> PageResult<()> {
        match need {
            Need::Load(region) => self.known(region).map(drop),
            Need::Look => {
                let next = self.directory.lock().next_to_look_at(&*self.store, &self.regions)?;
                match next {
                    Some(region) => self.known(region).map(drop)?,
                    None => self.space.lock().looked = true,
                }
                Ok(())
            }
            Need::Grow(pages) => {
                if self.store.len()? < pages {
                    self.store.grow(pages)?;
                }
                let room = self.store.len()?.max(pages);
                let mut space = self.space.lock();
                space.room = space.room.max(room);
                Ok(())
            }
            Need::NoSpace => {
                Err(PageError::NoSpace { needed: ids.saturating_mul(self.layout.size.get() as u64) })
            }
        }
    }

    fn recall(&self) {
        let mut caches = self.caches.all();
        let mut space = self.space.lock();
        caches.iter_mut().for_each(|cache| cache.recall(&mut space));
    }
}
