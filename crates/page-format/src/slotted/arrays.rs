//! One entry more or less in heads, slots and links; arrays with more room or less; hints that follow the heads.
//!
//! Invariant: entries past the last one are zero. Hint `i` is the first head of word `(i + 1) * step` of the heads, where a step is the
//! least with which sixteen hints divide the words into seventeen parts; past the last word, and in an area of so few words that no search
//! asks for hints, it is all ones.

use super::layout::{HINT_WORDS, HINTS, Shape};
use super::search::FEW;
use crate::{OutOfBounds, PageWriter};

/// Moves words of a page; the two ranges may overlap.
fn move_words(page: &PageWriter<'_>, from: usize, to: usize, words: usize) -> Result<(), OutOfBounds> {
    let copy = |index: usize| page.put_word(to + index, page.read().word(from + index)?);
    if to <= from { (0..words).try_for_each(copy) } else { (0..words).rev().try_for_each(copy) }
}

fn zero_words(page: &PageWriter<'_>, from: usize, to: usize) -> Result<(), OutOfBounds> {
    (from..to).try_for_each(|index| page.put_word(index, 0))
}

const LOW: u64 = u32::MAX as u64;

/// Puts a head before slot `slot` of `count`; heads are packed two to a word.
fn insert_head(
    page: &PageWriter<'_>,
    first: usize,
    slot: usize,
    count: usize,
    head: u32,
) -> Result<(), OutOfBounds> {
    let word = |index: usize| page.read().word(first + index);
    for index in (slot / 2 + 1..=count / 2).rev() {
        page.put_word(first + index, word(index)? << 32 | word(index - 1)? >> 32)?;
    }
    let old = word(slot / 2)?;
    let new =
        if slot.is_multiple_of(2) { u64::from(head) | old << 32 } else { old & LOW | u64::from(head) << 32 };
    page.put_word(first + slot / 2, new)
}

fn remove_head(page: &PageWriter<'_>, first: usize, slot: usize, count: usize) -> Result<(), OutOfBounds> {
    let last = (count - 1) / 2;
    let word = |index: usize| if index > last { Ok(0) } else { page.read().word(first + index) };
    let old = word(slot / 2)?;
    let kept = if slot.is_multiple_of(2) { old >> 32 } else { old & LOW };
    page.put_word(first + slot / 2, kept | word(slot / 2 + 1)? << 32)?;
    for index in slot / 2 + 1..=last {
        page.put_word(first + index, word(index)? >> 32 | word(index + 1)? << 32)?;
    }
    Ok(())
}

/// Words of heads between two hints.
#[inline]
pub(super) fn hint_step(head_words: usize) -> usize {
    head_words.div_ceil(HINTS + 1)
}

impl Shape {
    /// The words of the hints, as the heads say, in a page of which `page_word` gives the words.
    pub(super) fn hints(
        &self,
        page_word: impl Fn(usize) -> Result<u64, OutOfBounds>,
    ) -> Result<[u64; HINT_WORDS], OutOfBounds> {
        let words = self.count.div_ceil(2);
        let step = hint_step(words);
        let hint = |number: usize| match (number + 1) * step {
            word if words > FEW && word < words => Ok(page_word(self.heads_word() + word)? & LOW),
            _ => Ok(LOW),
        };
        let mut hints = [0; HINT_WORDS];
        for (word, at) in hints.iter_mut().zip((0..HINTS).step_by(2)) {
            *word = hint(at)? | hint(at + 1)? << 32;
        }
        Ok(hints)
    }

    pub(super) fn store_hints(&self, page: &PageWriter<'_>) -> Result<(), OutOfBounds> {
        if self.hints == 0 {
            return Ok(());
        }
        let hints = self.hints(|index| page.read().word(index))?;
        hints.into_iter().zip(self.hints_word()..).try_for_each(|(word, at)| page.put_word(at, word))
    }

    /// Puts an entry before `slot`; there is room for it. The shape still has the old count.
    pub(super) fn insert_entry(
        &self,
        page: &PageWriter<'_>,
        slot: usize,
        head: u32,
        slot_word: u64,
        link: Option<u64>,
    ) -> Result<(), OutOfBounds> {
        insert_head(page, self.heads_word(), slot, self.count, head)?;
        let (at, after) = (self.slots_word() + slot, self.count - slot);
        move_words(page, at, at + 1, after)?;
        page.put_word(at, slot_word)?;
        if let Some(link) = link {
            let at = self.links_word() + self.fixed_links + slot;
            move_words(page, at, at + 1, after)?;
            page.put_word(at, link)?;
        }
        Ok(())
    }

    /// Puts an entry behind the last one, where zeros stand. The shape still has the old count.
    pub(super) fn append_entry(
        &self,
        page: &PageWriter<'_>,
        head: u32,
        slot_word: u64,
        link: Option<u64>,
    ) -> Result<(), OutOfBounds> {
        let at = self.heads_word() + self.count / 2;
        let heads = match self.count % 2 {
            0 => u64::from(head),
            _ => page.read().word(at)? & LOW | u64::from(head) << 32,
        };
        page.put_word(at, heads)?;
        page.put_word(self.slots_word() + self.count, slot_word)?;
        match link {
            Some(link) => page.put_word(self.links_word() + self.fixed_links + self.count, link),
            None => Ok(()),
        }
    }

    /// Takes the entry of `slot` out. The shape still has the old count.
    pub(super) fn remove_entry(&self, page: &PageWriter<'_>, slot: usize) -> Result<(), OutOfBounds> {
        remove_head(page, self.heads_word(), slot, self.count)?;
        let after = self.count - slot - 1;
        let at = self.slots_word() + slot;
        move_words(page, at + 1, at, after)?;
        page.put_word(at + after, 0)?;
        if self.links_per_slot == 1 {
            let at = self.links_word() + self.fixed_links + slot;
            move_words(page, at + 1, at, after)?;
            page.put_word(at + after, 0)?;
        }
        Ok(())
    }

    /// Zeroes the entries from `from` on. The shape still has the old count.
    pub(super) fn zero_entries(&self, page: &PageWriter<'_>, from: usize) -> Result<(), OutOfBounds> {
        let heads = self.heads_word();
        if from % 2 == 1 {
            page.put_word(heads + from / 2, page.read().word(heads + from / 2)? & LOW)?;
        }
        zero_words(page, heads + from.div_ceil(2), heads + self.count.div_ceil(2))?;
        zero_words(page, self.slots_word() + from, self.slots_word() + self.count)?;
        if self.links_per_slot == 1 {
            let links = self.links_word() + self.fixed_links;
            zero_words(page, links + from, links + self.count)?;
        }
        Ok(())
    }

    /// The same entries in arrays with room for `capacity`; what the arrays take or leave was or becomes zero.
    pub(super) fn with_capacity(&self, page: &PageWriter<'_>, capacity: usize) -> Result<Shape, OutOfBounds> {
        let new = Shape { capacity, ..*self };
        let links =
            |page: &PageWriter<'_>| move_words(page, self.links_word(), new.links_word(), self.link_count());
        let slots = |page: &PageWriter<'_>| move_words(page, self.slots_word(), new.slots_word(), self.count);
        if capacity > self.capacity {
            links(page)?;
            slots(page)?;
        } else {
            slots(page)?;
            links(page)?;
        }
        zero_words(page, new.heads_word() + self.count.div_ceil(2), new.slots_word())?;
        zero_words(page, new.slots_word() + self.count, new.links_word())?;
        let end = self.arrays_end(self.capacity).max(new.arrays_end(capacity)) / 8;
        zero_words(page, new.links_word() + self.link_count(), end)?;
        Ok(new)
    }
}
