//! Iterators over a range of keys, from both ends.

use std::ops::{Bound, RangeBounds};

use crate::{BTree, Cursor, TreeResult};

/// Entries of a tree within bounds, in key order; double-ended. Owns what it gives. After an error it keeps failing (E11).
#[derive(Debug)]
pub struct Range {
    front: Cursor,
    back: Cursor,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    front_started: bool,
    back_started: bool,
    done: bool,
}

/// An entry that an iterator gives.
type Entry = (Vec<u8>, Vec<u8>);

impl BTree {
    /// Entries whose keys lie within `bounds`.
    pub fn range<K: AsRef<[u8]>>(&self, bounds: impl RangeBounds<K>) -> Range {
        let own = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        Range {
            front: self.cursor(),
            back: self.cursor(),
            lower: own(bounds.start_bound()),
            upper: own(bounds.end_bound()),
            front_started: false,
            back_started: false,
            done: false,
        }
    }

    /// Entries whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Range {
        let upper = match successor_of_prefix(prefix) {
            Some(upper) => Bound::Excluded(upper),
            None => Bound::Unbounded,
        };
        self.range((Bound::Included(prefix.to_vec()), upper))
    }
}

/// The least key above every key that begins with `prefix`; none if that is all of them.
fn successor_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut successor = prefix[..=keep].to_vec();
    successor[keep] += 1;
    Some(successor)
}

impl Range {
    fn step(&mut self, forward: bool) -> TreeResult<Option<Entry>> {
        let entry = if forward { self.step_front()? } else { self.step_back()? };
        Ok(entry.filter(|(key, _)| self.within(key)).inspect(|(key, _)| {
            // What one end has given, the other end stops at.
            if forward {
                self.lower = Bound::Excluded(key.clone());
            } else {
                self.upper = Bound::Excluded(key.clone());
            }
        }))
    }

    fn step_front(&mut self) -> TreeResult<Option<Entry>> {
        if !std::mem::replace(&mut self.front_started, true) {
            match &self.lower {
                Bound::Included(key) | Bound::Excluded(key) => self.front.seek(key)?,
                Bound::Unbounded => self.front.seek_first()?,
            }
        }
        while let Some((key, value)) = self.front.next()? {
            if matches!(&self.lower, Bound::Excluded(lower) if key <= lower.as_slice()) {
                continue;
            }
            return Ok(Some((key.to_vec(), value.to_vec())));
        }
        Ok(None)
    }

    fn step_back(&mut self) -> TreeResult<Option<Entry>> {
        if !std::mem::replace(&mut self.back_started, true) {
            match &self.upper {
                // One past the bound, for the key itself to be stepped over or given.
                Bound::Included(key) => self.back.seek(&[key.as_slice(), &[0]].concat())?,
                Bound::Excluded(key) => self.back.seek(key)?,
                Bound::Unbounded => self.back.seek_last()?,
            }
        }
        Ok(self.back.prev()?.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn within(&self, key: &[u8]) -> bool {
        let above = match &self.lower {
            Bound::Included(lower) => key >= lower.as_slice(),
            Bound::Excluded(lower) => key > lower.as_slice(),
            Bound::Unbounded => true,
        };
        let below = match &self.upper {
            Bound::Included(upper) => key <= upper.as_slice(),
            Bound::Excluded(upper) => key < upper.as_slice(),
            Bound::Unbounded => true,
        };
        above && below
    }

    fn give(&mut self, forward: bool) -> Option<TreeResult<Entry>> {
        if self.done {
            return None;
        }
        let step = self.step(forward);
        self.done = matches!(step, Ok(None));
        step.transpose()
    }
}

impl Iterator for Range {
    type Item = TreeResult<Entry>;
    fn next(&mut self) -> Option<Self::Item> {
        self.give(true)
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.give(false)
    }
}
