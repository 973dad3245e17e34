//! Some cells of a node in private memory: between the page they leave and the page, or the log record, they go to.
//!
//! Invariant: keys are kept as the page kept them, without the prefix that they all share, which is kept once. So however
//! little a page's own bytes can be trusted, this takes no more memory than they do.

use std::ops::Range;

use pagestone_page_format::OutOfBounds;
use pagestone_swip::SwipWord;

use super::header::FIRST_CHILD;
use super::view::NodeView;

/// Cells in key order.
#[derive(Clone, Default)]
pub(crate) struct Cells {
    prefix: Vec<u8>,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    key_len: usize,
    end: usize,
    flags: u8,
    child: SwipWord,
}

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct CellRef<'a> {
    /// The key, without the prefix, and the value behind it.
    pub(crate) bytes: &'a [u8],
    /// The key, without the prefix.
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) flags: u8,
    /// Null in a leaf.
    pub(crate) child: SwipWord,
}

impl Cells {
    /// None yet; their keys will begin with `prefix`.
    pub(crate) fn new(prefix: Vec<u8>) -> Self {
        Self { prefix, bytes: Vec::new(), entries: Vec::new() }
    }

    /// The cells of some slots of a node.
    pub(crate) fn of(node: NodeView<'_>, slots: Range<usize>) -> Result<Self, OutOfBounds> {
        let header = node.header()?;
        let page = node.page();
        let mut cells = Self::default();
        page.append_to(header.lower_at(page.len()), header.prefix_len, &mut cells.prefix)?;
        cells.entries.reserve(slots.len().min(page.len() / 8));
        cells.bytes.reserve(page.len());
        for slot in slots {
            let cell = node.cell(slot)?;
            page.append_to(cell.offset, cell.key_len + cell.value_len, &mut cells.bytes)?;
            let child = match header.level {
                0 => SwipWord::NULL,
                _ => SwipWord::from_raw(node.area().link(FIRST_CHILD + 1 + slot)?),
            };
            let end = cells.bytes.len();
            cells.entries.push(Entry { key_len: cell.key_len, end, flags: cell.flags, child });
        }
        Ok(cells)
    }

    /// Adds a cell behind the last one; `key` lacks the prefix.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], flags: u8, child: SwipWord) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.entries.push(Entry { key_len: key.len(), end: self.bytes.len(), flags, child });
    }

    /// Makes room for so many bytes of keys and values, so that they are not moved as more come.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// The last cell, if there is one.
    pub(crate) fn last(&self) -> Option<CellRef<'_>> {
        self.entries.len().checked_sub(1).map(|last| self.get(last))
    }

    /// Takes the last cell out and pushes it to `other`, whose prefix is the same. False if there is none.
    pub(crate) fn pop_into(&mut self, other: &mut Self) -> bool {
        let Some(CellRef { bytes, key, value, flags, child }) = self.last() else { return false };
        other.push(key, value, flags, child);
        let len = self.bytes.len() - bytes.len();
        self.bytes.truncate(len);
        self.entries.pop();
        true
    }

    /// Throws all cells out, and the prefix, and keeps the memory for others.
    pub(crate) fn clear(&mut self) {
        self.prefix.clear();
        self.bytes.clear();
        self.entries.clear();
    }

    /// What every key begins with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys and values, as if the keys were whole.
    pub(crate) fn whole_bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * self.prefix.len()
    }

    /// The cells, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = CellRef<'_>> + ExactSizeIterator {
        (0..self.entries.len()).map(|index| self.get(index))
    }

    /// One cell; the index is below the length.
    pub(crate) fn get(&self, index: usize) -> CellRef<'_> {
        let start = if index == 0 { 0 } else { self.entries[index - 1].end };
        let Entry { key_len, end, flags, child } = self.entries[index];
        let bytes = &self.bytes[start..end];
        let (key, value) = bytes.split_at(key_len);
        CellRef { bytes, key, value, flags, child }
    }
}
