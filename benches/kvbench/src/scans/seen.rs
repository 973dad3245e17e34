//! What a scan saw.
//!
//! Invariant: two scans that saw the same rows, each once, saw the same; and one that saw a row out of order says so.

use crate::BenchResult;

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Rows, added up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    direction: Direction,
    rows: u64,
    bytes: u64,
    sum: u64,
    last: u64,
    out_of_order: u64,
}

impl Seen {
    /// Nothing yet.
    pub(crate) fn new(direction: Direction) -> Self {
        Self { direction, rows: 0, bytes: 0, sum: 0, last: 0, out_of_order: 0 }
    }

    /// Looks at a row: at both ends of the value, and at the key's first eight bytes, which are no other row's.
    #[inline(always)]
    pub(crate) fn see(&mut self, key: &[u8], value: &[u8]) {
        let number = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let first = number(key.first_chunk());
        self.bytes += (key.len() + value.len()) as u64;
        self.sum = self.sum.wrapping_add(
            first ^ number(value.first_chunk()).rotate_left(7) ^ number(value.last_chunk()).rotate_left(21),
        );
        let in_order = (first > self.last) == (self.direction == Direction::Forward);
        self.out_of_order += u64::from(!in_order & (self.rows > 0));
        self.rows += 1;
        self.last = first;
    }

    /// Rows that were seen.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of their keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Refuses a scan that did not see what `all` saw, in order.
    pub(crate) fn check(&self, all: &Self) -> BenchResult<()> {
        if self.out_of_order > 0 {
            return Err(format!("{} rows came out of order", self.out_of_order).into());
        }
        if (self.rows, self.bytes, self.sum) != (all.rows, all.bytes, all.sum) {
            return Err(format!("a scan saw {self:?}, and not {all:?}").into());
        }
        Ok(())
    }
}
