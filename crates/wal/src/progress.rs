//! Groups that were appended and whose pages are not stamped yet: checkpoints stay before them (L5).
//!
//! Invariant: from the moment at which a group has its LSNs, which is under the log's mutex, until its [`InProgress`] is dropped, its start stands in a
//! place or among those without one; who looks under the mutex misses none, and who misses one sees what was done before its drop.
//!
//! ```text
//!   place:   FREE ──claim──► CLAIMED ──began, under the mutex──► start of the group ──drop──► FREE
//!            (no lock)                                                             (no lock)
//! ```
//!
//! Why no list under the mutex: every append would take the mutex once more, only to say that it is done. A thread claims where its
//! number says, so that as a rule it finds its own place, with its line in its own cache.

use pagestone_page_format::Lsn;
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::faults::planted;
use pagestone_sync::thread;

use crate::wal::Wal;

/// Places. In a model one, so that the second group is one without.
const PLACES: usize = if cfg!(loom) { 1 } else { 64 };
/// Places that a claim looks at.
const LOOKS: usize = 4;

const FREE: u64 = 0;
/// By somebody whose group has no LSN yet; greater than any start.
const CLAIMED: u64 = u64::MAX;

/// A start, on a line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Place(AtomicU64);

/// The groups in progress that have a place.
#[derive(Debug)]
pub(crate) struct Progress {
    places: Box<[Place]>,
}

/// A place that was claimed for a group that is about to be appended; none if all that were looked at are taken.
#[derive(Debug)]
#[must_use = "a claim that no group begins in is lost for good"]
pub(crate) struct Claim(Option<usize>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Place(AtomicU64::new(FREE))).collect() }
    }

    pub(crate) fn claim(&self) -> Claim {
        let own = thread::place();
        let mut near = (own..own.wrapping_add(LOOKS.min(PLACES))).map(|place| place % PLACES);
        Claim(near.find(|place| {
            // Acquire pairs with the Release of `done`: once another start stands here, who looks learns only by this and the mutex
            // what the group before has stamped.
            let acquire = if planted("who claims a place acquires nothing") {
                Ordering::Relaxed
            } else {
                Ordering::Acquire
            };
            let place = &self.places[*place].0;
            place.compare_exchange(FREE, CLAIMED, acquire, Ordering::Relaxed).is_ok()
        }))
    }

    /// The claimed place's group has its LSN. Under the mutex.
    pub(crate) fn began(&self, claim: &Claim, start: Lsn, without_place: &mut Vec<Lsn>) {
        match claim.0 {
            Some(place) => self.places[place].0.store(start.get(), Ordering::Relaxed),
            None => without_place.push(start),
        }
    }

    /// The start of the oldest one. Under the mutex, where what [`Progress::began`] stored is seen, or what came later.
    pub(crate) fn oldest(&self, without_place: &[Lsn]) -> Option<Lsn> {
        // Acquire pairs with the Release of `done`: who sees that a group is done sees its pages stamped.
        let in_places = self.places.iter().map(|place| place.0.load(Ordering::Acquire));
        let begun = in_places.filter(|start| !matches!(*start, FREE | CLAIMED)).map(Lsn::new);
        let oldest = begun.chain(without_place.iter().copied()).min();
        oldest.filter(|_| !planted("a group in progress is not counted"))
    }

    fn done(&self, place: usize) {
        let ordering =
            if planted("who is done says so relaxed") { Ordering::Relaxed } else { Ordering::Release };
        self.places[place].0.store(FREE, ordering);
    }
}

/// A group whose pages are not stamped yet.
#[derive(Debug)]
#[must_use = "a checkpoint may pass the group as soon as this is dropped"]
pub struct InProgress<'a> {
    wal: &'a Wal,
    start: Lsn,
    place: Option<usize>,
}

impl<'a> InProgress<'a> {
    pub(crate) fn new(wal: &'a Wal, start: Lsn, claim: Claim) -> Self {
        Self { wal, start, place: claim.0 }
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        match self.place {
            Some(place) => self.wal.progress.done(place),
            None if planted("who is done ends another's group") => self.wal.progress.done(0),
            None => self.wal.state.lock().without_place.retain(|start| *start != self.start),
        }
    }
}
