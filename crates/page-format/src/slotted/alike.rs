//! Where a key stands among slots with one head, which is its own.
//!
//! Invariant: a slot's word says how much its key has in common with the key before it ([`Slot::shared`]): 0 if their heads differ, else 1
//! and the number of bits behind the head. Keys count as if zeros without end followed them; [`SHARED_MANY`] stands for as many or more,
//! and where that does not tell two keys apart.
//!
//! ```text
//!   head │ behind it     shared     wanted: usr/lib/perl
//!   usr/ │ lib/gcc       0
//!   usr/ │ lib/go        45         its bit 44 behind the head is 0: skip whatever shares more
//!   usr/ │ lib/ldd       37         its bit 36 is 0
//!   usr/ │ lib/perl      36         its bit 35 is 1: this one
//!   usr/ │ lib/python    44         its bit 43 is 0
//!   usr/ │ share/doc     4          its bit 3 is 0
//!   var/ │ log           0          another head: the end
//! ```
//!
//! What neighbours share makes up the trie of the keys, from left to right; what is wanted goes down in it without a look at any key, by the
//! one bit in which the keys on the two sides of each branch differ. So it comes to its slot, if it is here. If it is not, the key that it
//! comes to has as much in common with it as any: where the two differ, the shared bits tell where it would stand. So one cell is
//! touched, however many keys are alike; else a search waits for the cells of several, one after the other. After Ferguson, *Bit-Tree: a data
//! structure for fast file processing*, CACM 1992, and Ferragina and Grossi, *The String B-Tree*, JACM 1999.
//!
//! A look at every slot's word takes longer than a look at some cells once very many are alike: these are halved by their keys before.

use std::cmp::Ordering as Compare;
use std::hint::select_unpredictable;
use std::ops::Range;

use pagestone_sync::atomic::Ordering;

use super::layout::{Layout, SHARED_MANY, Shape, Slot};
use super::search::{Search, first_with_head, head_of};
use crate::racing::first_eight;
use crate::{OutOfBounds, PageWriter, SpeculativePage};

/// The bit in which keys with the same head differ is this one, and as many further as [`Slot::shared`] says.
const FIRST_BIT: usize = u32::BITS as usize - 1;
/// So many slots are looked at without halving.
const SCANNED: usize = 96;

/// Some slots, to find a key among.
struct Alike<'a, 'k> {
    page: SpeculativePage<'a>,
    shape: Shape,
    key: &'k [u8],
}

impl<'a, 'k> Alike<'a, 'k> {
    /// Loads the header again: who hands a whole [`LoadedSlots`](super::LoadedSlots) to what is not in line has it in memory everywhere.
    fn load(page: SpeculativePage<'a>, base: usize, key: &'k [u8]) -> Result<Self, OutOfBounds> {
        Ok(Self { page, shape: Shape::load(page, base)?, key })
    }

    /// The slot to look at among some of which the first has the head of the key: no other one has the key. None if what keys share does
    /// not tell, or the slots are not all that have that head.
    #[inline(always)]
    fn likely(&self, range: Range<usize>) -> Result<Option<usize>, OutOfBounds> {
        let first = self.shape.slots_word();
        let words = self.page.words(first + range.start..first + range.end)?;
        let (mut likely, mut skipped) = (0, usize::MAX);
        for (at, word) in words.iter().enumerate().skip(1) {
            let shared = Slot::shared_of(word.load(Ordering::Relaxed));
            // One comparison for both ends: another head, and what says nothing.
            if shared.wrapping_sub(1) >= SHARED_MANY - 1 {
                return Ok((shared == 0).then_some(range.start + likely));
            }
            let is_set = bit(self.key, FIRST_BIT + shared);
            let skips = if is_set { usize::MAX } else { shared };
            // Without branches: which way keys go is chance.
            let parts = shared < skipped;
            likely = select_unpredictable(parts & is_set, at, likely);
            skipped = select_unpredictable(parts, skips, skipped);
        }
        Ok((range.end == self.shape.count).then_some(range.start + likely))
    }

    /// The slot to look at, if that can be told, and the slots among which the key stands: it is none's that is not among them, those before
    /// are below it and those behind above.
    fn look(&self, first: usize) -> Result<(Option<usize>, Range<usize>), OutOfBounds> {
        let few = first..self.shape.count.min(first + SCANNED);
        match self.likely(few.clone())? {
            Some(likely) => Ok((Some(likely), few)),
            None => self.look_at_many(first),
        }
    }

    /// As [`Alike::look`], where many are alike, or share so much that their words do not tell: keys are compared.
    #[inline(never)]
    fn look_at_many(&self, first: usize) -> Result<(Option<usize>, Range<usize>), OutOfBounds> {
        let end = match head_of(self.key).checked_add(1) {
            Some(next) => first_with_head(self.page, &self.shape, next)?,
            None => self.shape.count,
        };
        let mut range = first..end.max(first);
        while range.len() > SCANNED {
            self.halve(&mut range)?;
        }
        let mut likely = if range.is_empty() { None } else { self.likely_within(range.clone())? };
        while likely.is_none() && !range.is_empty() {
            if self.halve(&mut range)? {
                likely = Some(range.start);
            }
        }
        Ok((likely, range))
    }

    fn likely_within(&self, range: Range<usize>) -> Result<Option<usize>, OutOfBounds> {
        let within = Shape { count: range.end, ..self.shape };
        Alike { shape: within, ..*self }.likely(range)
    }

    /// By the key in the middle of a range that is not empty. Whether that is the key itself; then it is all that is left.
    fn halve(&self, range: &mut Range<usize>) -> Result<bool, OutOfBounds> {
        let middle = range.start + range.len() / 2;
        let Slot { offset, key_len, .. } = self.shape.slot(self.page, middle)?;
        let order = self.page.compare(offset, key_len, self.key)?;
        match order {
            Compare::Less => range.start = middle + 1,
            Compare::Equal => *range = middle..middle + 1,
            Compare::Greater => range.end = middle,
        }
        Ok(order == Compare::Equal)
    }

    fn lower_bound(&self, first: usize) -> Result<Search, OutOfBounds> {
        let (likely, range) = self.look(first)?;
        let Some(likely) = likely else { return Ok(Search { slot: range.start, found: false }) };
        let Slot { offset, key_len, .. } = self.shape.slot(self.page, likely)?;
        match self.page.shared_bits(offset, key_len, self.key)? {
            Some(shared) => self.beside(likely, shared, range),
            None if key_len == self.key.len() => Ok(Search { slot: likely, found: true }),
            // Nothing but zeros at the end of one of them: which is the greater one, no bit tells.
            None => self.by_keys(first..self.shape.count),
        }
    }

    /// Where the key would stand, which has so many bits in common with that of the likely slot and no more.
    fn beside(&self, likely: usize, bits: usize, range: Range<usize>) -> Result<Search, OutOfBounds> {
        let shared = bits.saturating_sub(FIRST_BIT);
        let is_like = |slot: usize| Ok(self.shape.slot(self.page, slot)?.shared > shared);
        let mut slot = likely;
        if bit(self.key, bits) {
            slot += 1;
            while slot < range.end && is_like(slot)? {
                slot += 1;
            }
        } else {
            while slot > range.start && is_like(slot)? {
                slot -= 1;
            }
        }
        Ok(Search { slot, found: false })
    }

    #[cold]
    fn by_keys(&self, mut range: Range<usize>) -> Result<Search, OutOfBounds> {
        let mut found = false;
        while !found && !range.is_empty() {
            found = self.halve(&mut range)?;
        }
        Ok(Search { slot: range.start, found })
    }
}

/// A bit of a key, the first one being the most significant one of the first byte; zero behind its end.
#[inline(always)]
fn bit(key: &[u8], index: usize) -> bool {
    key.get(index / 8).is_some_and(|byte| byte >> (7 - index % 8) & 1 == 1)
}

/// The lower bound of a key among the slots with its head, the first of which is given.
#[inline(never)]
pub(super) fn lower_bound_among(
    page: SpeculativePage<'_>,
    base: usize,
    first: usize,
    key: &[u8],
) -> Result<Search, OutOfBounds> {
    Alike::load(page, base, key)?.lower_bound(first)
}

/// The slot to look at for a key among the slots with its head, the first of which is given: if the key is here it is this one's. Where all
/// were halved away it is nobody's, and any will do.
#[inline(never)]
pub(super) fn likely_among(
    page: SpeculativePage<'_>,
    base: usize,
    first: usize,
    key: &[u8],
) -> Result<usize, OutOfBounds> {
    Ok(Alike::load(page, base, key)?.look(first)?.0.unwrap_or(first))
}

/// What [`Slot::shared`] says of the key of a slot and another one beside it. Of a cell that is not in the page it says nothing.
pub(super) fn shared_with(
    layout: &Layout,
    page: &PageWriter<'_>,
    slot: usize,
    key: &[u8],
) -> Result<usize, OutOfBounds> {
    let page = page.read();
    if layout.shape.head(page, slot)? != head_of(key) {
        return Ok(0);
    }
    let Slot { offset, key_len, .. } = layout.shape.slot(page, slot)?;
    let shared = page.shared_bits(offset, key_len, key).ok().flatten();
    Ok(shared.map_or(SHARED_MANY, |bits| bits.saturating_sub(FIRST_BIT).min(SHARED_MANY)))
}

/// What [`Slot::shared`] says of the second of two keys, for who has both at hand.
pub(super) fn shared_by(before: &[u8], key: &[u8]) -> usize {
    if head_of(before) != head_of(key) {
        return 0;
    }
    let eight = |key: &[u8], at: usize| first_eight(key.get(at..).unwrap_or_default());
    for at in (0..before.len().max(key.len())).step_by(8) {
        let differ = eight(before, at) ^ eight(key, at);
        if differ != 0 {
            return (8 * at + differ.leading_zeros() as usize - FIRST_BIT).min(SHARED_MANY);
        }
    }
    SHARED_MANY
}

impl Shape {
    /// What [`Slot::shared`] says of the slot behind this one once this one is gone: keys in order have in common what each has with
    /// the next.
    pub(super) fn shared_without(
        &self,
        page: SpeculativePage<'_>,
        slot: usize,
    ) -> Result<usize, OutOfBounds> {
        match slot.checked_sub(1) {
            Some(before) if self.head(page, before)? == self.head(page, slot + 1)? => {
                Ok(self.slot(page, slot)?.shared.min(self.slot(page, slot + 1)?.shared))
            }
            _ => Ok(0),
        }
    }
}
