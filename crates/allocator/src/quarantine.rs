//! Freed ids that may not be used as extents yet (L8), and those that may not be used at all.
//!
//! Invariant: an id leaves [`Held`] when no reader that began before its free is left, and [`Young`] when a checkpoint has passed
//! its free in both superblock copies. Young ids may be used again as pages, whose changes go through the log; extents are written past
//! it, so redo of an older record must not find them.
//!
//! ```text
//!   freed ──► held ──► young ──────────────────► settled
//!     │      readers     ▲  │  a checkpoint passes
//!     └── as pages ──────┘  └── put to use as a page: forgotten here
//! ```

use std::collections::VecDeque;

use pagestone_page_format::Lsn;

use crate::extents::Extents;
use crate::readers::Readers;

/// Batches of young ids kept apart at most; what is freed beyond that joins the newest and waits as long as it does.
const BATCHES: usize = 8;

/// Ids freed by groups that no checkpoint is known to have passed. They may be reserved meanwhile, and forfeited; what is put to
/// use leaves.
#[derive(Debug, Default)]
pub(crate) struct Young {
    /// No id is in two of them.
    batches: VecDeque<Batch>,
    /// The newest batch takes no more: a checkpoint, or recovery, was made behind it.
    closed: bool,
}

/// What was freed between two checkpoints.
#[derive(Debug)]
struct Batch {
    /// The greatest end LSN of the groups that freed them.
    newest: Lsn,
    ids: Extents,
}

impl Young {
    /// Adds ids that a group ending at `lsn` freed.
    pub(crate) fn add(&mut self, lsn: Lsn, start: u64, len: u64) {
        let full = self.batches.len() >= BATCHES;
        if self.batches.is_empty() || (self.closed && !full) {
            self.batches.push_back(Batch { newest: lsn, ids: Extents::new() });
            self.closed = false;
        }
        let batch = self.batches.back_mut().expect("a batch was made");
        batch.newest = batch.newest.max(lsn);
        batch.ids.give(start, len).expect("a freed id is in no batch: it left when it was put to use");
    }

    /// What is added from now on joins no batch from before, unless there are too many.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes out the batches that a checkpoint at `lsn` has passed.
    pub(crate) fn pass(&mut self, lsn: Lsn) -> Vec<Extents> {
        self.close();
        let (passed, left) = self.batches.drain(..).partition(|batch: &Batch| batch.newest <= lsn);
        self.batches = left;
        let passed: VecDeque<Batch> = passed;
        passed.into_iter().map(|batch| batch.ids).collect()
    }

    /// Forgets ids that were put to use.
    pub(crate) fn forget(&mut self, start: u64, len: u64) {
        for batch in &mut self.batches {
            batch.ids.take_within(start, len);
        }
        self.batches.retain(|batch| batch.ids.total() > 0);
    }

    /// One past the highest id of a run that was freed where no checkpoint at `lsn` has passed.
    pub(crate) fn end_behind(&self, lsn: Lsn, start: u64, len: u64) -> Option<u64> {
        let batches = self.batches.iter().filter(|batch| batch.newest > lsn);
        batches.filter_map(|batch| batch.ids.end_within(start..start + len)).max()
    }

    /// The parts of a run that are not young, lowest first.
    pub(crate) fn others(&self, start: u64, len: u64) -> Vec<(u64, u64)> {
        let range = start..start + len;
        let mut young: Vec<(u64, u64)> =
            self.batches.iter().flat_map(|batch| batch.ids.within(range.clone())).collect();
        young.sort_unstable();
        let (mut at, mut others) = (start, Vec::new());
        for (from, len) in young.into_iter().chain([(range.end, 0)]) {
            if at < from {
                others.push((at, from - at));
            }
            at = from + len;
        }
        others
    }
}

/// Freed extents that somebody may still be reading.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In the order of their marks.
    queue: VecDeque<HeldRun>,
    ids: Extents,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct HeldRun {
    /// Guards below this hold it.
    mark: u64,
    /// End of the group that freed it.
    pub(crate) lsn: Lsn,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Held {
    /// Holds a run until every guard below `mark` is gone. Marks do not fall.
    pub(crate) fn add(&mut self, mark: u64, lsn: Lsn, start: u64, len: u64) {
        debug_assert!(self.queue.back().is_none_or(|last| last.mark <= mark));
        self.queue.push_back(HeldRun { mark, lsn, start, len });
        self.ids.give(start, len).expect("a freed id is not held already");
    }

    /// Takes out a run that nobody holds any more.
    pub(crate) fn let_go(&mut self, readers: &Readers) -> Option<HeldRun> {
        let run = self.queue.pop_front_if(|run| readers.are_past(run.mark))?;
        self.ids.take(run.start, run.len).expect("what the queue holds is in the set");
        Some(run)
    }

    /// The ids.
    pub(crate) fn ids(&self) -> &Extents {
        &self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(passed: Vec<Extents>) -> Vec<(u64, u64)> {
        passed.iter().flat_map(|ids| ids.within(0..u64::MAX)).collect()
    }

    #[test]
    fn batch_passes_with_its_newest_free_and_not_before() {
        let mut young = Young::default();
        young.add(Lsn::new(10), 1, 2);
        young.add(Lsn::new(30), 5, 1);
        assert_eq!(runs(young.pass(Lsn::new(20))), [], "one of the batch is newer");
        young.add(Lsn::new(40), 9, 1);
        assert_eq!(runs(young.pass(Lsn::new(30))), [(1, 2), (5, 1)]);
        assert_eq!(runs(young.pass(Lsn::new(39))), []);
        assert_eq!(runs(young.pass(Lsn::new(40))), [(9, 1)]);
    }

    #[test]
    fn what_was_put_to_use_never_passes() {
        let mut young = Young::default();
        young.add(Lsn::new(10), 1, 10);
        young.forget(3, 4);
        assert_eq!(young.others(1, 12), [(3, 4), (11, 2)]);
        young.pass(Lsn::ZERO);
        young.add(Lsn::new(50), 4, 1); // freed again
        assert_eq!(runs(young.pass(Lsn::new(10))), [(1, 2), (7, 4)]);
        assert_eq!(young.others(1, 10), [(1, 3), (5, 6)]);
        assert_eq!(runs(young.pass(Lsn::new(50))), [(4, 1)]);
    }

    #[test]
    fn many_checkpoints_that_pass_nothing_keep_few_batches() {
        let mut young = Young::default();
        for n in 0..1000 {
            young.add(Lsn::new(100 + n), 2 * n, 1);
            young.pass(Lsn::new(50));
            assert!(young.batches.len() <= BATCHES);
        }
        assert_eq!(runs(young.pass(Lsn::new(2000))).len(), 1000);
    }
}
