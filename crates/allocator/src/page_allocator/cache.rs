//! Ids that one thread, or a few, allocate from and free to without meeting the others.
//!
//! Invariant: a free id is in the space or in one cache, so nobody else hands it out; and what an id's bits say changes only under the lock
//! of some cache, so whoever holds all of them sees one instant.
//!
//! ```text
//!   thread ──► its cache ──► leases: the free ids of some words            allocate takes the lowest of one, free brings it back
//!                 │          returned: free ids of other words
//!                 ▼  64 at a time
//!               space
//! ```
//!
//! A word is leased as it is needed, the one with the lowest free id first, once nothing that is leased is free; so ids are given out
//! lowest first but for those that other threads hold. A lease stays, used up or not, until another word needs its place: what is freed
//! soon after it was allocated is freed there.

use pagestone_sync::faults::planted;
use pagestone_sync::thread::place;
use pagestone_sync::{Arc, BriefGuard, BriefMutex};

use super::board::Board;
use super::lease::Lease;
use super::region::Region;
use super::space::Space;
use super::variant::{CACHES, LEASES};
use crate::bit_runs::runs;

/// Ids that are returned one by one before the space takes them.
const RETURNED: usize = 64;

#[derive(Debug)]
pub(super) struct Cache {
    number: usize,
    /// Each at the place of its word.
    leases: [Option<Lease>; LEASES],
    /// The place that is allocated from.
    current: usize,
    returned: Vec<u64>,
    /// Ids allocated here, less those freed here, but for those that the leases have out.
    settled: i64,
    /// Regions that were first changed here since the last commit began.
    changed: Vec<Arc<Region>>,
    board: Arc<Board>,
}

impl Cache {
    fn new(number: usize, board: Arc<Board>) -> Self {
        Self {
            number,
            leases: std::array::from_fn(|_| None),
            current: 0,
            returned: vec![],
            settled: 0,
            changed: vec![],
            board,
        }
    }

    /// Hands out the lowest id of the lease that is allocated from.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u64> {
        self.leases[self.current % LEASES].as_mut().and_then(Lease::take)
    }

    /// Hands out the lowest id of all leases, and allocates from that one from now on.
    pub(super) fn take_lowest(&mut self) -> Option<u64> {
        let some = self.leases.iter_mut().flatten().filter(|lease| lease.free != 0);
        let lowest = some.min_by_key(|lease| lease.first)?;
        self.current = Board::place(lowest.first);
        lowest.take()
    }

    /// Takes back an id that a lease has handed out. False for any other.
    #[inline]
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        self.leases[Board::place(id)].as_mut().is_some_and(|lease| lease.take_back(id))
    }

    /// Takes note that ids were handed out past the leases, or freed.
    pub(super) fn changed(&mut self, region: &Arc<Region>, in_use: i64) {
        if region.change() {
            self.changed.push(Arc::clone(region));
        }
        self.settled += in_use;
    }

    /// Takes in an id that is free. True if the space must take what has gathered.
    pub(super) fn give(&mut self, id: u64) -> bool {
        match &mut self.leases[Board::place(id)] {
            Some(lease) if lease.first == id - id % 64 => lease.free |= 1 << (id % 64),
            _ => self.returned.push(id),
        }
        self.returned.len() >= RETURNED
    }

    /// What was returned becomes the space's.
    pub(super) fn flush(&mut self, space: &mut Space) {
        self.returned.sort_unstable();
        let ids = &self.returned;
        for run in ids.chunk_by(|one, next| one + 1 == *next) {
            space.give(run[0], run.len() as u64);
        }
        self.returned.clear();
    }

    /// Everything that is free becomes the space's.
    pub(super) fn recall(&mut self, space: &mut Space) {
        self.flush(space);
        for lease in self.leases.iter_mut().flatten().filter(|lease| lease.free != 0) {
            let free = lease.free;
            if !planted("a recalled lease stays where it is") {
                lease.free = 0;
            }
            for (start, len) in runs([free].into_iter()) {
                space.give(lease.first + start, len);
            }
        }
    }

    /// A new lease, when none has an id left. The one at its place ends.
    pub(super) fn lease(&mut self, lease: Lease) {
        let (place, first) = (Board::place(lease.first), lease.first);
        debug_assert!(
            self.leases.iter().flatten().all(|lease| lease.free == 0),
            "leased ids are used or recalled"
        );
        self.current = place;
        let late = planted("a lease leaves the board before its ids are in the region");
        if late {
            self.board.put(self.number, first);
        }
        self.settle_at(place);
        if !late && !planted("a lease is on no board") {
            self.board.put(self.number, first);
        }
        self.leases[place] = Some(lease);
    }

    /// The regions say what was handed out here.
    pub(super) fn settle(&mut self) {
        (0..LEASES).for_each(|place| self.settle_at(place));
    }

    /// As much of one lease.
    fn settle_at(&mut self, place: usize) {
        let Some(lease) = &mut self.leases[place] else { return };
        let out = lease.settle();
        if out > 0 && lease.region.change() {
            self.changed.push(Arc::clone(&lease.region));
        }
        self.settled += i64::from(out);
    }

    /// Takes the regions that were first changed here since the last commit began. What was handed out is settled.
    pub(super) fn take_changed(&mut self) -> Vec<Arc<Region>> {
        std::mem::take(&mut self.changed)
    }

    /// Ids allocated here, less those freed here.
    pub(super) fn in_use(&self) -> i64 {
        let out: u32 = self.leases.iter().flatten().map(Lease::out).sum();
        self.settled + i64::from(out)
    }

    /// How many ids right below this one are free in a lease, at most to the start of its word.
    pub(super) fn free_below(&self, id: u64) -> u64 {
        self.leases[Board::place(id - 1)].as_ref().map_or(0, |lease| lease.free_below(id))
    }
}

/// A cache on lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart(BriefMutex<Cache>);

/// All caches. They are locked before the space, and in their order.
#[derive(Debug)]
pub(super) struct Caches {
    caches: Vec<Apart>,
    board: Arc<Board>,
}

impl Caches {
    pub(super) fn new() -> Self {
        let board = Arc::new(Board::new());
        let cache = |number| Apart(BriefMutex::new(Cache::new(number, Arc::clone(&board))));
        Self { caches: (0..CACHES).map(cache).collect(), board }
    }

    /// The calling thread's.
    #[inline]
    pub(super) fn own(&self) -> BriefGuard<'_, Cache> {
        self.caches[place() % CACHES].0.lock()
    }

    /// All of them: nobody changes anything meanwhile.
    pub(super) fn all(&self) -> Vec<BriefGuard<'_, Cache>> {
        self.caches.iter().map(|cache| cache.0.hold()).collect()
    }

    /// The region says of the ids of this one's word what was handed out, whoever leases it. No cache is locked.
    pub(super) fn settle_word(&self, id: u64) {
        self.board.caches_of(id).for_each(|cache| self.caches[cache].0.lock().settle_at(Board::place(id)));
    }
}
