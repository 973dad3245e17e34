//! Who is reading values in extents, and since when.
//!
//! Invariant: a guard that was taken before an extent was freed keeps its ids from being used again until it is dropped (L8).
//!
//! ```text
//!   reader    copies a reference out of a leaf ─► read_guard() ─► validates the leaf ─► reads the extents ─► drop
//!   writer    latches the leaf ─► changes it ─► lets go ─► Release::commit: held by every guard there is by now
//! ```
//!
//! The reader's leaf was as it was copied when the guard was taken, so whoever frees the extents latches the leaf later, and asks
//! for the guards later still. The other order, a guard taken after the free, holds back nothing that it needs.

use std::collections::BTreeSet;

use pagestone_sync::{Arc, Mutex};

/// The guards of one allocator. A lock of its own: readers do not meet those who allocate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers {
    shared: Arc<Mutex<Tickets>>,
}

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    held: BTreeSet<u64>,
}

impl Readers {
    /// Registers a reader.
    pub(crate) fn guard(&self) -> ReadGuard {
        let mut tickets = self.shared.lock();
        let ticket = tickets.next;
        tickets.next += 1;
        tickets.held.insert(ticket);
        drop(tickets);
        ReadGuard { readers: self.clone(), ticket }
    }

    /// A number above every guard's that was taken so far; none if there is no guard now.
    pub(crate) fn mark(&self) -> Option<u64> {
        let tickets = self.shared.lock();
        (!tickets.held.is_empty()).then_some(tickets.next)
    }

    /// Whether every guard that was taken before this mark is gone.
    pub(crate) fn are_past(&self, mark: u64) -> bool {
        self.shared.lock().held.first().is_none_or(|oldest| *oldest >= mark)
    }
}

/// Keeps the ids of extents that are freed while it lives from being used again. It borrows nothing; it does not keep the
/// store open.
#[derive(Debug)]
#[must_use = "a guard that is dropped holds nothing back"]
pub struct ReadGuard {
    readers: Readers,
    ticket: u64,
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        self.readers.shared.lock().held.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_passed_when_the_guards_before_it_are_gone() {
        let readers = Readers::default();
        assert_eq!(readers.mark(), None);
        let (first, second) = (readers.guard(), readers.guard());
        let mark = readers.mark().expect("there are guards");
        let third = readers.guard();
        assert!(!readers.are_past(mark));
        drop(second);
        assert!(!readers.are_past(mark), "the first is still there");
        drop(first);
        assert!(readers.are_past(mark), "the third began later");
        assert!(!readers.are_past(readers.mark().expect("the third is there")));
        drop(third);
        assert_eq!(readers.mark(), None);
        assert!(readers.are_past(u64::MAX));
    }
}
