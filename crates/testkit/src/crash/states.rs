//! The images of all cuts, one by one.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::cover::{Choice, choices};
use super::cut::Cut;
use super::image::CrashImage;
use crate::rng::mix;
use crate::sim::{Model, Operation, SimOptions};

/// Says something of a file by its path.
pub type PathPredicate = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Which crashes to look at. The defaults are those of the quick lane.
#[derive(Clone)]
pub struct CrashOptions {
    /// From which the random subsets follow.
    pub seed: u64,
    /// The cuts to take: `n` is the cut after the first `n` operations of the journal.
    pub cuts: Range<usize>,
    /// Takes every so many-th cut only, beginning with this one: `(0, 1)` is all of them, `(0, 2)` and `(1, 2)` are two
    /// halves for two threads.
    pub shard: (usize, usize),
    /// All subsets are looked at where there are at most so many: of the sectors, lengths and names if that fits, else of
    /// the operations.
    pub exhaustive_max: usize,
    /// Random subsets at every cut that is not looked at exhaustively.
    pub random: usize,
    /// At most so many pairs at every cut.
    pub pairs_max: usize,
    /// So many of the last writes are torn.
    pub torn_writes: usize,
    /// A write is torn at so many places at most.
    pub splits_max: usize,
    /// So many lengths between the durable and the live one are looked at; 0 is none.
    pub lengths_max: usize,
    /// Whether a sector that was being written may hold garbage (C6).
    pub garbage: bool,
    /// Files that are not torn within 4 KiB, by their path; see [`CrashOptions::page_atomic`].
    pub page_atomic: Option<PathPredicate>,
}

impl Default for CrashOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            cuts: 0..usize::MAX,
            shard: (0, 1),
            exhaustive_max: 4096,
            random: 16,
            pairs_max: 256,
            torn_writes: 2,
            splits_max: 32,
            lengths_max: 8,
            garbage: false,
            page_atomic: None,
        }
    }
}

impl CrashOptions {
    /// Files whose path, when they were made, satisfies this are not torn within 4 KiB (C5): for pages without a
    /// double-write. By default every file is torn anywhere between two sectors (C4).
    #[must_use]
    pub fn page_atomic(mut self, predicate: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.page_atomic = Some(Arc::new(predicate));
        self
    }
}

impl fmt::Debug for CrashOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashOptions")
            .field("seed", &self.seed)
            .field("cuts", &self.cuts)
            .field("shard", &self.shard)
            .field("exhaustive_max", &self.exhaustive_max)
            .field("random", &self.random)
            .field("pairs_max", &self.pairs_max)
            .field("torn_writes", &self.torn_writes)
            .field("splits_max", &self.splits_max)
            .field("lengths_max", &self.lengths_max)
            .field("garbage", &self.garbage)
            .field("page_atomic", &self.page_atomic.is_some())
            .finish()
    }
}

/// What an enumeration did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CrashStats {
    /// Cuts taken.
    pub cuts: u64,
    /// Of these, cuts at which every subset of the pending sectors, lengths and names was looked at.
    pub exhaustive: u64,
    /// Images given.
    pub images: u64,
    /// Images built and not given, because the same state had been given with as much acknowledged.
    pub duplicates: u64,
}

/// What all images of an enumeration share.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) options: SimOptions,
    pub(super) next_node: u32,
    pub(super) notes: Vec<u64>,
    pub(super) operations: usize,
}

/// An iterator over the states that power cuts can leave, made by [`crate::SimDisk::crash_states`].
///
/// A state comes again only where more has been acknowledged. A cut directly before a note is not taken: the same states
/// come after the note, where more has been acknowledged.
pub struct CrashStates {
    options: CrashOptions,
    origin: Arc<Origin>,
    journal: Vec<Operation>,
    /// Operations replayed into the model.
    replayed: usize,
    notes: usize,
    model: Model,
    /// What happened since the last cut that was taken, here or by another shard.
    since: Since,
    /// Cuts taken by all shards.
    taken: usize,
    cut: Option<Arc<Cut>>,
    todo: std::vec::IntoIter<Choice>,
    seen: HashSet<u64>,
    stats: CrashStats,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Since {
    /// Nothing: the states are the same.
    Nothing,
    /// One change became pending: only states with it are new.
    OneChange,
    /// Something was made durable, or acknowledged, or no cut was taken yet: all states count.
    Much,
}

impl CrashStates {
    pub(crate) fn new(
        options: CrashOptions,
        base: Model,
        journal: Vec<Operation>,
        sim: SimOptions,
        next_node: u32,
    ) -> Self {
        assert!(options.shard.0 < options.shard.1, "a shard is one of so many");
        let note = |operation: &Operation| match operation {
            Operation::Note(value) => Some(*value),
            _ => None,
        };
        let notes = journal.iter().filter_map(note).collect();
        let origin = Arc::new(Origin { options: sim, next_node, notes, operations: journal.len() });
        Self {
            options,
            origin,
            journal,
            replayed: 0,
            notes: 0,
            model: base,
            since: Since::Much,
            taken: 0,
            cut: None,
            todo: Vec::new().into_iter(),
            seen: HashSet::new(),
            stats: CrashStats::default(),
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> CrashStats {
        self.stats
    }

    /// Goes to the next cut that is to be taken. `false` at the end.
    fn next_cut(&mut self) -> bool {
        if self.cut.is_some() && !self.replay_one() {
            return false;
        }
        loop {
            if self.replayed >= self.options.cuts.end {
                return false;
            }
            let before_a_note = matches!(self.journal.get(self.replayed), Some(Operation::Note(_)));
            let wanted = self.options.cuts.contains(&self.replayed) && !before_a_note;
            if wanted && self.since != Since::Nothing {
                let ours = self.taken % self.options.shard.1 == self.options.shard.0;
                self.taken += 1;
                if ours {
                    self.take_cut();
                    return true;
                }
                self.since = Since::Nothing;
            }
            if !self.replay_one() {
                return false;
            }
        }
    }

    fn take_cut(&mut self) {
        let page_atomic = self.options.page_atomic.clone();
        let predicate = |path: &Path| page_atomic.as_ref().is_some_and(|predicate| predicate(path));
        let cut = Arc::new(Cut::new(self.replayed, self.notes, &self.model, &predicate));
        let newest = (self.since == Since::OneChange).then(|| cut.of_change.len() - 1);
        let (choices, exhaustive) = choices(&cut, &self.options, newest);
        self.since = Since::Nothing;
        self.stats.cuts += 1;
        self.stats.exhaustive += u64::from(exhaustive);
        self.todo = choices.into_iter();
        self.cut = Some(cut);
    }

    fn replay_one(&mut self) -> bool {
        let Some(operation) = self.journal.get(self.replayed) else { return false };
        let pending = self.model.pending.len();
        let changed = self.model.step(self.replayed, operation);
        let note = matches!(operation, Operation::Note(_));
        self.replayed += 1;
        self.notes += usize::from(note);
        let one_change = changed && self.model.pending.len() == pending + 1;
        self.since = match self.since {
            Since::Nothing if one_change => Since::OneChange,
            since if !changed && !note => since,
            _ => Since::Much,
        };
        true
    }
}

impl Iterator for CrashStates {
    type Item = CrashImage;

    fn next(&mut self) -> Option<CrashImage> {
        loop {
            for choice in self.todo.by_ref() {
                let cut = self.cut.as_ref().expect("choices are of a cut");
                let medium = cut.medium(&choice.atoms, choice.tweak);
                let key = cut.hash(&medium) ^ mix(cut.notes as u64 + 1);
                if self.seen.insert(key) {
                    self.stats.images += 1;
                    let (origin, cut) = (Arc::clone(&self.origin), Arc::clone(cut));
                    return Some(CrashImage { origin, cut, choice, medium });
                }
                self.stats.duplicates += 1;
            }
            if !self.next_cut() {
                return None;
            }
        }
    }
}

impl fmt::Debug for CrashStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashStates({} of {} operations, {:?})", self.replayed, self.journal.len(), self.stats)
    }
}
