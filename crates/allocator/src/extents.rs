//! Sets of page ids as runs: by place, to take the lowest, and by size class, to find a run of some length.
//!
//! Invariant: no two extents overlap or touch, and each stands in the class of its length.
//!
//! ```text
//!   by place   4+1        9+3              40+64            start + length
//!   by class   [0]: 4     [1]: 9           [6]: 40          class c holds lengths from 2^c up to 2^(c+1)
//! ```
//!
//! Every verb costs a few searches in ordered maps, whatever the size of the file: segregated fits, as in Wilson et al.,
//! Dynamic Storage Allocation: A Survey and Critical Review, IWMM 1995.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Classes of lengths: page ids have 42 bits.
const CLASSES: usize = 43;

/// How many extents of a class that holds both longer and shorter ones are looked at for a run: a bound, so that a
/// fragmented file costs no more than another.
const LOOKS: usize = 64;

/// An id that stands in the set already, or does not stand in it, where the verb asked for the opposite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unexpected(pub(crate) u64);

/// A set of ids.
#[derive(Debug)]
pub(crate) struct Extents {
    by_place: BTreeMap<u64, u64>,
    by_class: [BTreeSet<u64>; CLASSES],
    total: u64,
}

impl Default for Extents {
    fn default() -> Self {
        Self::new()
    }
}

impl Extents {
    /// No ids.
    pub(crate) fn new() -> Self {
        Self { by_place: BTreeMap::new(), by_class: [const { BTreeSet::new() }; CLASSES], total: 0 }
    }

    /// How many ids it holds.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The first extent: its start and length.
    pub(crate) fn first(&self) -> Option<(u64, u64)> {
        self.by_place.first_key_value().map(|(start, len)| (*start, *len))
    }

    /// The extent that holds this id: its start and length.
    pub(crate) fn around(&self, id: u64) -> Option<(u64, u64)> {
        let (start, len) = self.by_place.range(..=id).next_back()?;
        (start + len > id).then_some((*start, *len))
    }

    /// The last extent: its start and length.
    pub(crate) fn last(&self) -> Option<(u64, u64)> {
        self.by_place.last_key_value().map(|(start, len)| (*start, *len))
    }

    /// The lowest id of `[start, start + len)` that it holds.
    pub(crate) fn overlap(&self, start: u64, len: u64) -> Option<u64> {
        let end = start + len;
        if let Some((&before, &before_len)) = self.by_place.range(..=start).next_back()
            && before + before_len > start
            && len > 0
        {
            return Some(start);
        }
        self.by_place.range(start..end).next().map(|(found, _)| *found)
    }

    /// Adds `[start, start + len)` and joins it with its neighbours. If one of these ids is in already, nothing changes.
    pub(crate) fn give(&mut self, start: u64, len: u64) -> Result<(), Unexpected> {
        if len == 0 {
            return Ok(());
        }
        if let Some(found) = self.overlap(start, len) {
            return Err(Unexpected(found));
        }
        let (mut first, mut end) = (start, start + len);
        if let Some((&before, &before_len)) = self.by_place.range(..start).next_back()
            && before + before_len == start
        {
            self.remove(before, before_len);
            first = before;
        }
        if let Some(&after_len) = self.by_place.get(&end) {
            self.remove(end, after_len);
            end += after_len;
        }
        self.insert(first, end - first);
        Ok(())
    }

    /// Takes exactly `[start, start + len)` out. If one of these ids is not in, nothing changes.
    pub(crate) fn take(&mut self, start: u64, len: u64) -> Result<(), Unexpected> {
        if len == 0 {
            return Ok(());
        }
        let Some((&first, &first_len)) = self.by_place.range(..=start).next_back() else {
            return Err(Unexpected(start));
        };
        let (end, first_end) = (start + len, first + first_len);
        if first_end < end {
            return Err(Unexpected(first_end.max(start)));
        }
        self.remove(first, first_len);
        if first < start {
            self.insert(first, start - first);
        }
        if end < first_end {
            self.insert(end, first_end - end);
        }
        Ok(())
    }

    /// Takes the lowest extent out, or its first `at_most` ids. Gives start and length.
    pub(crate) fn take_lowest(&mut self, at_most: u64) -> Option<(u64, u64)> {
        let (&start, &len) = self.by_place.first_key_value()?;
        let taken = len.min(at_most);
        self.take(start, taken).expect("the lowest extent is in the set");
        Some((start, taken))
    }

    /// Takes out whatever it holds of `[start, start + len)`.
    pub(crate) fn take_within(&mut self, start: u64, len: u64) {
        let found: Vec<(u64, u64)> = self.within(start..start + len).collect();
        for (start, len) in found {
            self.take(start, len).expect("what was found under this lock is in the set");
        }
    }

    /// Its extents by size class, the longest classes first.
    pub(crate) fn longest_first(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_class.iter().rev().flatten().map(|start| (*start, self.by_place[start]))
    }

    /// Where the lowest run of `len` ids starts.
    ///
    /// Exact as long as at most 64 extents stand in the class of `len`; past that, a lower one may be passed over, and one
    /// may be missed if no class above holds any.
    pub(crate) fn lowest_run(&self, len: u64) -> Option<u64> {
        if len == 0 || len >= 1 << (CLASSES - 1) {
            return None;
        }
        let mixed = len.ilog2() as usize;
        // Every extent of these classes is long enough.
        let sure = len.next_power_of_two().ilog2() as usize;
        let best = self.by_class[sure..].iter().filter_map(|class| class.first().copied()).min();
        let lower = self.by_class[mixed..sure].iter().flat_map(|class| class.iter().take(LOOKS).copied());
        lower
            .take_while(|start| best.is_none_or(|best| *start < best))
            .find(|start| self.by_place[start] >= len)
            .or(best)
    }

    /// The parts of its extents that lie in `range`, lowest first.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let before = self.by_place.range(..range.start).next_back();
        before.into_iter().chain(self.by_place.range(range.clone())).filter_map(move |(&start, &len)| {
            let (from, to) = (start.max(range.start), (start + len).min(range.end));
            (from < to).then(|| (from, to - from))
        })
    }

    /// One past the highest id that it holds in `range`.
    pub(crate) fn end_within(&self, range: Range<u64>) -> Option<u64> {
        let (start, len) = self.by_place.range(..range.end).next_back()?;
        Some((start + len).min(range.end)).filter(|end| *end > range.start)
    }

    fn insert(&mut self, start: u64, len: u64) {
        self.by_place.insert(start, len);
        self.by_class[len.ilog2() as usize].insert(start);
        self.total += len;
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_place.remove(&start);
        self.by_class[len.ilog2() as usize].remove(&start);
        self.total -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Verb {
        Give(u64, u64),
        Take(u64, u64),
        TakeLowest(u64),
        TakeRun(u64),
    }

    fn verbs() -> impl Strategy<Value = Vec<Verb>> {
        let verb = prop_oneof![
            3 => (0u64..200, 0u64..12).prop_map(|(start, len)| Verb::Give(start, len)),
            2 => (0u64..200, 0u64..6).prop_map(|(start, len)| Verb::Take(start, len)),
            1 => (1u64..5).prop_map(Verb::TakeLowest),
            1 => (1u64..12).prop_map(Verb::TakeRun),
        ];
        proptest::collection::vec(verb, 1..120)
    }

    fn lowest_run(model: &BTreeSet<u64>, len: u64) -> Option<u64> {
        model.iter().copied().find(|start| (*start..start + len).all(|id| model.contains(&id)))
    }

    fn check(extents: &Extents, model: &BTreeSet<u64>) {
        let mut ids = BTreeSet::new();
        let mut touched = None;
        for (&start, &len) in &extents.by_place {
            assert!(len > 0);
            assert!(touched.is_none_or(|end| end < start), "extents at {start} touch");
            touched = Some(start + len);
            ids.extend(start..start + len);
            assert!(extents.by_class[len.ilog2() as usize].contains(&start));
        }
        assert_eq!(extents.by_class.iter().map(BTreeSet::len).sum::<usize>(), extents.by_place.len());
        assert_eq!(&ids, model);
        assert_eq!(extents.total(), model.len() as u64);
        let within: Vec<u64> = extents.within(50..90).flat_map(|(start, len)| start..start + len).collect();
        assert_eq!(within, model.range(50..90).copied().collect::<Vec<_>>());
        assert_eq!(extents.last().map(|(start, len)| start + len - 1), model.last().copied());
    }

    proptest! {
        #[test]
        fn extents_are_a_set_of_ids(verbs in verbs()) {
            let mut extents = Extents::new();
            let mut model = BTreeSet::new();
            for verb in verbs {
                match verb {
                    Verb::Give(start, len) => {
                        let inside = (start..start + len).find(|id| model.contains(id));
                        prop_assert_eq!(extents.overlap(start, len), inside);
                        prop_assert_eq!(extents.give(start, len), inside.map_or(Ok(()), |id| Err(Unexpected(id))));
                        if inside.is_none() {
                            model.extend(start..start + len);
                        }
                    }
                    Verb::Take(start, len) => {
                        let outside = (start..start + len).find(|id| !model.contains(id));
                        prop_assert_eq!(extents.take(start, len), outside.map_or(Ok(()), |id| Err(Unexpected(id))));
                        if outside.is_none() {
                            model.retain(|id| !(start..start + len).contains(id));
                        }
                    }
                    Verb::TakeLowest(at_most) => {
                        let lowest = model.first().copied();
                        let taken = extents.take_lowest(at_most);
                        prop_assert_eq!(taken.map(|(start, _)| start), lowest);
                        if let Some((start, len)) = taken {
                            prop_assert!(len >= 1 && len <= at_most);
                            prop_assert!((start..start + len).all(|id| model.remove(&id)));
                        }
                    }
                    Verb::TakeRun(len) => {
                        let run = extents.lowest_run(len);
                        prop_assert_eq!(run, lowest_run(&model, len));
                        if let Some(start) = run {
                            extents.take(start, len).expect("a run that was found is in the set");
                            model.retain(|id| !(start..start + len).contains(id));
                        }
                    }
                }
                check(&extents, &model);
            }
        }
    }

    #[test]
    fn run_is_found_among_many_that_are_too_short() {
        let mut extents = Extents::new();
        for hole in 0..100_000 {
            extents.give(hole * 8, 2).expect("apart");
        }
        assert_eq!(extents.lowest_run(3), None);
        extents.give(1_000_000, 4).expect("apart");
        assert_eq!(extents.lowest_run(3), Some(1_000_000));
        assert_eq!(extents.lowest_run(4), Some(1_000_000));
        assert_eq!(extents.lowest_run(5), None);
        assert_eq!(extents.lowest_run(0), None);
        assert_eq!(extents.lowest_run(u64::MAX), None);
    }
}
