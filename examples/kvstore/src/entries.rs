//! What a scan gives.

use pagestone::btree::Range;
use pagestone::store::StoreResult;

/// Entries in key order, or from the other end with [`Iterator::rev`]. Owns what it gives; after an error it gives nothing
/// more.
#[derive(Debug)]
#[must_use = "a scan reads nothing until it is asked"]
pub struct Entries {
    range: Range,
}

impl Entries {
    pub(crate) fn new(range: Range) -> Self {
        Self { range }
    }
}

impl Iterator for Entries {
    type Item = StoreResult<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.range.next()?.map_err(Into::into))
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.range.next_back()?.map_err(Into::into))
    }
}
