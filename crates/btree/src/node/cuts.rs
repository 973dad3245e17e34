//! Where to divide a leaf that is to take many entries at once.
//!
//! Invariant: a leaf is cut only where both halves of what it has now fit their pages, and every piece that is left fits with all
//! that is to come, each entry counted at the larger of its two sizes; so it fits at every moment in between, too.
//!
//! ```text
//!   here, to come      a  c  e  g  i  k     B  C' D                 C' replaces c
//!   union              a  B  C  D  e  g  i  k
//!   cuts                        |        |                          each the shortest key between its neighbours
//! ```
//!
//! There always is such a cut: the middle of what is here leaves each half half of it (`limits.rs`). A union of one entry fits any
//! page. Entries that all come behind the rightmost leaf's are a load in key order: the left piece is filled; else pieces are of
//! about one size, and within a window around it the shortest separator wins.

use std::ops::Range;

use pagestone_page_format::{OutOfBounds, PageSize};

use super::fit::{Sizes, common_prefix};
use super::header::BASE;
use super::limits::max_key_len;
use super::split::{SplitPoint, shortest_between};
use super::view::{Covers, NodeView};

/// How far from an even division a cut may be for a shorter separator: this part of a piece.
const WINDOW: usize = 8;
/// Bytes that a cell takes beside its key and its value.
const PER_CELL: usize = 12;

/// Something that a leaf has, or is to have.
struct Entry {
    key: Vec<u8>,
    here: bool,
}

/// What the entries before an index come to.
#[derive(Clone, Copy, Default)]
struct Sum {
    /// Those that are in the leaf now: how many, bytes of keys and values, one past the index of the last one.
    here: usize,
    here_bytes: usize,
    last_here: usize,
    /// Of all, each at its larger size.
    bytes: usize,
}

/// Of which entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Here,
    Union,
}

/// Entries between two fences.
#[derive(Clone)]
struct Piece {
    entries: Range<usize>,
    lower: Vec<u8>,
    /// None: infinite.
    upper: Option<Vec<u8>>,
}

struct Cutter {
    page_len: usize,
    entries: Vec<Entry>,
    sums: Vec<Sum>,
}

impl NodeView<'_> {
    /// The separators at which to divide this leaf, in this order, so that it has room for all these entries: keys, increasing, and
    /// lengths of values.
    pub(crate) fn cuts<'k>(
        &self,
        puts: impl Iterator<Item = (&'k [u8], usize)>,
    ) -> Result<Vec<Vec<u8>>, OutOfBounds> {
        let mut lower = Vec::new();
        let mut upper = Vec::new();
        self.lower_fence(&mut lower)?;
        let finite = self.upper_fence(&mut upper)?;
        let cutter = Cutter::new(*self, puts)?;
        if !cutter.is_sound(&lower, finite.then_some(&upper)) {
            return Err(OutOfBounds);
        }
        let entries = 0..cutter.entries.len();
        let mut separators = Vec::new();
        let mut pieces = vec![Piece { entries, lower, upper: finite.then_some(upper) }];
        while let Some(piece) = pieces.pop() {
            if piece.entries.len() < 2 || cutter.holds(Of::Union, &piece) {
                continue;
            }
            let (left, right) = cutter.divide(&piece).ok_or(OutOfBounds)?;
            separators.push(right.lower.clone());
            pieces.extend([right, left]);
        }
        Ok(separators)
    }

    /// How to split this leaf there, though a half may be empty. Nothing if it is split there already, or covers another range, or
    /// a half would not fit its page.
    pub(crate) fn cut_at(&self, separator: &[u8]) -> Result<Option<SplitPoint>, OutOfBounds> {
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        self.lower_fence(&mut lower)?;
        let finite = self.upper_fence(&mut upper)?;
        if self.covers(separator)? != Covers::Inside || lower == separator {
            return Ok(None);
        }
        let slot = self.lower_bound(separator)?;
        let upper = finite.then_some(&upper[..]);
        let fit = self.half_fits(0..slot, &lower, Some(separator))?
            && self.half_fits(slot..self.count()?, separator, upper)?;
        Ok(fit.then(|| SplitPoint { slot, separator: separator.to_vec() }))
    }

    fn half_fits(
        &self,
        slots: Range<usize>,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> Result<bool, OutOfBounds> {
        let prefix_len = self.header()?.prefix_len;
        let mut bytes = 0;
        for slot in slots.clone() {
            let cell = self.cell(slot)?;
            bytes += prefix_len + cell.key_len + cell.value_len;
        }
        let mut last = Vec::new();
        if !slots.is_empty() {
            self.append_key(slots.end - 1, &mut last)?;
        }
        let last = (!slots.is_empty()).then_some(&last[..]);
        Ok(leaf_fits(self.page().len(), (lower, upper), slots.len(), bytes, last))
    }
}

/// Whether a leaf of `slots` cells can be written: with the prefix that its fences share, or with the one that all its keys
/// share, as `Content` does.
fn leaf_fits(
    page_len: usize,
    (lower, upper): (&[u8], Option<&[u8]>),
    slots: usize,
    whole_bytes: usize,
    last: Option<&[u8]>,
) -> bool {
    let upper_len = upper.map_or(0, <[u8]>::len);
    let sizes = Sizes { page_len, leaf: true, slots, whole_bytes, lower_len: lower.len(), upper_len };
    let fences = upper.map_or(0, |upper| common_prefix(lower, upper));
    // Keys are sorted: what the lower fence and the last key share, all share.
    let all = last.map_or(0, |last| common_prefix(lower, last));
    sizes.fit(fences, false) || (all > fences && sizes.fit(all, true))
}

impl Cutter {
    /// Merges what is here with what is to come.
    fn new<'k>(
        leaf: NodeView<'_>,
        puts: impl Iterator<Item = (&'k [u8], usize)>,
    ) -> Result<Self, OutOfBounds> {
        let mut cutter =
            Self { page_len: leaf.page().len(), entries: Vec::new(), sums: vec![Sum::default()] };
        let mut puts = puts.peekable();
        for slot in 0..leaf.count()? {
            let mut key = Vec::new();
            leaf.append_key(slot, &mut key)?;
            while let Some((new, value_len)) = puts.next_if(|(new, _)| *new < &key[..]) {
                cutter.push(new.to_vec(), None, value_len);
            }
            let here = leaf.cell(slot)?.value_len;
            let replaced = puts.next_if(|(new, _)| *new == &key[..]).map_or(0, |(_, value_len)| value_len);
            cutter.push(key, Some(here), replaced);
        }
        for (new, value_len) in puts {
            cutter.push(new.to_vec(), None, value_len);
        }
        Ok(cutter)
    }

    /// Whether the keys are what a leaf can have (E4): sorted, within the fences, none so long that no page takes it as a separator.
    fn is_sound(&self, lower: &[u8], upper: Option<&Vec<u8>>) -> bool {
        let max = PageSize::new(self.page_len).map_or(0, max_key_len);
        let (first, last) = (self.entries.first(), self.entries.last());
        self.entries.iter().all(|entry| entry.key.len() <= max)
            && self.entries.windows(2).all(|pair| pair[0].key < pair[1].key)
            && first.is_none_or(|first| lower <= &first.key[..])
            && last.is_none_or(|last| upper.is_none_or(|upper| last.key < *upper))
    }

    fn push(&mut self, key: Vec<u8>, here: Option<usize>, to_come: usize) {
        let mut sum = self.sums[self.entries.len()];
        if let Some(value_len) = here {
            sum.here += 1;
            sum.here_bytes += key.len() + value_len;
            sum.last_here = self.entries.len() + 1;
        }
        sum.bytes += key.len() + here.unwrap_or(0).max(to_come);
        self.sums.push(sum);
        self.entries.push(Entry { key, here: here.is_some() });
    }

    fn holds(&self, of: Of, piece: &Piece) -> bool {
        let Range { start, end } = piece.entries;
        let (before, behind) = (self.sums[start], self.sums[end]);
        let (slots, bytes, last) = match of {
            Of::Here => (behind.here - before.here, behind.here_bytes - before.here_bytes, behind.last_here),
            Of::Union => (end - start, behind.bytes - before.bytes, end),
        };
        let last = (slots > 0).then(|| &self.entries[last - 1].key[..]);
        leaf_fits(self.page_len, (&piece.lower, piece.upper.as_deref()), slots, bytes, last)
    }

    /// Both sides of a cut before the entry `at`, if what is here now fits them.
    fn cut(&self, piece: &Piece, at: usize) -> Option<(Piece, Piece)> {
        let separator = shortest_between(&self.entries[at - 1].key, self.entries[at].key.clone());
        let Range { start, end } = piece.entries;
        let (lower, upper) = (piece.lower.clone(), piece.upper.clone());
        let left = Piece { entries: start..at, lower, upper: Some(separator.clone()) };
        let right = Piece { entries: at..end, lower: separator, upper };
        (self.holds(Of::Here, &left) && self.holds(Of::Here, &right)).then_some((left, right))
    }

    fn divide(&self, piece: &Piece) -> Option<(Piece, Piece)> {
        self.fill_the_left(piece).or_else(|| self.evenly(piece))
    }

    /// The largest left piece that fits, where all that is to come goes on behind all that is here, at the right end of the tree.
    fn fill_the_left(&self, piece: &Piece) -> Option<(Piece, Piece)> {
        let Range { start, end } = piece.entries;
        let here = self.sums[end].here - self.sums[start].here;
        let loads = piece.upper.is_none() && self.entries[start..start + here].iter().all(|entry| entry.here);
        if !loads {
            return None;
        }
        let most = self.page_len - BASE;
        (start + 1..end)
            .take_while(|at| self.weight(start..*at, start..end) <= most)
            .filter_map(|at| self.cut(piece, at))
            .take_while(|(left, _)| self.holds(Of::Union, left))
            .last()
    }

    fn evenly(&self, piece: &Piece) -> Option<(Piece, Piece)> {
        let all = piece.entries.clone();
        let total = self.weight(all.clone(), all.clone());
        let fences = piece.lower.len() + piece.upper.as_ref().map_or(0, Vec::len);
        let room = self.page_len.saturating_sub(BASE + fences).max(1);
        let pieces = total.div_ceil(room).max(2);
        let target = total * (pieces / 2) / pieces;
        let window = total / pieces / WINDOW;
        let mut order: Vec<(bool, usize, usize, usize)> = (all.start + 1..all.end)
            .map(|at| {
                let off = self.weight(all.start..at, all.clone()).abs_diff(target);
                let separator = common_prefix(&self.entries[at - 1].key, &self.entries[at].key);
                let far = off > window;
                (far, if far { off } else { separator }, off, at)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().find_map(|(.., at)| self.cut(piece, at))
    }

    /// Bytes that some entries take in a page, at their larger sizes, without the prefix that all of the piece share.
    fn weight(&self, entries: Range<usize>, of: Range<usize>) -> usize {
        let prefix = common_prefix(&self.entries[of.start].key, &self.entries[of.end - 1].key);
        let whole = self.sums[entries.end].bytes - self.sums[entries.start].bytes;
        (whole + entries.len() * PER_CELL).saturating_sub(entries.len() * prefix)
    }
}
