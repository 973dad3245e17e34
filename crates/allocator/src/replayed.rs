//! What a replayed log freed.
//!
//! Invariant: once every record from the checkpoint on was noted, in the order of the log, [`ReplayedFrees`] holds exactly the ids that
//! a group behind the checkpoint freed and no later one took. Whatever else the map says is free was freed before the checkpoint.
//!
//! ```text
//!   log   ──┬────────────── replayed ──────────────┬──►
//!           checkpoint    frees 7    frees 9, takes 7    free by the map: 3, 9
//!                                                        for extents:     3, and 9 when both copies passed the end of it (L8)
//! ```

use pagestone_page_format::{OpKind, PageId};

use crate::extents::Extents;
use crate::space_map::{ClearBits, SetBits, decode_run};

/// Ids that the replayed part of a log freed and that are free at its end: they are not extents yet (L8).
///
/// Memory: one run of ids in a row takes some ten words, as it does in the allocator itself.
#[derive(Debug, Default)]
pub struct ReplayedFrees {
    ids: Extents,
}

impl ReplayedFrees {
    /// Takes note of a record; of one that is no operation on a space map this is one comparison. Records come in the order of the log.
    ///
    /// A record that makes no sense is passed over: redo refuses it.
    #[inline]
    pub fn note(&mut self, op: OpKind, payload: &[u8]) {
        if op == ClearBits::KIND || op == SetBits::KIND {
            self.change(op, payload);
        }
    }

    fn change(&mut self, op: OpKind, payload: &[u8]) {
        let Some((first, count)) = decode_run(payload) else { return };
        let Some(end) = first.get().checked_add(count.into()).filter(|end| *end <= PageId::MAX.get() + 1)
        else {
            return;
        };
        self.ids.take_within(first.get(), end - first.get());
        if op == ClearBits::KIND {
            self.ids.give(first.get(), count.into()).expect("these ids were taken out a moment ago");
        }
    }

    /// How many ids these are.
    pub fn count(&self) -> u64 {
        self.ids.total()
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ids.within(0..u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_page_format::PageOp;

    fn note(frees: &mut ReplayedFrees, op: &dyn PageOp) {
        let mut payload = Vec::new();
        op.encode(&mut payload);
        frees.note(op.kind(), &payload);
    }

    #[test]
    fn what_was_freed_last_is_left() {
        let mut frees = ReplayedFrees::default();
        note(&mut frees, &ClearBits { first: PageId::new(10), count: 6 });
        note(&mut frees, &SetBits { first: PageId::new(12), count: 2 });
        note(&mut frees, &SetBits { first: PageId::new(100), count: 2 });
        note(&mut frees, &ClearBits { first: PageId::new(13), count: 1 });
        assert_eq!(frees.runs().collect::<Vec<_>>(), [(10, 2), (13, 3)]);
        assert_eq!(frees.count(), 5);
    }

    #[test]
    fn records_without_sense_are_passed_over() {
        let mut frees = ReplayedFrees::default();
        frees.note(ClearBits::KIND, b"short");
        note(&mut frees, &ClearBits { first: PageId::new(u64::MAX), count: 3 });
        frees.note(0x2000, &[0; 12]);
        assert_eq!(frees.count(), 0);
        // Freed twice, which redo refuses: no panic here.
        for _ in 0..2 {
            note(&mut frees, &ClearBits { first: PageId::new(5), count: 2 });
        }
        assert_eq!(frees.count(), 2);
    }
}
