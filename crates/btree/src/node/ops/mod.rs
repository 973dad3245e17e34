//! The operations on nodes: applied to the latched page and, from the log, by redo, with the same function.
//!
//! Invariant: an operation changes one page and depends on that page alone. On the live path none fails whose caller asked
//! for room first (N4); on a page or a record that makes no sense it gives an error and does not panic.
//!
//! ```text
//!   0x0200 FormatNode       a whole node: new, or in place of what stood there    needs no valid old page
//!   0x0201 CutNode          the left half of a split: keeps what is below the separator
//!   0x0202 InsertCell       0x0203 UpdateCell          0x0204 RemoveCell           leaf
//!   0x0205 InsertSeparator  0x0206 RemoveSeparator     with the child right of it
//!   0x0207 AbsorbRight      the left page of a merge
//!   0x0208 MarkObsolete     the right page of a merge
//!   0x0209 SetChild         0x020a SetRightSibling     a page moved
//!   0x0210 EndLevel         all behind a node is gone
//!   0x0211 RemoveCells      those of a leaf within a range
//!   0x0212 TrimLeft         its first cells went to its left sibling
//! ```

mod cell;
mod codec;
mod format;
mod links;
mod merge;
mod separator;
mod shift;
mod split;

use pagestone_page_format::slotted::{SlottedError, SlottedWriter};
use pagestone_page_format::{OpKind, PageError, PageId, PageOp, PageResult, PageWriter, RedoRange};

pub(crate) use cell::{InsertCell, RemoveCell, RemoveCells, UpdateCell};
pub(crate) use format::FormatNode;
pub(crate) use links::{EndLevel, SetChild, SetRightSibling};
pub(crate) use merge::{AbsorbRight, MarkObsolete};
pub(crate) use separator::{InsertSeparator, RemoveSeparator};
pub(crate) use shift::TrimLeft;
pub(crate) use split::CutNode;

use super::header::{BASE, NodeHeader};
use super::view::{Covers, LoadedNode, NodeView};

const FORMAT_NODE: OpKind = 0x0200;
const CUT_NODE: OpKind = 0x0201;
const INSERT_CELL: OpKind = 0x0202;
const UPDATE_CELL: OpKind = 0x0203;
const REMOVE_CELL: OpKind = 0x0204;
const INSERT_SEPARATOR: OpKind = 0x0205;
const REMOVE_SEPARATOR: OpKind = 0x0206;
const ABSORB_RIGHT: OpKind = 0x0207;
const MARK_OBSOLETE: OpKind = 0x0208;
const SET_CHILD: OpKind = 0x0209;
const SET_RIGHT_SIBLING: OpKind = 0x020a;
const END_LEVEL: OpKind = 0x0210;
const REMOVE_CELLS: OpKind = 0x0211;
const TRIM_LEFT: OpKind = 0x0212;

/// Redo of the tree's operations, for recovery.
pub fn redo_range() -> RedoRange {
    RedoRange { kinds: 0x0200..=0x02ff, apply: redo, formats: |kind| kind == FORMAT_NODE }
}

fn redo(kind: OpKind, payload: &[u8], page: &PageWriter<'_>) -> PageResult<()> {
    fn apply(op: Option<impl PageOp>, page: &PageWriter<'_>) -> PageResult<()> {
        op.ok_or(PageError::Malformed {
            page_id: page_id(page),
            reason: "a log record that does not decode",
        })?
        .apply(page)
    }
    match kind {
        FORMAT_NODE => apply(FormatNode::decode(payload), page),
        CUT_NODE => apply(CutNode::decode(payload), page),
        INSERT_CELL => apply(InsertCell::decode(payload), page),
        UPDATE_CELL => apply(UpdateCell::decode(payload), page),
        REMOVE_CELL => apply(RemoveCell::decode(payload), page),
        INSERT_SEPARATOR => apply(InsertSeparator::decode(payload), page),
        REMOVE_SEPARATOR => apply(RemoveSeparator::decode(payload), page),
        ABSORB_RIGHT => apply(AbsorbRight::decode(payload), page),
        MARK_OBSOLETE => apply(MarkObsolete::decode(payload), page),
        SET_CHILD => apply(SetChild::decode(payload), page),
        SET_RIGHT_SIBLING => apply(SetRightSibling::decode(payload), page),
        END_LEVEL => apply(EndLevel::decode(payload), page),
        REMOVE_CELLS => apply(RemoveCells::decode(payload), page),
        TRIM_LEFT => apply(TrimLeft::decode(payload), page),
        _ => Err(PageError::Mismatch {
            expected: "an operation on a node".into(),
            found: format!("kind {kind:#06x}"),
        }),
    }
}

fn page_id(page: &PageWriter<'_>) -> PageId {
    page.read().header().map_or(PageId::MAX, |header| header.page_id)
}

/// Runs a change to a page; says which page it was if that failed.
fn change(
    page: &PageWriter<'_>,
    change: impl FnOnce(NodeView<'_>, SlottedWriter<'_>) -> Result<(), SlottedError>,
) -> PageResult<()> {
    let (node, area) = (NodeView::new(page.read()), SlottedWriter::new(*page, BASE));
    change(node, area).map_err(|error| error.of_page(page_id(page)))
}

/// Refuses a key that the node's fences keep out, and a node of another kind; gives the node with its headers loaded.
fn expect<'n>(node: NodeView<'n>, leaf: bool, key: &[u8]) -> Result<LoadedNode<'n>, SlottedError> {
    let loaded = node.load()?;
    if (loaded.level() == 0) == leaf && loaded.is_node()? && loaded.covers(key)? == Covers::Inside {
        Ok(loaded)
    } else {
        Err(SlottedError::Malformed)
    }
}

/// Keeps count of inserts in a row.
fn count_insert(page: &PageWriter<'_>, slot: usize) -> Result<(), SlottedError> {
    Ok(NodeHeader::load(page.read())?.inserted(slot).store(page)?)
}

/// Keeps the last insert's slot right.
fn count_remove(page: &PageWriter<'_>, slot: usize) -> Result<(), SlottedError> {
    Ok(NodeHeader::load(page.read())?.removed(slot).store(page)?)
}
