//! The changes of a batch: as they are given, and as their leaves see them.
//!
//! Invariant: in order, each key of a tree is there once, and what stands in each cell is as long as it was said to be when the log
//! bytes were counted.

use std::cmp::Reverse;

use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::Lsn;
use pagestone_wal::GroupBuilder;

use crate::overflow::{LEAST_REFERENCE, MAX_VALUE_LEN};
use crate::write::NewCell;
use crate::{BTree, TreeError, TreeResult};

/// Bytes of a cell operation in the log beside key and value: the length of the key, and flags.
const CELL_FRAMING: usize = 8;

/// One change of a write batch.
#[derive(Clone, Copy)]
pub struct BatchOp<'a> {
    /// The tree that it changes.
    pub tree: &'a BTree,
    /// The key that it is about.
    pub key: &'a [u8],
    /// What becomes of the key.
    pub change: BatchChange<'a>,
}

/// What becomes of a key.
#[derive(Clone, Copy)]
pub enum BatchChange<'a> {
    /// It gets this value, whether it is there or not. One that is longer than [`BTree::max_inline_value`] goes to extents of its
    /// own.
    Put(&'a [u8]),
    /// It is taken out, if it is there.
    Remove,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchDone {
    /// Keys that were not there and are now.
    pub inserted: usize,
    /// Keys that were there and were put.
    pub replaced: usize,
    /// Keys that were there and are no more.
    pub removed: usize,
    /// It is durable once the log is durable up to here. None if there was nothing to change.
    pub lsn: Option<Lsn>,
}

impl<'a> BatchOp<'a> {
    /// Whether it puts a value that goes to extents: longer than [`BTree::max_inline_value`].
    pub fn puts_long_value(&self) -> bool {
        self.long_value().is_some()
    }

    /// The value that it puts, if that goes to extents.
    pub(super) fn long_value(&self) -> Option<&'a [u8]> {
        match self.change {
            BatchChange::Put(value) => {
                (value.len() > self.tree.max_inline_value(self.key.len())).then_some(value)
            }
            BatchChange::Remove => None,
        }
    }
}

impl std::fmt::Debug for BatchOp<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Lengths and no bytes of the user's.
        f.debug_struct("BatchOp")
            .field("tree", &self.tree.tree_id())
            .field("key_len", &self.key.len())
            .field("change", &self.change)
            .finish()
    }
}

impl std::fmt::Debug for BatchChange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(value) => write!(f, "Put({} bytes)", value.len()),
            Self::Remove => f.write_str("Remove"),
        }
    }
}

/// A change, as its leaf sees it.
pub(super) struct Op<'a> {
    pub(super) tree: &'a BTree,
    pub(super) key: &'a [u8],
    /// None: the key is taken out.
    pub(super) cell: Option<NewCell<'a>>,
}

/// Sorted, with the last change of each key. Errors: those that one change gives by itself.
pub(super) fn in_order<'a>(env: &LoggedPool, ops: &[BatchOp<'a>]) -> TreeResult<Vec<BatchOp<'a>>> {
    for op in ops {
        let of: &LoggedPool = op.tree.env();
        if !std::ptr::eq(of, env) {
            return Err(TreeError::ForeignTree { tree_id: op.tree.tree_id() });
        }
        if let BatchChange::Put(value) = op.change {
            op.tree.check_key(op.key)?;
            let len = value.len() as u64;
            if len > MAX_VALUE_LEN {
                return Err(TreeError::ValueTooLong { len, max: MAX_VALUE_LEN });
            }
        }
    }
    let mut order: Vec<usize> = (0..ops.len()).collect();
    // The last one of a key comes first, and stays.
    order.sort_unstable_by_key(|index| {
        let op = &ops[*index];
        (op.tree.root_id(), op.key, Reverse(*index))
    });
    let mut sorted: Vec<BatchOp<'a>> = order.into_iter().map(|index| ops[index]).collect();
    sorted.dedup_by(|b, a| a.tree.root_id() == b.tree.root_id() && a.key == b.key);
    // A key that fits nowhere is nowhere.
    sorted.retain(|op| op.key.len() <= op.tree.max_key_len());
    Ok(sorted)
}

/// Lengths of the key and of what stands in its cell, at least.
pub(super) fn least_cell(op: &BatchOp<'_>) -> (usize, usize) {
    let value_len = match (op.change, op.long_value()) {
        (BatchChange::Remove, _) => 0,
        (BatchChange::Put(_), Some(_)) => LEAST_REFERENCE,
        (BatchChange::Put(value), None) => value.len(),
    };
    (op.key.len(), value_len)
}

/// Log bytes of changes with these lengths of keys and cells.
pub(super) fn log_bytes(cells: impl ExactSizeIterator<Item = (usize, usize)>) -> usize {
    let records = cells.len();
    GroupBuilder::bound(records, cells.map(|(key, value)| CELL_FRAMING + key + value).sum())
}

/// The changes with what will stand in their cells; the references are those of the long values, in order.
pub(super) fn cells<'a>(ops: &[BatchOp<'a>], references: &'a [Vec<u8>]) -> Vec<Op<'a>> {
    let mut references = references.iter();
    let cell = |op: &BatchOp<'a>| match op.change {
        BatchChange::Remove => None,
        BatchChange::Put(value) => Some(match op.long_value() {
            Some(_) => NewCell::reference(references.next().expect("each long value has its reference")),
            None => NewCell::inline(value),
        }),
    };
    let cells: Vec<_> = ops.iter().map(cell).collect();
    ops.iter().zip(cells).map(|(op, cell)| Op { tree: op.tree, key: op.key, cell }).collect()
}
