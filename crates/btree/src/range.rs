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

/// What one end has given, the other end stops at.
fn stop_at(bound: &mut Bound<Vec<u8>>, given: &[u8]) {
    match bound {
        Bound::Excluded(key) => {
            key.clear();
            key.extend_from_slice(given);
        }
        _ => *bound = Bound::Excluded(given.to_vec()),
    }
}

fn is_above(lower: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match lower {
        Bound::Included(lower) => key >= lower.as_slice(),
        Bound::Excluded(lower) => key > lower.as_slice(),
        Bound::Unbounded => true,
    }
}

fn is_below(upper: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match upper {
        Bound::Included(upper) => key <= upper.as_slice(),
        Bound::Excluded(upper) => key < upper.as_slice(),
        Bound::Unbounded => true,
    }
}

impl Range {
    fn step(&mut self, forward: bool) -> TreeResult<Option<Entry>> {
        if forward { self.step_front() } else { self.step_back() }
    }

    fn step_front(&mut self) -> TreeResult<Option<Entry>> {
        if !std::mem::replace(&mut self.front_started, true) {
            match &self.lower {
                Bound::Included(key) | Bound::Excluded(key) => self.front.seek(key)?,
                Bound::Unbounded => self.front.seek_first()?,
            }
        }
        while let Some((key, value)) = self.front.next()? {
            // The bound itself, where the position is before it.
            if !is_above(&self.lower, key) {
                continue;
            }
            if !is_below(&self.upper, key) {
                break;
            }
            stop_at(&mut self.lower, key);
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
        let Some((key, value)) = self.back.prev()? else { return Ok(None) };
        if !is_above(&self.lower, key) || !is_below(&self.upper, key) {
            return Ok(None);
        }
        stop_at(&mut self.upper, key);
        Ok(Some((key.to_vec(), value.to_vec())))
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
