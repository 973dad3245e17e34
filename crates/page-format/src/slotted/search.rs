//! Where a key stands, or would stand.
//!
//! Invariant: at most `2 log2(count) + 2` heads and `log2(count) + 1` keys are read, whatever the bytes are. The first search
//! is over integers, with a conditional move for each step; keys are touched only where heads are equal.

use std::cmp::Ordering;
use std::hint::select_unpredictable;

use super::SlottedPage;
use super::layout::Shape;
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
        None => {
            let mut head = [0; 4];
            head[..key.len()].copy_from_slice(key);
            u32::from_be_bytes(head)
        }
    }
}

#[derive(Clone, Copy)]
struct Heads<'a> {
    page: SpeculativePage<'a>,
    first_word: usize,
}

impl Heads<'_> {
    #[inline]
    fn get(self, slot: usize) -> Result<u32, OutOfBounds> {
        let word = self.page.word(self.first_word + slot / 2)?;
        Ok((word >> (32 * (slot % 2))) as u32)
    }

    /// How many of `from..to` come before the first head that is not below `head`.
    #[inline]
    fn lower_bound(self, from: usize, to: usize, head: u32) -> Result<usize, OutOfBounds> {
        let mut low = from;
        let mut left = to - from;
        while left > 1 {
            let half = left / 2;
            low = select_unpredictable(self.get(low + half - 1)? < head, low + half, low);
            left -= half;
        }
        if left == 1 {
            low += usize::from(self.get(low)? < head);
        }
        Ok(low)
    }
}

impl SlottedPage<'_> {
    /// Finds the first slot whose key is not below `key`.
    #[inline]
    pub fn lower_bound(&self, key: &[u8]) -> Result<Search, OutOfBounds> {
        let shape = self.shape()?;
        let head = head_of(key);
        let heads = Heads { page: self.page, first_word: shape.heads_word() };
        let slot = heads.lower_bound(0, shape.count, head)?;
        if slot == shape.count || heads.get(slot)? != head {
            return Ok(Search { slot, found: false });
        }
        // Most often this is the one slot with that head.
        match self.compare_slot(&shape, slot, key)? {
            Ordering::Equal => return Ok(Search { slot, found: true }),
            Ordering::Greater => return Ok(Search { slot, found: false }),
            Ordering::Less => {}
        }
        if slot + 1 == shape.count || heads.get(slot + 1)? != head {
            return Ok(Search { slot: slot + 1, found: false });
        }
        let end = match head.checked_add(1) {
            Some(next) => heads.lower_bound(slot + 1, shape.count, next)?,
            None => shape.count,
        };
        self.lower_bound_of_keys(&shape, slot + 1, end, key)
    }

    /// Among slots with one head.
    fn lower_bound_of_keys(
        &self,
        shape: &Shape,
        from: usize,
        to: usize,
        key: &[u8],
    ) -> Result<Search, OutOfBounds> {
        let (mut low, mut high) = (from, to);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.compare_slot(shape, middle, key)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Search { slot: middle, found: true }),
                Ordering::Greater => high = middle,
            }
        }
        Ok(Search { slot: low, found: false })
    }

    #[inline]
    fn compare_slot(&self, shape: &Shape, slot: usize, key: &[u8]) -> Result<Ordering, OutOfBounds> {
        self.compare_key(self.cell(shape, slot)?, key)
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
