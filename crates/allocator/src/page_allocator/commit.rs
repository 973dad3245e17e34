//! What `sync` does.
//!
//! Invariant: what counts on the disk is the state of one instant, and is never written over before what follows it counts (A1, A3).
//!
//! ```text
//!   changed maps, and the index pages above them, each into the slot that does not count ──► store.sync
//!   root A, which names the slots that count from now on                                 ──► store.sync     the commit
//!   root B, the same                                                                     with the next sync
//! ```
//!
//! Root A is written over only while root B is durable, and B only once A is. So a torn root is one that the other stands in for: if A
//! is torn, B is the commit before; if B is torn, A is the last one. A page in a slot that counts is never written over, so the commit
//! before stays whole until the next one is durable. Where B is found behind A, A may be of a process that was killed before it was synced:
//! an opening syncs it before anything counts on it. Two generations, as in a shadow-paged file: Lorie, *Physical integrity in a large
//! segmented database*, TODS 1977.

use pagestone_page_format::{PageResult, PageStore};
use pagestone_sync::Arc;
use pagestone_sync::faults::planted;

use super::PageAllocator;
use super::directory::{Change, Pending, Totals};
use super::layout::ROOTS;
use super::pages::{Root, count};
use super::region::Region;
use crate::bit_runs::runs;

/// Whether copy B of the root says what copy A says, on the disk or with the next sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RootB {
    Same,
    /// A crash came between the two, or it is damaged.
    Behind,
}

/// One instant: the bits of each region that has changed.
struct Cut {
    changed: Vec<(Arc<Region>, Vec<u64>)>,
    totals: Totals,
}

impl PageAllocator {
    /// Makes every call that returned before this one durable, and with them whatever was written to the store.
    ///
    /// Writes the maps of the regions that changed and at most two pages above each, whatever the size of the file, and costs two syncs of
    /// the store, or one if nothing changed. An error before the first of them has changed nothing, and the call can be made again; any
    /// later one is final: the handle is `Poisoned`, and reopening finds the state before or the one after.
    pub fn sync(&self) -> PageResult<()> {
        let mut b = self.committing.lock();
        self.poison.check()?;
        // 1. The state, as of one instant.
        let Some(cut) = self.cut() else { return self.finally(self.store.sync()) };
        // 2. Where nothing counts: a failure has changed nothing.
        let pending = match self.write_pages(&cut, *b) {
            Ok(pending) => pending,
            Err(error) => {
                self.abort(cut);
                return Err(error);
            }
        };
        self.finally(self.store.sync())?;
        *b = RootB::Same;
        // 3. The commit.
        self.finally(write_root(&*self.store, &pending.root))?;
        self.directory.lock().install(pending);
        // 4. What was held is free: the disk knows.
        let mut space = self.space.lock();
        for (region, bits) in cut.changed {
            let first = region.number * self.layout.bits;
            for (start, len) in runs(region.commit(&bits).into_iter()) {
                space.give(first + start, len);
            }
        }
        Ok(())
    }

    /// The state of this instant, and from now on known to the disk or about to be. None if nothing has changed.
    fn cut(&self) -> Option<Cut> {
        let mut caches = self.caches.all();
        let mut space = self.space.lock();
        if !planted("a commit does not ask the leases") {
            caches.iter_mut().for_each(|cache| cache.settle());
        }
        let listed = caches.iter_mut().flat_map(|cache| cache.take_changed()).collect::<Vec<_>>();
        let mut changed: Vec<_> = listed.into_iter().chain(std::mem::take(&mut space.changed)).collect();
        if changed.is_empty() {
            return None;
        }
        caches.iter_mut().for_each(|cache| cache.flush(&mut space));
        changed.sort_unstable_by_key(|region| region.number);
        // What is held is free once this is durable.
        let high_water = space.high_water(|high| self.regions.free_below(high, self.layout.bits));
        let totals = Totals { high_water, ..self.totals(&caches, &space) };
        if planted("a commit lets others change what it copies") {
            drop(caches);
            drop(space);
        }
        let bits = |region: Arc<Region>| {
            let bits = region.begin();
            (region, bits)
        };
        Some(Cut { changed: changed.into_iter().map(bits).collect(), totals })
    }

    /// What must be durable before root A is written over.
    fn write_pages(&self, cut: &Cut, b: RootB) -> PageResult<Pending> {
        let change = |(region, bits): &(Arc<Region>, Vec<u64>)| (region.number, count(bits));
        let used: Vec<_> = cut.changed.iter().map(change).collect();
        let changes = used.iter().zip(&cut.changed);
        let changes: Vec<_> = changes
            .map(|((region, used), (_, bits))| Change { region: *region, bits, used: *used })
            .collect();
        let mut directory = self.directory.lock();
        let mut pending = directory.prepare(&*self.store, &changes, cut.totals)?;
        if b == RootB::Behind {
            pending.pages.push(directory.root().encode(&*self.store, ROOTS[1]));
        }
        drop(directory);
        self.store.write_many(&mut pending.pages)?;
        Ok(pending)
    }

    /// The commit changed nothing that counts: its changes are still to be made durable.
    fn abort(&self, cut: Cut) {
        let mut space = self.space.lock();
        let again = cut.changed.into_iter().map(|(region, _)| region).filter(|region| region.change());
        space.changed.extend(again.collect::<Vec<_>>());
    }

    fn finally<T>(&self, result: PageResult<T>) -> PageResult<T> {
        result.map_err(|error| self.poison.poison(format_args!("syncing the allocator's map: {error}")))
    }
}

/// Copy A, durable, then copy B.
pub(super) fn write_root(store: &dyn PageStore, root: &Root) -> PageResult<()> {
    store.write_page(&mut root.encode(store, ROOTS[0]))?;
    store.sync()?;
    store.write_page(&mut root.encode(store, ROOTS[1]))
}
