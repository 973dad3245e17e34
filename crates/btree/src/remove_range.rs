//! A range of entries, removed leaf by leaf.
//!
//! Invariant: a group takes out what stands within the range in one leaf and, where the removal has a record, writes down in the same
//! group how far it has come. So whoever takes a removal up again after a crash removes nothing that was put behind it.
//!
//! ```text
//!          from                              upper             record: from ... upper
//!      a b │c d e│f g h│i j k│l m n│o p│q r s                          │
//!          └─────┘                                             [ RemoveCells c..f ][ record: f ... upper ]   one group
//!                └─────┘                                       [ RemoveCells f..i ][ record: i ... upper ]
//!                      └ ...
//! ```
//!
//! A leaf that is empty then is merged, in a group of its own, once the next one is empty too: its left sibling takes it over for
//! next to nothing, where it would itself have to take over all that its right one has.

use pagestone_buffer_pool::ExclusivePage;
use pagestone_mini_txn::Reserve;
use pagestone_page_format::{Lsn, PageId};

use crate::believe::{check_whole, rehearse};
use crate::descend::{Hold, Node, Seek};
use crate::drain::{FREES_PER_GROUP, append_reference};
use crate::error::{Interrupt, TreeError};
use crate::node::{RemoveCells, UpdateCell};
use crate::retry::optimistically;
use crate::split::{bug, view};
use crate::{BTree, TreeResult};

/// Log bytes of the operations beside the keys and values in them.
const FRAMING: usize = 256;

/// Where a removal that goes on over many groups keeps how far it has come: an entry of another tree, whose value is as long all the
/// time.
#[derive(Clone, Copy)]
pub struct RemovalRecord<'a> {
    /// The tree that has the entry.
    pub list: &'a BTree,
    /// Its key.
    pub key: &'a [u8],
    /// What stands there once all below this key is removed; all of the range, if there is none.
    pub value: &'a dyn Fn(Option<&[u8]>) -> Vec<u8>,
    /// Puts it there: called once, before the first group of a removal that takes more than one.
    pub begin: &'a dyn Fn() -> TreeResult<()>,
    /// Called before each of its groups, with nothing pinned or latched: makes room in the log where nobody else does.
    pub make_room: &'a dyn Fn() -> TreeResult<()>,
}

impl std::fmt::Debug for RemovalRecord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemovalRecord").field("list", &self.list.tree_id()).finish_non_exhaustive()
    }
}

/// What one group of a removal did.
struct RemovedSome {
    /// Entries that were removed.
    entries: u64,
    /// Where the rest of the range begins; none if that was all.
    next: Option<Vec<u8>>,
    /// Durable once the log is durable up to here; none if there was nothing to change.
    lsn: Option<Lsn>,
    /// Whether the leaf should be merged.
    sparse: bool,
}

/// The part of a range that one group takes, as it was looked at.
struct Part<'t> {
    leaf: Node<'t>,
    entries: usize,
    frees: Vec<(PageId, u32)>,
    next: Option<Vec<u8>>,
    /// The leaf with the record.
    record: Option<Node<'t>>,
}

impl BTree {
    /// Removes the entries whose keys are not below `from` and, if there is an end, below `to`, in one group for each leaf. Gives how many
    /// they were, and the LSN at which all of that is durable; none if there was nothing to change.
    ///
    /// Others see it come leaf by leaf, in key order, and a crash may leave a part of it; `Store` logs the intent and finishes it.
    /// Errors, with a part of it done: those of [`BTree::remove`].
    pub fn remove_range(&self, from: &[u8], to: Option<&[u8]>) -> TreeResult<(u64, Option<Lsn>)> {
        self.remove_range_with(from, to, None)
    }

    /// As [`BTree::remove_range`], with a record of how far it has come.
    pub fn remove_range_with(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        record: Option<RemovalRecord<'_>>,
    ) -> TreeResult<(u64, Option<Lsn>)> {
        let (mut entries, mut lsn) = (0, None);
        let (mut at, mut begun) = (from.to_vec(), false);
        let mut sparse: Option<Vec<u8>> = None;
        loop {
            let some = self.remove_some(&at, to, record, &mut begun)?;
            entries += some.entries;
            lsn = some.lsn.or(lsn);
            if let Some(before) = sparse.take() {
                self.merge_around(&before)?;
            }
            let Some(next) = some.next else {
                if some.sparse {
                    self.merge_around(&at)?;
                }
                return Ok((entries, lsn));
            };
            sparse = some.sparse.then_some(at);
            at = next;
        }
    }

    /// One group: what stands within the range in the leaf that covers `from`.
    fn remove_some(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        record: Option<RemovalRecord<'_>>,
        begun: &mut bool,
    ) -> TreeResult<RemovedSome> {
        if to.is_some_and(|to| to <= from) {
            return Ok(RemovedSome { entries: 0, next: None, lsn: None, sparse: false });
        }
        loop {
            let (frees, next) = optimistically(self.env(), |_| {
                let part = self.part(from, to, None)?;
                Ok((part.frees, part.next))
            })?;
            if let Some(record) = record.filter(|_| next.is_some() && !*begun) {
                (record.begin)()?;
                *begun = true;
            }
            let record = record.filter(|_| *begun);
            record.map_or(Ok(()), |record| (record.make_room)())?;
            let value = record.map(|record| (record.value)(next.as_deref()));
            let keys = from.len() + 2 * self.max_key_len();
            let recorded = record.map_or(0, |record| record.key.len()) + value.as_ref().map_or(0, Vec::len);
            let log_bytes = keys + recorded + FRAMING;
            let mut txn =
                self.env().begin(Reserve { log_bytes, pins: 2, frees: &frees, ..Reserve::default() })?;
            let latched = optimistically(self.env(), |_| {
                let part = self.part(from, to, record)?;
                if part.frees != frees || part.next != next {
                    return Ok(None);
                }
                if let (Some(record), Some(node), Some(value)) = (record, &part.record, &value) {
                    expect_record(node, record.key, value.len())?;
                }
                let leaf: ExclusivePage<'_> = part.leaf.into_exclusive()?;
                let record = part.record.map(Node::into_exclusive).transpose()?;
                Ok(Some((leaf, record, part.entries as u64)))
            })?;
            let Some((leaf, noted, entries)) = latched else { continue };
            let leaf = txn.latch(leaf);
            let remove = RemoveCells { from, to: next.as_deref().or(to) };
            let note = match (record, noted, &value) {
                (Some(record), Some(page), Some(value)) => {
                    Some((txn.latch(page), UpdateCell { at: None, key: record.key, value, flags: 0 }))
                }
                _ => None,
            };
            // First what can fail: nothing was changed then.
            check_whole(&txn, leaf)?;
            if let Some((page, op)) = note {
                rehearse(&txn, page, [op])?;
            }
            txn.free_extents(&frees)?;
            let mut sparse = false;
            if entries > 0 {
                txn.change(leaf, &remove)?;
                sparse = view(&txn, leaf).is_sparse().map_err(bug(&txn, leaf))?;
            }
            if let Some((page, op)) = note {
                txn.change(page, &op)?;
            }
            let lsn = if txn.is_changed() { Some(txn.commit()?.lsn) } else { None };
            return Ok(RemovedSome { entries, next, lsn, sparse });
        }
    }

    fn part<'t>(
        &'t self,
        from: &[u8],
        to: Option<&[u8]>,
        record: Option<RemovalRecord<'t>>,
    ) -> Result<Part<'t>, Interrupt> {
        let leaf = self.descend(Hold::Optimistic, Seek::Key(from), |_, _| Ok(()))?;
        let view = leaf.view();
        let first = leaf.believe(view.lower_bound(from))?;
        let mut fence = Vec::new();
        let finite = leaf.believe(view.upper_fence(&mut fence))?;
        let ends_here = !finite || to.is_some_and(|to| to <= fence.as_slice());
        let mut end = match to.filter(|_| ends_here) {
            Some(to) => leaf.believe(view.lower_bound(to))?,
            None => leaf.believe(view.count())?,
        };
        let mut next = (!ends_here).then_some(fence);
        let mut frees = Vec::new();
        let mut slot = first;
        while slot < end {
            if frees.len() >= FREES_PER_GROUP {
                let mut key = Vec::new();
                leaf.believe(view.append_key(slot, &mut key))?;
                (next, end) = (Some(key), slot);
            } else {
                append_reference(&leaf, slot, &mut frees)?;
                slot += 1;
            }
        }
        leaf.validate()?;
        let record = match record {
            Some(RemovalRecord { list, key, .. }) => {
                Some(list.descend(Hold::Optimistic, Seek::Key(key), |_, _| Ok(()))?)
            }
            None => None,
        };
        Ok(Part { leaf, entries: end.saturating_sub(first), frees, next, record })
    }
}

/// Refuses a leaf without the record, or with one of another length: it would not be sure to fit.
fn expect_record(leaf: &Node<'_>, key: &[u8], len: usize) -> Result<(), Interrupt> {
    let found = match leaf.believe(leaf.view().find(key))? {
        Some(slot) => leaf.believe(leaf.view().cell(slot))?.value_len,
        None => 0,
    };
    if found == len {
        return Ok(());
    }
    Err(leaf.refuse(TreeError::WrongNode {
        page_id: leaf.id(),
        reason: "bytes of the record of a removal",
        expected: len as u64,
        found: found as u64,
    }))
}
