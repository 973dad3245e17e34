//! Where to split a node, and by which key.
//!
//! Invariant: the half that the entry goes to has room for it (`limits.rs`), and `left < separator <= right` in a leaf; in an inner
//! node the separator moves up. The entry goes left exactly if its key is below the separator.

use std::ops::Range;

use pagestone_page_format::{OutOfBounds, PageSize};

use super::fit::{Sizes, common_prefix};
use super::header::NodeHeader;
use super::limits::max_key_len;
use super::view::NodeView;

/// How far from the middle a split may be for a shorter separator: this part of all bytes.
const WINDOW: usize = 8;

/// A split that was decided on.
#[derive(Clone)]
pub(crate) struct SplitPoint {
    /// Leaf: the first slot that moves right. Inner node: the slot whose separator moves up; the child right of it becomes
    /// the right half's leftmost child.
    pub(crate) slot: usize,
    /// Upper fence of the left half, lower fence of the right one, and what the parent gets.
    pub(crate) separator: Vec<u8>,
}

/// One half, with the new entry if it goes there.
#[derive(Clone, Copy, Default)]
struct Half {
    slots: usize,
    /// Keys, as they are stored now, and values.
    bytes: usize,
}

impl Half {
    fn add(&mut self, bytes: usize) {
        self.slots += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, bytes: usize) {
        self.slots -= 1;
        self.bytes -= bytes;
    }
}

#[derive(Clone, Copy)]
struct Candidate {
    slot: usize,
    left: Half,
    right: Half,
}

struct Splitter<'a> {
    node: NodeView<'a>,
    header: NodeHeader,
    page_size: PageSize,
    key: &'a [u8],
    /// Where the entry comes among those that are here, and whether it replaces one.
    at: usize,
    replaces: bool,
}

/// Where to split a node that has no room ([`NodeView::has_room_for`]) for an entry: for this very entry in a leaf, for any
/// separator of the child that covers `key` in an inner node.
///
/// Near the middle, where the separator is short; but where a run of inserts goes on, so that what it filled stays full.
pub(crate) fn choose_split(
    node: NodeView<'_>,
    key: &[u8],
    value_len: usize,
) -> Result<SplitPoint, OutOfBounds> {
    let header = node.header()?;
    let Ok(page_size) = PageSize::new(node.page().len()) else { return Err(OutOfBounds) };
    let search = node.search(key)?;
    let leaf = header.level == 0;
    let at = if leaf { search.slot } else { search.slot + usize::from(search.found) };
    let splitter = Splitter { node, header, page_size, key, at, replaces: leaf && search.found };
    let candidates = if leaf { splitter.of_leaf(value_len)? } else { splitter.of_inner()? };
    let chosen = splitter.choose(&candidates)?;
    Ok(SplitPoint { slot: chosen.slot, separator: splitter.separator(&chosen)? })
}

impl Splitter<'_> {
    /// Every boundary that leaves an entry on both sides, from left to right.
    fn of_leaf(&self, value_len: usize) -> Result<Vec<Candidate>, OutOfBounds> {
        let rest = self.key.len().saturating_sub(self.header.prefix_len);
        let mut sizes = self.sizes()?;
        // The page may have changed since the key was searched for.
        if self.at + usize::from(self.replaces) > sizes.len() {
            return Err(OutOfBounds);
        }
        if self.replaces {
            sizes[self.at] = rest + value_len;
        } else {
            sizes.insert(self.at, rest + value_len);
        }
        let mut left = Half::default();
        let mut right = Half { slots: sizes.len(), bytes: sizes.iter().sum() };
        let mut candidates = Vec::new();
        for (index, size) in sizes.iter().enumerate().take(sizes.len() - 1) {
            left.add(*size);
            right.take(*size);
            let slot = index + 1 - usize::from(!self.replaces && index >= self.at);
            candidates.push(Candidate { slot, left, right });
        }
        Ok(candidates)
    }

    /// Every separator, from left to right.
    fn of_inner(&self) -> Result<Vec<Candidate>, OutOfBounds> {
        let sizes = self.sizes()?;
        let new = max_key_len(self.page_size);
        let mut left = Half::default();
        let mut right = Half { slots: sizes.len(), bytes: sizes.iter().sum() };
        right.add(new);
        let mut candidates = Vec::new();
        for (slot, size) in sizes.iter().enumerate() {
            if slot == self.at {
                left.add(new);
                right.take(new);
            }
            right.take(*size);
            candidates.push(Candidate { slot, left, right });
            left.add(*size);
        }
        Ok(candidates)
    }

    fn sizes(&self) -> Result<Vec<usize>, OutOfBounds> {
        let cells = (0..self.node.count()?).map(|slot| self.node.cell(slot));
        cells.map(|cell| cell.map(|cell| cell.key_len + cell.value_len)).collect()
    }

    fn choose(&self, candidates: &[Candidate]) -> Result<Candidate, OutOfBounds> {
        let last = candidates.last().ok_or(OutOfBounds)?;
        let count = self.node.count()?;
        let at_end = self.at == count && !self.replaces;
        // N3: what does not begin as the keys of a tight node do, comes behind them and goes on without them.
        let leaf = self.header.level == 0;
        let unlike = if leaf { !self.node.shares_prefix(self.key)? } else { self.header.tight };
        if at_end && unlike {
            return Ok(*last);
        }
        match self.beside_a_run(candidates, count)? {
            Some(candidate) => Ok(candidate),
            None => self.near_the_middle(candidates),
        }
    }

    /// Where most of the node came in a run that this entry goes on with: what the run leaves behind stays full.
    fn beside_a_run(&self, candidates: &[Candidate], count: usize) -> Result<Option<Candidate>, OutOfBounds> {
        let NodeHeader { insert_run: run, .. } = self.header;
        if self.replaces || 2 * usize::from(run.unsigned_abs()) < count {
            return Ok(None);
        }
        let (before, behind) = candidates.split_at(self.at.min(candidates.len()));
        let next = self.header.behind_last_insert();
        if run > 0 && self.at == next {
            self.first_that_fits(before.iter().rev())
        } else if run < 0 && self.at + 1 == next {
            self.first_that_fits(behind.iter())
        } else {
            Ok(None)
        }
    }

    fn first_that_fits<'c>(
        &self,
        mut candidates: impl Iterator<Item = &'c Candidate>,
    ) -> Result<Option<Candidate>, OutOfBounds> {
        candidates
            .find_map(|candidate| match self.separator(candidate) {
                Ok(separator) => self.fits(candidate, separator.len()).then_some(Ok(*candidate)),
                Err(error) => Some(Err(error)),
            })
            .transpose()
    }

    /// The shortest separator within the window around the middle, and of those the one nearest to it.
    fn near_the_middle(&self, candidates: &[Candidate]) -> Result<Candidate, OutOfBounds> {
        let larger = |candidate: &Candidate| self.weight(candidate.left).max(self.weight(candidate.right));
        let middle = candidates.iter().min_by_key(|candidate| larger(candidate)).ok_or(OutOfBounds)?;
        let window = (self.weight(middle.left) + self.weight(middle.right)) / WINDOW;
        let mut best = (self.separator(middle)?.len(), larger(middle), middle);
        for candidate in self.around(candidates, larger(middle) + window) {
            let key = (self.separator(candidate)?.len(), larger(candidate));
            if key < (best.0, best.1) && self.fits(candidate, key.0) {
                best = (key.0, key.1, candidate);
            }
        }
        Ok(*best.2)
    }

    fn around<'c>(&self, candidates: &'c [Candidate], most: usize) -> &'c [Candidate] {
        let within = |half: Half| self.weight(half) <= most;
        let range = Range {
            start: candidates.partition_point(|candidate| !within(candidate.right)),
            end: candidates.partition_point(|candidate| within(candidate.left)),
        };
        candidates.get(range).unwrap_or_default()
    }

    fn weight(&self, half: Half) -> usize {
        let entry = if self.header.level == 0 { 12 } else { 20 };
        half.bytes + half.slots * entry
    }

    /// Whether both halves fit with the prefix that the node has now; theirs are no shorter.
    fn fits(&self, candidate: &Candidate, separator_len: usize) -> bool {
        let prefix = self.header.prefix_len;
        let half = |half: Half, lower_len, upper_len| {
            Sizes {
                page_len: self.page_size.get(),
                leaf: self.header.level == 0,
                slots: half.slots,
                whole_bytes: half.bytes + half.slots * prefix,
                lower_len,
                upper_len,
            }
            .fit(prefix, self.header.tight)
        };
        half(candidate.left, self.header.lower_len, separator_len)
            && half(candidate.right, separator_len, self.header.upper_len)
    }

    fn separator(&self, candidate: &Candidate) -> Result<Vec<u8>, OutOfBounds> {
        if self.header.level > 0 {
            return self.key_of(candidate.slot);
        }
        // The new key is the last one on the left, or the first one on the right, if it stands at the boundary.
        let (before, behind) = (candidate.slot.checked_sub(1), candidate.slot);
        let at_boundary = !self.replaces && self.at == candidate.slot;
        let goes_left = candidate.left.slots > candidate.slot;
        let left = match before {
            _ if at_boundary && goes_left => self.key.to_vec(),
            Some(slot) => self.key_of(slot)?,
            None => return Err(OutOfBounds),
        };
        let right = if at_boundary && !goes_left { self.key.to_vec() } else { self.key_of(behind)? };
        Ok(shortest_between(&left, right))
    }

    fn key_of(&self, slot: usize) -> Result<Vec<u8>, OutOfBounds> {
        let mut key = Vec::new();
        self.node.append_key(slot, &mut key)?;
        Ok(key)
    }
}

/// The shortest key above `left` that is not above `right`.
pub(super) fn shortest_between(left: &[u8], mut right: Vec<u8>) -> Vec<u8> {
    right.truncate(shortest_len(left, &right));
    right
}

/// So long a beginning of `right` is above `left`.
pub(super) fn shortest_len(left: &[u8], right: &[u8]) -> usize {
    (common_prefix(left, right) + 1).min(right.len())
}
