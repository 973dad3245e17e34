//! A store that forgets at a crash, and what an allocator over it must know, id by id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagestone_allocator::PageAllocator;
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore,
    StoreUuid,
};
use pagestone_testkit::Rng;

/// Pages in memory: what was written since the last sync may be lost, page by page.
#[derive(Debug)]
pub(crate) struct Forgetful {
    checksum: PageChecksum,
    pages: Mutex<Pages>,
    /// Calls that write or sync until one fails.
    pub(crate) fails_after: AtomicU64,
}

type Bytes = Option<Arc<[u8]>>;

#[derive(Debug, Default)]
struct Pages {
    len: u64,
    now: BTreeMap<u64, Arc<[u8]>>,
    /// As it was at the last sync, of those that were written since.
    before: BTreeMap<u64, Bytes>,
}

impl Forgetful {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            checksum: PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::default()),
            pages: Mutex::new(Pages::default()),
            fails_after: AtomicU64::new(u64::MAX),
        })
    }

    /// Of each page that was written since the last sync, the old or the new one is left.
    pub(crate) fn crash(&self, random: &mut Rng) {
        let mut pages = self.pages.lock().expect("no panic");
        for (id, before) in std::mem::take(&mut pages.before) {
            if random.below(2) == 0 {
                match before {
                    Some(bytes) => drop(pages.now.insert(id, bytes)),
                    None => drop(pages.now.remove(&id)),
                }
            }
        }
    }

    fn step(&self) -> PageResult<()> {
        match self.fails_after.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(PageError::io("write", std::io::ErrorKind::Other.into())),
        }
    }
}

impl PageStore for Forgetful {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        let pages = self.pages.lock().expect("no panic");
        match pages.now.get(&id.get()) {
            Some(bytes) => page.bytes_mut().copy_from_slice(bytes),
            None if id.get() < pages.len => page.bytes_mut().fill(0),
            None => return Err(PageError::InvalidPageId { page_id: id }),
        }
        self.checksum.verify(id, page.bytes()).map(drop)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.step()?;
        let (id, bytes) = (page.id().get(), Arc::from(page.to_checksummed_bytes(&self.checksum)));
        let mut pages = self.pages.lock().expect("no panic");
        assert!(id < pages.len, "page {id} was written past the end");
        let before = pages.now.insert(id, bytes);
        pages.before.entry(id).or_insert(before);
        Ok(())
    }
    fn sync(&self) -> PageResult<()> {
        self.step()?;
        self.pages.lock().expect("no panic").before.clear();
        Ok(())
    }
    fn len(&self) -> PageResult<u64> {
        Ok(self.pages.lock().expect("no panic").len)
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        let mut state = self.pages.lock().expect("no panic");
        state.len = state.len.max(pages);
        Ok(())
    }
}

/// One bit an id.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    words: Vec<u64>,
    pub(crate) count: u64,
}

impl Ids {
    pub(crate) fn has(&self, id: u64) -> bool {
        self.words.get((id / 64) as usize).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }
    fn turn(&mut self, id: u64) {
        let word = (id / 64) as usize;
        self.words.resize(self.words.len().max(word + 1), 0);
        self.words[word] ^= 1 << (id % 64);
        self.count = if self.has(id) { self.count + 1 } else { self.count - 1 };
    }
    fn end(&self) -> u64 {
        self.words.len() as u64 * 64
    }
}

/// What one thread does with an allocator, and what must come of it.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    Allocate(u32),
    /// Free so many ids from the nth that was allocated on, as they were allocated or in part.
    Free {
        nth: usize,
        part: u32,
    },
    /// Free ids of which one is nobody's.
    FreeWrong(u64, u32),
    Sync,
    /// A sync of which so many calls of the store succeed; then a crash.
    CutSync {
        calls: u64,
        seed: u64,
    },
    /// Without a sync.
    Reopen,
    Crash {
        seed: u64,
    },
}

/// An allocator beside a set of ids.
pub(crate) struct Checked {
    store: Arc<Forgetful>,
    allocator: PageAllocator,
    in_use: Ids,
    /// As of the last sync.
    synced: Ids,
    /// Runs as they were allocated, or are left of those.
    runs: Vec<(u64, u32)>,
    synced_runs: Vec<(u64, u32)>,
}

impl Checked {
    pub(crate) fn new() -> Self {
        let store = Forgetful::new();
        let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
        let (in_use, synced) = (Ids::default(), Ids::default());
        Self { store, allocator, in_use, synced, runs: vec![], synced_runs: vec![] }
    }

    pub(crate) fn in_use(&self) -> u64 {
        self.in_use.count
    }

    /// Does one thing and checks what it gives.
    pub(crate) fn step(&mut self, verb: Verb) {
        match verb {
            Verb::Allocate(count) => self.allocate(count),
            Verb::Free { nth, part } if !self.runs.is_empty() => self.free(nth % self.runs.len(), part),
            Verb::Free { .. } => {}
            Verb::FreeWrong(id, count) => self.free_wrong(id, count),
            Verb::Sync => {
                self.allocator.sync().expect("durable");
                (self.synced, self.synced_runs) = (self.in_use.clone(), self.runs.clone());
            }
            Verb::CutSync { calls, seed } => self.cut_sync(calls, seed),
            Verb::Reopen => self.reopen(),
            Verb::Crash { seed } => {
                self.store.crash(&mut Rng::new(seed));
                self.reopen();
            }
        }
    }

    fn allocate(&mut self, count: u32) {
        let first = match count {
            1 => self.allocator.allocate(),
            _ => self.allocator.allocate_extent(count),
        };
        self.take(first.expect("memory has room").get(), count);
    }

    fn take(&mut self, first: u64, count: u32) {
        for id in first..first + u64::from(count) {
            assert!(id >= 1 && id < self.store.len().expect("a length"), "the file has no page {id}");
            assert!(!self.synced.has(id), "{id} is somebody's after a crash");
            assert!(!self.in_use.has(id), "{id} has two owners");
            self.in_use.turn(id);
        }
        self.runs.push((first, count));
    }

    fn free(&mut self, nth: usize, part: u32) {
        let (first, count) = self.runs.swap_remove(nth);
        let part = 1 + part % count;
        match part {
            1 => self.allocator.free(PageId::new(first)).expect("it is in use"),
            _ => self.allocator.free_extent(PageId::new(first), part).expect("they are in use"),
        }
        (first..first + u64::from(part)).for_each(|id| self.in_use.turn(id));
        if part < count {
            self.runs.push((first + u64::from(part), count - part));
        }
    }

    fn free_wrong(&mut self, id: u64, count: u32) {
        if (id..id + u64::from(count)).all(|id| self.in_use.has(id)) {
            return;
        }
        let error = self.allocator.free_extent(PageId::new(id), count).expect_err("one is nobody's");
        let refused = matches!(error, PageError::AllocationState { .. } | PageError::InvalidPageId { .. });
        assert!(refused, "{error}");
        for id in id..id + u64::from(count) {
            let found = self.allocator.is_allocated(PageId::new(id)).expect("its map");
            assert_eq!(found, self.in_use.has(id), "{id}: all or none");
        }
    }

    fn cut_sync(&mut self, calls: u64, seed: u64) {
        self.store.fails_after.store(calls, Relaxed);
        let synced = self.allocator.sync();
        self.store.fails_after.store(u64::MAX, Relaxed);
        self.store.crash(&mut Rng::new(seed));
        self.allocator = PageAllocator::new(Arc::clone(&self.store)).expect("it is there");
        let found = self.found(&self.in_use);
        assert!(found || synced.is_err(), "a sync that succeeded is not there");
        if found {
            (self.synced, self.synced_runs) = (self.in_use.clone(), self.runs.clone());
        } else {
            assert!(self.found(&self.synced), "neither the state of the sync nor the one before");
            (self.in_use, self.runs) = (self.synced.clone(), self.synced_runs.clone());
        }
        self.check_counts();
    }

    fn reopen(&mut self) {
        self.allocator = PageAllocator::new(Arc::clone(&self.store)).expect("it is there");
        (self.in_use, self.runs) = (self.synced.clone(), self.synced_runs.clone());
        self.check();
    }

    fn found(&self, ids: &Ids) -> bool {
        (0..self.allocator.high_water().max(ids.end()) + 20)
            .all(|id| self.allocator.is_allocated(PageId::new(id)).expect("its map") == ids.has(id))
    }

    pub(crate) fn check(&self) {
        assert!(self.found(&self.in_use), "an id is lost, or is there though nobody has it");
        self.check_counts();
    }

    pub(crate) fn check_counts(&self) {
        // Its own: root, the slots of index pages, root, the slots of the map; and in later regions the slots of the map.
        let (high, region) =
            (self.allocator.high_water(), pagestone_allocator::region_bits(DEFAULT_PAGE_SIZE));
        let own = |id: u64| {
            if id < region { id == 0 || (9..16).contains(&id) } else { matches!(id % region, 14 | 15) }
        };
        let own = (0..high.div_ceil(region))
            .flat_map(|n| n * region..n * region + 16)
            .filter(|id| own(*id) && *id < high);
        assert_eq!(self.allocator.free_count() + self.in_use.count + own.count() as u64, high);
    }
}

/// So many operations of no order around some ten thousand ids in use, over several regions.
pub(crate) fn long_run(checked: &mut Checked, random: &mut Rng, operations: u64) {
    const LIVE: u64 = 80_000;
    for operation in 0..operations {
        let verb = match random.below(30_000) {
            0 => Verb::CutSync { calls: random.below(12), seed: random.below(u64::MAX) },
            1 => Verb::Reopen,
            2 => Verb::Crash { seed: random.below(u64::MAX) },
            3..50 => Verb::FreeWrong(random.below(2 * LIVE), 1 + random.below(40) as u32),
            50..100 => Verb::Sync,
            _ if random.below(2 * LIVE) > checked.in_use() => match random.below(8) {
                0 => Verb::Allocate(2 + random.below(99) as u32),
                _ => Verb::Allocate(1),
            },
            _ => Verb::Free { nth: random.below(u64::MAX) as usize, part: random.below(u64::MAX) as u32 },
        };
        checked.step(verb);
        if operation % 10_000 == 0 {
            checked.check_counts();
        }
    }
    checked.check();
}
