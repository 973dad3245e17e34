//! Page ids for whoever has a store of pages and no log.
//!
//! Invariant: what [`PageAllocator::sync`] left is what the next opening finds, whatever happened since; and an id that the disk knows as
//! in use is given to nobody else before its free is on the disk.
//!
//! ```text
//!   sync:   changed maps, each into the slot that does not count ──► store.sync
//!           root A, which names the slots that count from now on ──► store.sync     the commit
//!           root B, the same                                        with the next sync
//! ```
//!
//! Root A is written over only while root B is durable, and B only once A is. So a torn root is one that the other stands in for: if A
//! is torn, B is the commit before; if B is torn, A is the last one. A map in a slot that counts is never written over, so the commit
//! before stays whole until the next one is durable. Two generations, as in a shadow-paged file: Lorie, *Physical integrity in a large
//! segmented database*, TODS 1977.
//!
//! ```text
//!   pages.rs   the pages of its own: roots and maps, where they stand, what they say
//!   state.rs   which ids are in use, free, held
//! ```

mod pages;
mod state;

use std::path::Path;

use pagestone_direct_io::PageFile;
use pagestone_page_format::{PageError, PageId, PageResult, PageSize, PageStore, Poison};
use pagestone_sync::Mutex;

use pages::{Copy, HEAD_PAGES, ROOTS, Root, decode_map, encode_map, map_page};
use state::{Commit, State};

/// Pages that are read at once when a file is opened.
const READ_BATCH: usize = 64;

/// Gives out the page ids of a store, lowest first, and takes them back. All calls may come from many threads at once.
///
/// It owns page 0 and some few pages more, about two in 32 000 with pages of 4 KiB; the ids that it gives out begin at 1. `allocate` and
/// `free` work in memory, and cost a few searches in ordered maps, whatever the size of the file; [`PageAllocator::sync`] makes them
/// durable. After a crash the ids are as the last sync left them: so sync before anything durable refers to an id that was allocated,
/// and free an id once nothing durable refers to it. An id whose free is not durable yet is given to nobody.
///
/// The store may be shared with a pool, which must not touch the allocator's own pages.
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
/// assert_eq!(ids.allocate()?, a);
///
/// drop(ids); // without a sync: as after a crash
/// let ids = PageAllocator::new(store)?;
/// assert!(ids.is_allocated(b) && !ids.is_allocated(a));
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
#[derive(Debug)]
pub struct PageAllocator {
    store: Box<dyn PageStore>,
    state: Mutex<State>,
    /// One commit at a time; held across I/O, and taken before `state`.
    committing: Mutex<RootB>,
    poison: Poison,
}

/// Whether copy B of the root says what copy A says, on the disk or with the next sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RootB {
    Same,
    /// A crash came between the two, or it is damaged.
    Behind,
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
    /// assert!(PageAllocator::open(&path, DEFAULT_PAGE_SIZE)?.is_allocated(first));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>, page_size: PageSize) -> PageResult<Self> {
        Self::new(PageFile::open(path, page_size)?)
    }

    /// Over a store: one in which an allocator was before, or one without a written page, which is made an allocator's.
    ///
    /// Reads one page for every [`crate::region_bits`] ids. Errors, with the store as it was: `Mismatch` for pages that are not an
    /// allocator's; `Malformed` for a map that contradicts itself or is longer than the file; `ChecksumMismatch` and its like for a page
    /// of the allocator's that is damaged; whatever the store gives.
    pub fn new(store: impl PageStore + 'static) -> PageResult<Self> {
        let store: Box<dyn PageStore> = Box::new(store);
        let (root, b) = match (Copy::read(&*store, ROOTS[0])?, Copy::read(&*store, ROOTS[1])?) {
            (Copy::Whole(a), Copy::Whole(b)) if a.generation <= b.generation => (b, RootB::Same),
            (Copy::Whole(a), _) => (a, RootB::Behind),
            (_, Copy::Whole(b)) => (b, RootB::Same),
            // The first of all commits, or it was cut: what a root of no regions says stands in one sector, so it is there or it is not.
            (Copy::Unwritten, Copy::Unwritten) => {
                check_unwritten(&*store)?;
                let root = Root { generation: 1, slots: Vec::new() };
                store.grow(HEAD_PAGES)?;
                store.sync()?; // whoever finds a part of a root finds a file that was cut
                write_root(&*store, &root)?;
                (root, RootB::Same)
            }
            (Copy::Damaged(error), _) | (Copy::Unwritten, Copy::Damaged(error)) => return Err(error),
        };
        let maps = read_maps(&*store, &root)?;
        let room = store.len()?;
        let state = State::new(store.page_size(), root, maps, room);
        if state.high_water > room {
            return Err(PageError::Malformed {
                page_id: PageId::new(state.high_water - 1),
                reason: "in use, and past the end of the file",
            });
        }
        Ok(Self { store, state: Mutex::new(state), committing: Mutex::new(b), poison: Poison::new() })
    }

    /// An id that nobody has, the lowest; the file has room for its page.
    ///
    /// Errors: `NoSpace` if the file cannot grow, or whatever the store gives; `Poisoned` after a sync that failed.
    pub fn allocate(&self) -> PageResult<PageId> {
        self.allocate_extent(1)
    }

    /// `count` ids in a row, of which this is the first; otherwise as [`PageAllocator::allocate`]. `NoSpace` for none, and for more than
    /// [`crate::region_bits`] - 2.
    pub fn allocate_extent(&self, count: u32) -> PageResult<PageId> {
        self.poison.check()?;
        let count = count.into();
        loop {
            let mut state = self.state.lock();
            let place = state.find(count)?;
            if place.file_pages <= state.room {
                state.take(place.start, count);
                return Ok(PageId::new(place.start));
            }
            drop(state);
            // No I/O under the lock: by now somebody may have taken the place, so it is looked for again.
            let room = self.grown(place.file_pages)?;
            let mut state = self.state.lock();
            state.room = state.room.max(room);
        }
    }

    fn grown(&self, pages: u64) -> PageResult<u64> {
        if self.store.len()? < pages {
            self.store.grow(pages)?;
        }
        Ok(self.store.len()?.max(pages))
    }

    /// Takes an id back. It is given out again after the next [`PageAllocator::sync`], or at once if none has seen it allocated.
    ///
    /// Errors, with nothing changed: `AllocationState` for an id that is free (a double free), `InvalidPageId` for one of the
    /// allocator's own.
    pub fn free(&self, id: PageId) -> PageResult<()> {
        self.free_extent(id, 1)
    }

    /// Takes `count` ids from `first` on back, all or none, however they were allocated; otherwise as [`PageAllocator::free`].
    pub fn free_extent(&self, first: PageId, count: u32) -> PageResult<()> {
        self.poison.check()?;
        self.state.lock().give(first.get(), count.into())
    }

    /// Whether somebody has this id. The allocator's own are nobody's.
    pub fn is_allocated(&self, id: PageId) -> bool {
        self.state.lock().is_in_use(id.get())
    }

    /// One past the highest id in use. It falls at a sync, when ids at the end have become free.
    pub fn high_water(&self) -> u64 {
        self.state.lock().high_water
    }

    /// Ids below the high water that nobody has, those among them that wait for a sync.
    pub fn free_count(&self) -> u64 {
        self.state.lock().free_count()
    }

    /// The store behind it.
    pub fn store(&self) -> &dyn PageStore {
        &*self.store
    }

    /// Makes every call that returned before this one durable, and with them whatever was written to the store.
    ///
    /// Writes the maps of the regions that changed, not the whole map, and costs two syncs of the store, or one if nothing changed. An
    /// error in writing the maps has changed nothing, and the call can be made again; any later one is final: the handle is `Poisoned`,
    /// and reopening finds the state before or the one after.
    pub fn sync(&self) -> PageResult<()> {
        let mut b = self.committing.lock();
        self.poison.check()?;
        let begun = self.state.lock().begin();
        let Some(commit) = begun else { return self.finally(self.store.sync()) };
        if let Err(error) = self.write_maps(&commit, *b) {
            self.state.lock().abort(commit);
            return Err(error);
        }
        self.finally(self.store.sync())?;
        *b = RootB::Same;
        self.finally(write_root(&*self.store, &commit.root))?;
        self.state.lock().commit(commit);
        Ok(())
    }

    /// What must be durable before root A is written over.
    fn write_maps(&self, commit: &Commit, b: RootB) -> PageResult<()> {
        if b == RootB::Behind {
            let root = self.state.lock().root().encode(&*self.store, ROOTS[1]);
            self.store.write_page(&mut { root })?;
        }
        let generation = commit.root.generation;
        let page = |(region, slot, bits): &(usize, usize, Vec<u64>)| {
            encode_map(&*self.store, *region, *slot, generation, bits)
        };
        let mut pages: Vec<_> = commit.maps.iter().map(page).collect();
        self.store.write_many(&mut pages)
    }

    fn finally(&self, result: PageResult<()>) -> PageResult<()> {
        result.map_err(|error| self.poison.poison(format_args!("syncing the allocator's map: {error}")))
    }
}

/// Copy A, durable, then copy B.
fn write_root(store: &dyn PageStore, root: &Root) -> PageResult<()> {
    store.write_page(&mut root.encode(store, ROOTS[0]))?;
    store.sync()?;
    store.write_page(&mut root.encode(store, ROOTS[1]))
}

fn read_maps(store: &dyn PageStore, root: &Root) -> PageResult<Vec<Vec<u64>>> {
    let size = store.page_size();
    let slots: Vec<(usize, usize)> = root.slots.iter().copied().enumerate().collect();
    let mut maps = Vec::with_capacity(slots.len());
    for batch in slots.chunks(READ_BATCH) {
        let ids: Vec<PageId> = batch.iter().map(|(region, slot)| map_page(*region, *slot, size)).collect();
        let mut pages: Vec<_> = ids.iter().map(|id| store.allocate_page(*id)).collect();
        store.read_many(&ids, &mut pages).into_iter().collect::<PageResult<()>>()?;
        for ((region, _), page) in batch.iter().zip(&pages) {
            maps.push(decode_map(page, *region, root)?);
        }
    }
    Ok(maps)
}

/// Refuses a store in which anything was ever written (R7), a part of a page behind the last whole one among it.
fn check_unwritten(store: &dyn PageStore) -> PageResult<()> {
    for id in (0..=store.len()?).map(PageId::new) {
        if !store.is_unwritten(id)? {
            return Err(PageError::Mismatch {
                expected: "an allocator's pages, or none".into(),
                found: format!("something at the place of page {id}"),
            });
        }
    }
    Ok(())
}
