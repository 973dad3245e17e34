//! Page ids for whoever has a store of pages and no log.
//!
//! Invariant: what [`PageAllocator::sync`] left is what the next opening finds, whatever happened since; and an id that the disk knows as
//! in use is given to nobody else before its free is on the disk.
//!
//! ```text
//!   allocate.rs ──► cache.rs                     one of a few, by thread: leases of ids, and ids that came back
//!   free.rs     ──►  ├► lease.rs, board.rs       a word of ids that one cache hands out; where to look for it
//!                    ├► region.rs, bits.rs       two bits an id: in use, and known to the disk
//!                    └► space.rs                 the other free ids, as extents; the end of the file
//!   first use of a region ──► directory.rs       where its map stands
//!   sync ──► commit.rs                           what changed, into slots that do not count; then the root
//!
//!   layout.rs, pages.rs, entry.rs                the pages of its own, and what they say
//! ```
//!
//! Locks, in the order in which they are taken: of the commit and of the directory, which are held across I/O; of the caches, in their
//! order; of the space. Nothing is held across I/O that `allocate` or `free` waits for, unless they need a map that was never read.

mod allocate;
mod bits;
mod board;
mod cache;
mod commit;
mod directory;
mod entry;
mod free;
#[cfg(test)]
mod large_files;
mod layout;
mod lease;
mod pages;
mod region;
mod space;
mod variant;

use std::path::Path;

use pagestone_direct_io::PageFile;
use pagestone_page_format::{PageError, PageId, PageResult, PageSize, PageStore, Poison};
use pagestone_sync::faults::planted;
use pagestone_sync::{Arc, BriefGuard, Mutex};

use cache::{Cache, Caches};
use commit::{RootB, write_root};
use directory::{Directory, Totals, check_length};
use layout::{HEAD_PAGES, Layout, ROOTS};
use pages::{Copy, Root};
use region::{Region, Regions};
use space::Space;

use crate::bit_runs::masks;

/// Gives out the page ids of a store, and takes them back. All calls may come from many threads at once, and these rarely meet.
///
/// It owns page 0 and some few pages more, about two in 32 000 with pages of 4 KiB; the ids that it gives out begin at 1. `allocate` and
/// `free` work in memory; the map of a region of [`crate::region_bits`] ids is read when the first of them is freed, or looked for, and takes
/// two bits an id in memory from then on. [`PageAllocator::sync`] makes them durable. No call costs more in a larger file. After a crash
/// the ids are as the last sync left them: so sync before anything durable refers to an id that was allocated, and free an id once nothing
/// durable refers to it. An id whose free is not durable yet is given to nobody.
///
/// Freed ids are used first, the lowest first, but that each thread holds up to 512 for itself: what is free in the last eight words of 64
/// ids that it allocated from.
///
/// The store may be shared with a pool, which must not touch the allocator's own pages; call `BufferPool::discard` before an id is freed,
/// so that a dirty frame never overwrites what its page became.
///
/// ```
/// use std::sync::Arc;
/// use pagestone_allocator::PageAllocator;
/// use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore};
///
/// let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
/// let ids = PageAllocator::new(Arc::clone(&store))?;
/// let (a, b) = (ids.allocate()?, ids.allocate()?);
/// assert_eq!((a.get(), b.get(), ids.high_water()), (1, 2, 3));
/// ids.sync()?;
/// ids.free(a)?;
/// assert_ne!(ids.allocate()?, a); // a crash would bring its owner back
/// ids.sync()?;
///
/// drop(ids); // without a sync since: as after a crash
/// let ids = PageAllocator::new(store)?;
/// assert!(ids.is_allocated(b)? && !ids.is_allocated(a)?);
/// assert_eq!(ids.allocate()?, a);
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
pub struct PageAllocator {
    store: Box<dyn PageStore>,
    layout: Layout,
    caches: Caches,
    regions: Regions,
    space: Mutex<Space>,
    directory: Mutex<Directory>,
    /// One commit at a time.
    committing: Mutex<RootB>,
    poison: Poison,
    /// Ids in use when it was opened.
    in_use_before: u64,
}

impl std::fmt::Debug for PageAllocator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let totals = self.now();
        f.debug_struct("PageAllocator")
            .field("store", &self.store)
            .field("high_water", &totals.high_water)
            .field("in_use", &totals.in_use)
            .finish()
    }
}

impl PageAllocator {
    /// Over the page file of this name, which is made if there is none: [`PageFile::open`], then [`PageAllocator::new`].
    ///
    /// ```
    /// use pagestone_allocator::PageAllocator;
    /// use pagestone_page_format::DEFAULT_PAGE_SIZE;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("pages");
    /// let ids = PageAllocator::open(&path, DEFAULT_PAGE_SIZE)?;
    /// let first = ids.allocate()?;
    /// ids.sync()?;
    /// drop(ids);
    /// assert!(PageAllocator::open(&path, DEFAULT_PAGE_SIZE)?.is_allocated(first)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>, page_size: PageSize) -> PageResult<Self> {
        Self::new(PageFile::open(path, page_size)?)
    }

    /// Over a store: one in which an allocator was before, or one in which nothing was ever written, which is made an allocator's.
    ///
    /// Reads two pages, and syncs the store if a crash came between the copies of the root. Errors, with the store as it was: `Mismatch` for a
    /// store with pages and no allocator's; `Malformed` for pages that are not an allocator's, or say more than the store has;
    /// `ChecksumMismatch` and its like if both copies of the root are damaged; whatever the store gives.
    pub fn new(store: impl PageStore + 'static) -> PageResult<Self> {
        let layout = Layout::new(store.page_size());
        Self::with_layout(Box::new(store), layout)
    }

    fn with_layout(store: Box<dyn PageStore>, layout: Layout) -> PageResult<Self> {
        let [a, b] = ROOTS.map(|id| Copy::read(&*store, id, &layout));
        let (root, b) = match (a?, b?) {
            (Copy::Whole(a), Copy::Whole(b)) if a.generation <= b.generation => (b, RootB::Same),
            (Copy::Whole(a), _) => (a, RootB::Behind),
            (_, Copy::Whole(b)) => (b, RootB::Same),
            (Copy::Unwritten, Copy::Unwritten) => (create(&*store)?, RootB::Same),
            (Copy::Damaged(error), _) | (Copy::Unwritten, Copy::Damaged(error)) => return Err(error),
        };
        let room = store.len()?;
        check_length(&root, &layout, room)?;
        if b == RootB::Behind {
            store.sync()?; // root A may be of a process that was killed before its own (A3)
        }
        Ok(Self {
            layout,
            caches: Caches::new(),
            regions: Regions::new(),
            space: Mutex::new(Space::new(layout, root.regions, root.high_water, room)),
            in_use_before: root.in_use,
            directory: Mutex::new(Directory::new(layout, root)),
            committing: Mutex::new(b),
            poison: Poison::new(),
            store,
        })
    }

    /// A region that has a map: it is read if nobody has read it.
    fn known(&self, region: u64) -> PageResult<&Arc<Region>> {
        if let Some(known) = self.regions.get(region) {
            return Ok(known);
        }
        let mut directory = self.directory.lock();
        if self.regions.get(region).is_none() {
            let words = directory.read_map(&*self.store, region)?;
            let mut space = self.space.lock();
            self.regions.add(Arc::new(Region::new(region, &words)));
            space.take_in(region, &words);
        }
        Ok(self.regions.get(region).expect("it was added"))
    }

    /// Whether somebody has this id. The allocator's own are nobody's. Errors: whatever the store gives if the map of the id was never read.
    pub fn is_allocated(&self, id: PageId) -> PageResult<bool> {
        if id > PageId::MAX || self.layout.is_own(id.get()) {
            return Ok(false);
        }
        let at = id.get() % self.layout.bits;
        let Some(region) = self.region_of(id)? else { return Ok(false) };
        let in_use = || region.in_use.get((at / 64) as usize) >> (at % 64) & 1 == 1;
        if in_use() {
            return Ok(true);
        }
        if !planted("who asks for an id does not ask the leases") {
            self.caches.settle_word(id.get());
        }
        Ok(in_use())
    }

    /// One past the highest id that somebody has, or whose free is not durable yet.
    pub fn high_water(&self) -> u64 {
        self.now().high_water
    }

    /// Ids below the high water that nobody has, those among them that wait for a sync.
    pub fn free_count(&self) -> u64 {
        let totals = self.now();
        totals.high_water - self.layout.own_below(totals.high_water) - totals.in_use
    }

    /// The store behind it.
    pub fn store(&self) -> &dyn PageStore {
        &*self.store
    }

    fn now(&self) -> Totals {
        let mut caches = self.caches.all();
        let mut space = self.space.lock();
        caches.iter_mut().for_each(|cache| cache.flush(&mut space));
        self.totals(&caches, &space)
    }

    /// With what was returned to the caches flushed.
    fn totals(&self, caches: &[BriefGuard<'_, Cache>], space: &Space) -> Totals {
        let in_use = caches.iter().map(|cache| cache.in_use()).sum();
        let in_use = self.in_use_before.checked_add_signed(in_use).expect("more was freed than was in use");
        let free_below = |high| caches.iter().map(|cache| cache.free_below(high)).max().unwrap_or(0);
        let high_water = space.high_water(free_below);
        Totals { regions: space.regions, high_water, in_use }
    }

    /// The region of an id, if it has a map. `InvalidPageId` for an id of the allocator's own, and one that no file has.
    fn region_of(&self, id: PageId) -> PageResult<Option<&Arc<Region>>> {
        let number = id.get() / self.layout.bits;
        if id.get() >= self.layout.end() || self.layout.is_own(id.get()) {
            return Err(PageError::InvalidPageId { page_id: id });
        }
        if let Some(region) = self.regions.get(number) {
            return Ok(Some(region));
        }
        if number >= self.space.lock().regions { Ok(None) } else { self.known(number).map(Some) }
    }

    /// A region of which some id was seen in use, or free.
    fn region_at(&self, region: u64) -> &Arc<Region> {
        self.regions.get(region).expect("a region that is known stays known")
    }

    /// The words of the maps in which these ids stand: region, word, bits.
    fn words(&self, start: u64, count: u64) -> impl Iterator<Item = (u64, usize, u64)> {
        let (bits, end) = (self.layout.bits, start + count);
        (start / bits..end.div_ceil(bits)).flat_map(move |region| {
            let first = region * bits;
            let (from, to) = (start.max(first), end.min(first + bits));
            masks(from - first, to - from).map(move |(word, mask)| (region, word, mask))
        })
    }
}

/// Makes an allocator's of a store in which nothing was ever written, a part of a page behind the last whole one among it (R7).
fn create(store: &dyn PageStore) -> PageResult<Root> {
    for id in (0..=store.len()?).map(PageId::new) {
        if !store.is_unwritten(id)? {
            return Err(PageError::Mismatch {
                expected: "an allocator's pages, or none".into(),
                found: format!("something at the place of page {id}"),
            });
        }
    }
    store.grow(HEAD_PAGES)?;
    store.sync()?; // whoever finds a part of a root finds a file that was cut (A4)
    let root = Root::first();
    write_root(store, &root)?;
    Ok(root)
}
