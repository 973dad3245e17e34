//! Ids that one thread, or a few, allocate from and free to without meeting the others.
//!
//! Invariant: a free id is in the space or in one cache, so nobody else hands it out; and what an id's bits say changes only under the lock
//! of some cache, so whoever holds all of them sees one instant.
//!
//! ```text
//!   thread ──► its cache ──► lease: the free ids of one word of a map     allocate takes the lowest, free brings it back
//!                 │          returned: free ids of other words
//!                 ▼  64 at a time
//!               space
//! ```
//!
//! A word is leased as it is needed, the one with the lowest free id first; so ids are given out lowest first but for those that other
//! threads hold, 64 each at most.

use pagestone_sync::faults::planted;
use pagestone_sync::thread::place;
use pagestone_sync::{Arc, BriefGuard, BriefMutex};

use super::region::Region;
use super::space::Space;
use super::variant::CACHES;
use crate::bit_runs::runs;

/// Ids that are returned one by one before the space takes them.
const RETURNED: usize = 64;

/// The free ids of one word of a map, of which some may have been handed out since.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) region: Arc<Region>,
    /// The word, in the region's map.
    pub(super) word: usize,
    /// The id of its first bit.
    pub(super) first: u64,
    pub(super) free: u64,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    lease: Option<Lease>,
    returned: Vec<u64>,
    /// Ids allocated here, less those freed here.
    pub(super) in_use: i64,
    /// Regions that were first changed here since the last commit began.
    pub(super) changed: Vec<Arc<Region>>,
}

impl Cache {
    /// Hands out the lowest id of the lease.
    pub(super) fn take(&mut self) -> Option<u64> {
        let lease = self.lease.as_mut().filter(|lease| lease.free != 0)?;
        let bit = lease.free.trailing_zeros();
        if !planted("an id stays in the cache that hands it out") {
            lease.free &= lease.free - 1;
        }
        let before = lease.region.in_use.set(lease.word, 1 << bit);
        assert!(before == 0, "A2: id {} is handed out and has an owner", lease.first + u64::from(bit));
        if lease.region.change() {
            self.changed.push(Arc::clone(&lease.region));
        }
        self.in_use += 1;
        Some(lease.first + u64::from(bit))
    }

    /// Takes note that ids of a word were handed out past the lease, or freed.
    pub(super) fn changed(&mut self, region: &Arc<Region>, in_use: i64) {
        if region.change() {
            self.changed.push(Arc::clone(region));
        }
        self.in_use += in_use;
    }

    /// Takes in an id that is free. True if the space must take what has gathered.
    pub(super) fn give(&mut self, region: &Region, word: usize, bit: u64, id: u64) -> bool {
        match &mut self.lease {
            Some(lease) if lease.region.number == region.number && lease.word == word => {
                lease.free |= 1 << bit
            }
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
        if let Some(lease) = self.lease.as_mut() {
            let free = lease.free;
            if !planted("a recalled lease stays where it is") {
                lease.free = 0;
            }
            for (start, len) in runs([free].into_iter()) {
                space.give(lease.first + start, len);
            }
        }
    }

    /// A new lease in the place of one that is used up.
    pub(super) fn lease(&mut self, lease: Lease) {
        debug_assert!(
            self.lease.as_ref().is_none_or(|lease| lease.free == 0),
            "leased ids are used or recalled"
        );
        self.lease = Some(lease);
    }

    /// Whether the lease holds this id, free.
    pub(super) fn holds(&self, id: u64) -> bool {
        self.lease.as_ref().is_some_and(|lease| {
            id.checked_sub(lease.first).is_some_and(|bit| bit < 64 && lease.free >> bit & 1 == 1)
        })
    }
}

/// A cache on lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(BriefMutex<Cache>);

/// All caches. They are locked before the space, and in their order.
#[derive(Debug)]
pub(super) struct Caches {
    caches: Vec<Apart>,
}

impl Caches {
    pub(super) fn new() -> Self {
        Self { caches: (0..CACHES).map(|_| Apart::default()).collect() }
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
}
