//! The rings of one file between batches, and whose they are.
//!
//! Invariant: a ring that is bound to a thread is entered by that thread alone; whoever else would enter it is refused by the kernel.
//!
//! ```text
//!   take ──► bound to this thread? ──► that one
//!             └ none: fewer than BOUND_MAX, or one that was not used for long? ──► a new one, bound
//!                        └ no ──► a free one, or a new one that is free
//! ```
//!
//! A ring with a single issuer that defers completions (`DEFER_TASKRUN`, Linux 6.1) wakes who waits for a batch once and not for
//! every completion: 2.8 instead of 3.2 µs of processor time a transfer, at batches of 32
//! ([decision 007](../../../../docs/decisions/007-what-a-ring-registers.md)). Threads come and go; so bound rings are
//! few, and one whose thread stays away is closed for another's.

use std::io;
use std::ops::{Deref, DerefMut};
use std::thread::{self, ThreadId};

use io_uring::IoUring;
use pagestone_sync::Mutex;

/// Entries of a ring: as many transfers of a batch are under way at once.
pub(super) const DEPTH: usize = 64;
/// Rings of a file that are bound to a thread.
const BOUND_MAX: usize = 8;
/// Free rings that are kept.
const FREE_MAX: usize = 4;
/// A bound ring may be closed for another thread's when this many batches went by without it.
const STALE: u64 = 1000;

/// A ring and the thread that it is bound to.
struct Ring {
    ring: IoUring,
    thread: Option<ThreadId>,
}

/// A ring in use. Dropping it gives it back to its shelf, or closes it where it may hold entries that were never submitted.
pub(super) struct Lent<'s> {
    /// There until it is dropped.
    ring: Option<Ring>,
    shelf: &'s Shelf,
    /// Whether nothing of it is under way or waits to be submitted.
    pub(super) empty: bool,
}

impl Deref for Lent<'_> {
    type Target = IoUring;

    fn deref(&self) -> &IoUring {
        &self.ring.as_ref().expect("it is there until the drop").ring
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut IoUring {
        &mut self.ring.as_mut().expect("it is there until the drop").ring
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        match self.ring.take() {
            Some(ring) if self.empty => self.shelf.put_back(ring),
            Some(ring) => self.shelf.close(ring),
            None => {}
        }
    }
}

/// The rings of one file that are not in use.
#[derive(Default)]
pub(super) struct Shelf {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With the number of the batch that each was last used for.
    bound: Vec<(Ring, u64)>,
    free: Vec<Ring>,
    /// Bound rings, those in use among them.
    bound_count: usize,
    /// Whether the kernel binds rings.
    binds: bool,
    batches: u64,
}

impl Shelf {
    /// With one ring, or the reason why the system gives none.
    pub(super) fn new() -> io::Result<Self> {
        let me = thread::current().id();
        let mut state = State::default();
        match bound_ring() {
            Ok(ring) => {
                state.bound.push((Ring { ring, thread: Some(me) }, 0));
                (state.bound_count, state.binds) = (1, true);
            }
            // An old kernel does not know the flags; where there is no ring at all, the second try says why.
            Err(_) => state.free.push(Ring { ring: IoUring::new(DEPTH as u32)?, thread: None }),
        }
        Ok(Self { state: Mutex::new(state) })
    }

    /// A ring that this thread may enter, for as long as it likes; `None` if the system gives no more now.
    pub(super) fn lend(&self) -> Option<Lent<'_>> {
        self.take().map(|ring| Lent { ring: Some(ring), shelf: self, empty: true })
    }

    fn take(&self) -> Option<Ring> {
        let me = thread::current().id();
        let mut state = self.state.lock();
        state.batches += 1;
        if let Some(at) = state.bound.iter().position(|(ring, _)| ring.thread == Some(me)) {
            return Some(state.bound.swap_remove(at).0);
        }
        let stale = state.make_room();
        if state.binds && state.bound_count < BOUND_MAX {
            state.bound_count += 1;
            drop(state);
            drop(stale);
            if let Ok(ring) = bound_ring() {
                return Some(Ring { ring, thread: Some(me) });
            }
            state = self.state.lock();
            state.bound_count -= 1;
        }
        let free = state.free.pop();
        drop(state);
        free.or_else(|| Some(Ring { ring: IoUring::new(DEPTH as u32).ok()?, thread: None }))
    }

    /// Keeps a ring that is whole.
    fn put_back(&self, ring: Ring) {
        let mut state = self.state.lock();
        if ring.thread.is_some() {
            let now = state.batches;
            state.bound.push((ring, now));
        } else if state.free.len() < FREE_MAX {
            state.free.push(ring);
        }
    }

    /// Closes a ring that is not.
    fn close(&self, ring: Ring) {
        self.state.lock().bound_count -= usize::from(ring.thread.is_some());
        drop(ring);
    }
}

impl State {
    /// Takes a bound ring out that was not used for long, if one more has no room.
    fn make_room(&mut self) -> Option<Ring> {
        if self.bound_count < BOUND_MAX {
            return None;
        }
        let oldest = (0..self.bound.len()).min_by_key(|at| self.bound[*at].1)?;
        if self.bound[oldest].1 + STALE > self.batches {
            return None;
        }
        self.bound_count -= 1;
        Some(self.bound.swap_remove(oldest).0)
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        write!(f, "Shelf({} bound rings, {} free)", state.bound_count, state.free.len())
    }
}

/// A ring that only this thread may enter, and whose completions come when it waits for them.
fn bound_ring() -> io::Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(DEPTH as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shelf, or a word on what was not tested.
    fn shelf() -> Option<Shelf> {
        let shelf = Shelf::new();
        if let Err(error) = &shelf {
            println!("NOT TESTED: who may have a ring: the system gives none: {error}");
        }
        shelf.ok()
    }

    fn on_another_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(body).join().expect("no panic"))
    }

    #[test]
    fn a_bound_ring_goes_to_its_thread_alone() {
        let Some(shelf) = shelf() else { return };
        if !shelf.state.lock().binds {
            return println!("NOT TESTED: bound rings: the kernel knows none");
        }
        let me = thread::current().id();
        let mine = shelf.take().expect("a ring");
        assert_eq!(mine.thread, Some(me));
        shelf.put_back(mine);
        for _ in 0..2 * BOUND_MAX {
            on_another_thread(|| {
                let ring = shelf.take().expect("a ring");
                assert!(ring.thread.is_none_or(|of| of == thread::current().id()));
                shelf.put_back(ring);
            });
        }
        assert_eq!(shelf.state.lock().bound_count, BOUND_MAX);
        assert!(shelf.state.lock().free.len() <= FREE_MAX);
        let mine = shelf.take().expect("a ring");
        assert_eq!(mine.thread, Some(me), "it was not given away");
        // The others' threads are gone: their rings make room in time, this one not, being in use.
        shelf.state.lock().batches += 2 * STALE;
        let newcomer = on_another_thread(|| {
            let ring = shelf.take().expect("a ring");
            let own = ring.thread == Some(thread::current().id());
            shelf.close(ring);
            own
        });
        assert!(newcomer);
        assert_eq!(shelf.state.lock().bound_count, BOUND_MAX - 1);
        shelf.put_back(mine);
    }

    #[test]
    fn a_kernel_that_binds_no_rings_has_free_ones() {
        let Some(shelf) = shelf() else { return };
        *shelf.state.lock() = State::default();
        let (one, other) = (shelf.take().expect("a ring"), shelf.take().expect("a ring"));
        assert!(one.thread.is_none() && other.thread.is_none());
        shelf.put_back(one);
        shelf.close(other);
        let state = shelf.state.lock();
        assert_eq!((state.free.len(), state.bound_count), (1, 0));
    }
}
