//! Failure prevented: an id that one thread allocates and another frees has two owners, or cannot be freed, or is missing in a sync that
//! began later; an id given out that the disk still knows as somebody's; a count that is wrong once all is over; ids that nobody gets any
//! more, on a full disk, because threads that have ended leased them.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};

use pagestone_allocator::{PageAllocator, region_bits};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};
use pagestone_testkit::Rng;

const THREADS: u64 = 8;
/// Threads one after another, each in the place of one that has ended.
const LIVES: u64 = 6;
const ROUNDS: u64 = 1_500;
/// Above any id that they get.
const IDS: usize = 40_000;
const FREE: u64 = 0;
const OWNED: u64 = 1;
const FREEING: u64 = 2;

/// Pages in memory, as many as there is room for; writing them can be made to fail.
#[derive(Debug)]
struct Disk {
    pages: MemoryStore,
    room: u64,
    broken: AtomicBool,
}

impl Disk {
    fn new(room: u64) -> Arc<Self> {
        let pages = MemoryStore::new(DEFAULT_PAGE_SIZE);
        Arc::new(Self { pages, room, broken: AtomicBool::new(false) })
    }
}

impl PageStore for Disk {
    fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.pages.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        match self.broken.load(SeqCst) {
            true => Err(PageError::io("write", std::io::ErrorKind::Other.into())),
            false => self.pages.write_page(page),
        }
    }
    fn sync(&self) -> PageResult<()> {
        self.pages.sync()
    }
    fn len(&self) -> PageResult<u64> {
        self.pages.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        if pages > self.room {
            return Err(PageError::NoSpace { needed: pages - self.room });
        }
        self.pages.grow(pages)
    }
}

/// What becomes of each id, and when.
struct World {
    allocator: PageAllocator,
    store: Arc<Disk>,
    clock: AtomicU64,
    /// When the last change was, times four, and which.
    ids: Vec<AtomicU64>,
    /// Runs that are free to be taken by anyone who frees.
    shared: Mutex<Vec<(u64, u64)>>,
    /// By thread: odd while it has ids that are not marked yet.
    unmarked: Vec<AtomicU64>,
    over: AtomicBool,
}

impl World {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// Ids that were asked for no sooner than `since`.
    fn got(&self, since: u64, first: u64, count: u64) {
        for id in first..first + count {
            let before = self.ids[id as usize].swap(since * 4 + OWNED, SeqCst);
            assert_ne!(before % 4, OWNED, "{id} has two owners");
        }
    }

    fn free(&self, first: u64, count: u64) {
        let mut marks = vec![];
        for id in first..first + count {
            let mark = self.tick() * 4 + FREEING;
            assert_eq!(self.ids[id as usize].swap(mark, SeqCst) % 4, OWNED, "{id} is somebody's");
            marks.push(mark);
        }
        self.allocator.free_extent(PageId::new(first), count as u32).expect("they have an owner");
        for (id, mark) in (first..).zip(marks) {
            let free = self.tick() * 4 + FREE;
            let marked = self.ids[id as usize].compare_exchange(mark, free, SeqCst, SeqCst);
            assert!(marked.is_ok() || marked.is_err_and(|now| now != mark), "else somebody has it again");
        }
    }

    fn seen(&self) -> Vec<u64> {
        self.ids.iter().map(|id| id.load(SeqCst)).collect()
    }

    /// Waits until whatever was given out before is marked.
    fn all_marked(&self) {
        for unmarked in &self.unmarked {
            let seen = unmarked.load(SeqCst);
            while seen % 2 == 1 && unmarked.load(SeqCst) == seen {
                std::thread::yield_now();
            }
        }
    }

    fn work(&self, thread: usize, random: &mut Rng) {
        for _ in 0..ROUNDS {
            let held = self.shared.lock().expect("no panic").len() as u64;
            if random.below(400) > held {
                let mut runs = vec![];
                self.unmarked[thread].fetch_add(1, SeqCst);
                let since = self.tick();
                if random.below(5) == 0 {
                    let count = 2 + random.below(90);
                    let first = self.allocator.allocate_extent(count as u32).expect("a run").get();
                    self.got(since, first, count);
                    runs.push((first, count));
                } else {
                    let mut ids: Vec<u64> = vec![];
                    for _ in 0..1 + random.below(100) {
                        let id = self.allocator.allocate().expect("an id").get();
                        self.got(since, id, 1);
                        ids.push(id);
                    }
                    ids.sort_unstable();
                    for run in ids.chunk_by(|one, next| one + 1 == *next) {
                        let at = random.below(run.len() as u64 + 1) as usize;
                        let parts = [&run[..at], &run[at..]];
                        runs.extend(
                            parts.into_iter().filter_map(|part| Some((*part.first()?, part.len() as u64))),
                        );
                    }
                }
                self.unmarked[thread].fetch_add(1, SeqCst);
                self.shared.lock().expect("no panic").extend(runs);
            } else {
                let run = {
                    let mut shared = self.shared.lock().expect("no panic");
                    let held = shared.len() as u64;
                    (held > 0).then(|| shared.swap_remove(random.below(held) as usize))
                };
                let Some((first, count)) = run else { continue };
                let id = first + random.below(count);
                assert!(self.allocator.is_allocated(PageId::new(id)).expect("its map"), "{id} is ours");
                if random.below(2) == 0 {
                    self.free(first, count);
                } else {
                    (first..first + count).for_each(|id| self.free(id, 1));
                }
            }
        }
    }

    /// Syncs, and looks at what the disk has after each.
    fn sync(&self, random: &mut Rng) -> u64 {
        let (mut syncs, mut disk, mut ended) = (0, vec![false; IDS], 0);
        while !self.over.load(SeqCst) {
            let began = self.tick();
            let before = self.seen();
            for (id, state) in before.iter().enumerate() {
                let given_out = state % 4 == OWNED && (ended..began).contains(&(state / 4));
                assert!(!(given_out && disk[id] && ended > 0), "{id} is somebody else's after a crash");
            }
            if random.below(3) == 0 {
                // So that something is written, which fails.
                let since = self.tick();
                let run = self.allocator.allocate_extent(2).expect("a run").get();
                self.got(since, run, 2);
                self.shared.lock().expect("no panic").push((run, 2));
                self.store.broken.store(true, SeqCst);
                assert!(self.allocator.sync().is_err());
                self.store.broken.store(false, SeqCst);
                if random.below(2) == 0 {
                    continue;
                }
            }
            self.allocator.sync().expect("durable");
            ended = self.tick();
            let found = PageAllocator::new(Arc::clone(&self.store)).expect("it is there");
            let has = |id: usize| found.is_allocated(PageId::new(id as u64)).expect("its map");
            let after = self.seen();
            disk = (0..IDS).map(has).collect();
            let mut taken_meanwhile = vec![];
            for (id, (before, after)) in before.into_iter().zip(after).enumerate() {
                if before == after && before / 4 < began {
                    assert!(before % 4 != OWNED || disk[id], "{id} is lost by a crash");
                    if before % 4 == FREE && disk[id] {
                        taken_meanwhile.push((id, before));
                    }
                }
            }
            self.all_marked();
            for (id, before) in taken_meanwhile {
                assert_ne!(self.ids[id].load(SeqCst), before, "{id} is somebody's again after a crash");
            }
            let in_use = disk.iter().filter(|has| **has).count() as u64;
            assert_eq!(count(&found), in_use, "the root and the maps are of one instant");
            assert!(disk.iter().rposition(|has| *has).map_or(1, |id| id as u64 + 1) == found.high_water());
            syncs += 1;
        }
        syncs
    }
}

/// The allocator's own below an id of the first two regions.
fn own_below(id: u64) -> u64 {
    let region = region_bits(DEFAULT_PAGE_SIZE);
    let own = [0, 9, 10, 11, 12, 13, 14, 15, region + 14, region + 15];
    own.into_iter().filter(|own| *own < id).count() as u64
}

/// Ids in use, by the count of the others.
fn count(allocator: &PageAllocator) -> u64 {
    let high = allocator.high_water();
    high - own_below(high) - allocator.free_count()
}

#[test]
fn ids_that_change_threads_have_one_owner_and_are_in_every_sync() {
    let store = Disk::new(u64::MAX);
    let allocator = PageAllocator::new(Arc::clone(&store)).expect("made");
    let world = World {
        allocator,
        store,
        clock: AtomicU64::new(1),
        ids: (0..IDS).map(|_| AtomicU64::new(FREE)).collect(),
        shared: Mutex::new(vec![]),
        unmarked: (0..THREADS).map(|_| AtomicU64::new(0)).collect(),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|threads| {
        let world = &world;
        let syncs = threads.spawn(move || world.sync(&mut Rng::new(99)));
        let lines: Vec<_> = (0..THREADS)
            .map(|line| {
                threads.spawn(move || {
                    for life in 0..LIVES {
                        std::thread::scope(|one| {
                            one.spawn(|| world.work(line as usize, &mut Rng::new(line * LIVES + life + 1)));
                        });
                    }
                })
            })
            .collect();
        let done: Vec<_> = lines.into_iter().map(|line| line.join()).collect();
        world.over.store(true, SeqCst);
        done.into_iter().for_each(|line| line.expect("no panic"));
        assert!(syncs.join().expect("no panic") > 0);
    });
    let owned: BTreeSet<u64> =
        (0..IDS as u64).filter(|id| world.ids[*id as usize].load(SeqCst) % 4 == OWNED).collect();
    assert_eq!(count(&world.allocator), owned.len() as u64);
    world.allocator.sync().expect("durable");
    let again = PageAllocator::new(Arc::clone(&world.store)).expect("it is there");
    let found = (0..IDS as u64).filter(|id| again.is_allocated(PageId::new(*id)).expect("its map"));
    assert!(found.eq(owned.iter().copied()));
}

#[test]
fn of_all_who_free_an_id_of_a_lease_one_is_told_so() {
    let allocator = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE)).expect("made");
    for round in 0..60 {
        let ids = 40 + round % 3 * 300;
        let ids: Vec<PageId> = (0..ids).map(|_| allocator.allocate().expect("an id")).collect();
        let (freed, together) = (AtomicU64::new(0), Barrier::new(THREADS as usize));
        std::thread::scope(|threads| {
            for thread in 0..THREADS as usize {
                let (ids, freed, together, allocator) = (&ids, &freed, &together, &allocator);
                threads.spawn(move || {
                    together.wait();
                    for nth in 0..ids.len() {
                        let id = ids[(nth + thread % 2 * 7) % ids.len()];
                        freed.fetch_add(u64::from(allocator.free(id).is_ok()), SeqCst);
                    }
                });
            }
        });
        assert_eq!(freed.into_inner(), ids.len() as u64);
        assert_eq!((allocator.high_water(), allocator.free_count()), (1, 0), "round {round}");
    }
}

/// Twenty threads take ids, keep each ninth, and end: gives what they kept.
fn leases_of_threads_that_ended(allocator: &PageAllocator) -> BTreeSet<u64> {
    let kept = Mutex::new(BTreeSet::new());
    std::thread::scope(|threads| {
        for thread in 0..20 {
            let kept = &kept;
            threads.spawn(move || {
                let ids: Vec<_> = (0..1 + thread * 40).map_while(|_| allocator.allocate().ok()).collect();
                for (nth, id) in ids.into_iter().enumerate() {
                    if nth % 9 == 0 {
                        assert!(kept.lock().expect("no panic").insert(id.get()), "{id} has two owners");
                    } else {
                        allocator.free(id).expect("it is ours");
                    }
                }
            });
        }
    });
    kept.into_inner().expect("no panic")
}

#[test]
fn all_of_a_full_disk_is_one_threads_in_the_end() {
    let region = region_bits(DEFAULT_PAGE_SIZE);
    for room in [17, 100, 1000, region - 3, region, region + 300] {
        let disk = Disk::new(room);
        let allocator = PageAllocator::new(Arc::clone(&disk)).expect("made");
        let mut kept = leases_of_threads_that_ended(&allocator);
        assert_eq!(count(&allocator), kept.len() as u64);
        let mut take = |allocator: &PageAllocator| {
            let error = loop {
                match allocator.allocate() {
                    Ok(id) => assert!(kept.insert(id.get()), "{id} has two owners"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, PageError::NoSpace { .. }), "{error}");
            assert_eq!(kept.len() as u64 + own_below(room), room, "some are nobody's");
        };
        take(&allocator);
        allocator.sync().expect("durable");
        let half = || (1..room).step_by(2).filter(|id| own_below(*id) == own_below(*id + 1));
        half().for_each(|id| allocator.free(PageId::new(id)).expect("it is ours"));
        let error = allocator.allocate().expect_err("the disk knows their owners");
        assert!(matches!(error, PageError::NoSpace { .. }), "{error}");
        allocator.sync().expect("durable");
        // By a thread that ends, and after an opening.
        let again = || half().for_each(|_| assert!(allocator.allocate().is_ok()));
        std::thread::scope(|threads| threads.spawn(again).join().expect("no panic"));
        assert!(allocator.allocate().is_err());
        drop(allocator);
        let allocator = PageAllocator::new(Arc::clone(&disk)).expect("it is there");
        half().for_each(|_| assert!(allocator.allocate().is_ok()));
        assert!(allocator.allocate().is_err());
    }
}
