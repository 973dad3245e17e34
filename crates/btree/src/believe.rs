//! Before a change of structure: whether the nodes are what the change takes for granted.
//!
//! Invariant: a group has changed nothing yet when this fails, so that bytes which make no sense are an error of the operation and not
//! the end of the handle. What is split, absorbed or copied whole must be whole; a change of one cell in a node that is else left as it
//! is, is made on a copy first.
//!
//! A put or a removal in one leaf is not asked: it looks at what it changes, and nothing else.

use pagestone_mini_txn::{MiniTxn, PageHandle};
use pagestone_page_format::{PageError, PageOp, PageResult, PageWriter};
use pagestone_sync::atomic::AtomicU64;

use crate::split::view;

/// Refuses a node that contradicts itself.
pub(crate) fn check_whole(txn: &MiniTxn<'_>, node: PageHandle) -> PageResult<()> {
    let malformed = |_| PageError::Malformed { page_id: txn.id(node), reason: "a node that is not whole" };
    view(txn, node).check().map_err(malformed)
}

/// Makes these changes on a copy of the node, one after the other. Error: the first one's that fails.
pub(crate) fn rehearse<Op: PageOp>(
    txn: &MiniTxn<'_>,
    node: PageHandle,
    ops: impl IntoIterator<Item = Op>,
) -> PageResult<()> {
    on_a_copy(txn, node, |writer| ops.into_iter().try_for_each(|op| op.apply(writer)))
}

/// As [`rehearse`], for changes of several kinds.
pub(crate) fn rehearse_changes(txn: &MiniTxn<'_>, node: PageHandle, ops: &[&dyn PageOp]) -> PageResult<()> {
    on_a_copy(txn, node, |writer| ops.iter().try_for_each(|op| op.apply(writer)))
}

fn on_a_copy(
    txn: &MiniTxn<'_>,
    node: PageHandle,
    change: impl FnOnce(&PageWriter<'_>) -> PageResult<()>,
) -> PageResult<()> {
    let page = txn.page(node);
    let copy: Box<[AtomicU64]> = (0..page.len() / 8)
        .map(|index| page.word(index).map(AtomicU64::new))
        .collect::<Result<_, _>>()
        .map_err(|error| error.malformed(txn.id(node)))?;
    change(&PageWriter::new(&copy))
}
