//! Where a key stands, or would stand.
//!
//! Invariant: the number of heads and keys that are read is bounded by the logarithm of the count, whatever the bytes are. The
//! first search is over integers and without branches; one key is touched, if its head is equal. Where several are, `alike.rs` tells which.

use std::cmp::Ordering as Compare;
use std::hint::select_unpredictable;

use pagestone_sync::atomic::{AtomicU64, Ordering};

use super::alike::{likely_among, lower_bound_among};
use super::arrays::hint_step;
use super::layout::{HINT_WORDS, Shape};
use super::{Cell, LoadedSlots, SlottedPage};
use crate::racing::from_le_prefix;
use crate::{OutOfBounds, SpeculativePage};

/// The answer of [`SlottedPage::lower_bound`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// The first slot whose key is not below the key searched for; the number of cells if there is none.
    pub slot: usize,
    /// Whether that slot's key is the key searched for.
    pub found: bool,
}

/// The first four bytes of a key, in key order as an integer.
#[inline]
pub(super) fn head_of(key: &[u8]) -> u32 {
    match key.first_chunk::<4>() {
        Some(head) => u32::from_be_bytes(*head),
        None => (from_le_prefix(key) as u32).swap_bytes(),
    }
}

/// The words of the heads, two heads in each; an odd last one has a half that is no head.
#[derive(Clone, Copy)]
struct Heads<'a> {
    words: &'a [AtomicU64],
    count: usize,
    hints: Option<&'a [AtomicU64; HINT_WORDS]>,
}

/// So few words are searched without their hints.
pub(super) const FEW: usize = 8;
/// Words that are compared one by one: without a branch and all at once, once the halving has left so few.
const COUNTED: usize = 4;

impl<'a> Heads<'a> {
    #[inline(always)]
    fn of(page: SpeculativePage<'a>, shape: &Shape) -> Result<Self, OutOfBounds> {
        let first = shape.heads_word();
        let words = page.words(first..first + shape.count.div_ceil(2))?;
        let hints = match shape.hints == 1 && words.len() > FEW {
            true => page.words(first - HINT_WORDS..first)?.first_chunk(),
            false => None,
        };
        Ok(Self { words, count: shape.count, hints })
    }

    /// The first slot whose head is not below `head`.
    #[inline(always)]
    fn lower_bound(self, head: u32) -> usize {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        // How many words have both halves below, but for a few: first by the hints.
        let (mut start, mut left) = match self.hints {
            None => (0, self.words.len()),
            Some(hints) => part_by_hints(hints, self.words.len(), head),
        };
        // What is selected is one number, and the way out of the loop is never taken: else the compiler would make a branch of the
        // comparison, which half of all searches mispredict.
        while left > COUNTED {
            let half = left / 2;
            let Some(word) = self.words.get(start + half - 1) else { break };
            let below = ((load(word) >> 32) as u32) < head;
            start = select_unpredictable(below, start + half, start);
            left -= half;
        }
        // Then the halves of as many words as can be counted without a loop: what lies before `start` is below. The half of an odd
        // last word that is no head is counted only where all heads are below.
        let below = |word: u64| {
            let (even, odd) = ((word as u32) < head, ((word >> 32) as u32) < head);
            usize::from(even) + usize::from(even & odd)
        };
        let from = start.min(self.words.len().saturating_sub(COUNTED));
        let count = match self.words[from..].first_chunk::<COUNTED>() {
            Some(few) => 2 * from + few.iter().map(|word| below(load(word))).sum::<usize>(),
            None => self.words.iter().map(|word| below(load(word))).sum(),
        };
        count.min(self.count)
    }
}

/// Of so many words of heads the first, and the number, of those among which the search ends. Not in line: pages of 4 KiB have no hints,
/// and nothing of this shall stand in their way.
#[inline(never)]
fn part_by_hints(hints: &[AtomicU64; HINT_WORDS], words: usize, head: u32) -> (usize, usize) {
    let hints = hints.each_ref().map(|word| word.load(Ordering::Relaxed));
    // The first hints of the words, then the one in between.
    let even = 2 * hints.iter().map(|word| usize::from((*word as u32) < head)).sum::<usize>();
    let odd = even.saturating_sub(1);
    let part = odd + usize::from(odd < even && ((hints[odd / 2] >> 32) as u32) < head);
    let step = hint_step(words);
    let start = (part * step).min(words);
    (start, step.min(words - start))
}

/// The first slot whose head is not below this one.
#[inline(always)]
pub(super) fn first_with_head(
    page: SpeculativePage<'_>,
    shape: &Shape,
    head: u32,
) -> Result<usize, OutOfBounds> {
    Ok(Heads::of(page, shape)?.lower_bound(head))
}

impl SlottedPage<'_> {
    /// Finds the first slot whose key is not below `key`.
    #[inline]
    pub fn lower_bound(&self, key: &[u8]) -> Result<Search, OutOfBounds> {
        self.load()?.lower_bound(key)
    }
}

impl LoadedSlots<'_> {
    /// Finds the first slot whose key is not below `key`.
    #[inline(always)]
    pub fn lower_bound(self, key: &[u8]) -> Result<Search, OutOfBounds> {
        let (shape, head) = (self.shape(), head_of(key));
        let (slot, count) = (first_with_head(self.page, &shape, head)?, shape.count);
        if slot >= count || shape.head(self.page, slot)? != head {
            return Ok(Search { slot, found: false });
        }
        if slot + 1 < count && shape.head(self.page, slot + 1)? == head {
            return lower_bound_among(self.page, self.base, slot, key);
        }
        Ok(match self.compare_slot(slot, key)? {
            Compare::Equal => Search { slot, found: true },
            Compare::Greater => Search { slot, found: false },
            Compare::Less => Search { slot: slot + 1, found: false },
        })
    }

    /// The slot of `key`, if it is here, as far as heads and what keys have in common tell; the number of cells, or the slot of another key,
    /// if it is not. No key was touched yet, but where very many are alike: [`LoadedSlots::find_from`] goes on from there.
    #[inline(always)]
    pub fn expect(self, key: &[u8]) -> Result<usize, OutOfBounds> {
        let (shape, head) = (self.shape(), head_of(key));
        let slot = first_with_head(self.page, &shape, head)?;
        if slot + 1 >= shape.count || shape.head(self.page, slot + 1)? != head {
            return Ok(slot);
        }
        likely_among(self.page, self.base, slot, key)
    }

    /// The cell of a key, if it is here, from the slot that [`LoadedSlots::expect`] gave for it.
    #[inline(always)]
    pub fn find_from(self, slot: usize, key: &[u8]) -> Result<Option<Cell>, OutOfBounds> {
        let (shape, head) = (self.shape(), head_of(key));
        if slot >= shape.count || shape.head(self.page, slot)? != head {
            return Ok(None);
        }
        // Of a whole page no other slot can have it; of one that is being changed nothing is believed.
        let cell = self.cell(slot)?;
        let is_here = self.page.compare(cell.offset, cell.key_len, key)? == Compare::Equal;
        Ok(is_here.then_some(cell))
    }

    #[inline(always)]
    fn compare_slot(self, slot: usize, key: &[u8]) -> Result<Compare, OutOfBounds> {
        let cell = self.cell(slot)?;
        self.page.compare(cell.offset, cell.key_len, key)
    }
}

#[cfg(test)]
mod tests {
    use super::head_of;

    #[test]
    fn heads_order_as_keys_do() {
        let keys: [&[u8]; 9] =
            [b"", b"\0", b"\0\0\0\0\0", b"a", b"a\0", b"ab", b"abcd", b"abcde", b"\xff\xff\xff\xff\xff"];
        for pair in keys.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(head_of(pair[0]) <= head_of(pair[1]), "{pair:?}");
        }
        assert!(head_of(b"ab") < head_of(b"b"));
    }
}
