//! A merge: always the right node into the left one, under the same parent.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, OutOfBounds, PageId, PageOp, PageResult, PageWriter};
use pagestone_swip::SwipWord;

use super::codec::{Reader, put_bytes, put_cells, put_swip};
use super::{ABSORB_RIGHT, MARK_OBSOLETE, change};
use crate::node::cells::Cells;
use crate::node::content::{Content, first_child};
use crate::node::header::NodeHeader;
use crate::node::shift::Shift;
use crate::node::view::NodeView;

/// Puts all that the right sibling has, or its first cells, into this node, which can absorb them. An inner node gets the fence between them, which
/// was the parent's separator, as a separator.
#[derive(Clone)]
pub(crate) struct AbsorbRight {
    level: u8,
    /// None: infinite.
    upper: Option<Vec<u8>>,
    right_sibling: SwipWord,
    first_child: SwipWord,
    cells: Cells,
}

const UPPER_INFINITE: u8 = 1;

impl AbsorbRight {
    /// All that `right` has.
    pub(crate) fn of(right: NodeView<'_>) -> Result<Self, OutOfBounds> {
        let mut upper = Vec::new();
        let finite = right.upper_fence(&mut upper)?;
        Ok(Self {
            level: right.level()?,
            upper: finite.then_some(upper),
            right_sibling: right.right_sibling()?,
            first_child: first_child(right)?,
            cells: Cells::of(right, 0..right.count()?)?,
        })
    }

    /// The first cells of `right`, which keeps the others: a page that stays the right sibling.
    pub(crate) fn first_of(
        right: NodeView<'_>,
        right_id: PageId,
        shift: &Shift,
    ) -> Result<Self, OutOfBounds> {
        let level = right.level()?;
        // Of an inner node the last one that goes moves up.
        let slots = if level == 0 { shift.slots } else { shift.slots.checked_sub(1).ok_or(OutOfBounds)? };
        Ok(Self {
            level,
            upper: Some(shift.separator.clone()),
            right_sibling: SwipWord::new(right_id).map_err(|_| OutOfBounds)?,
            first_child: first_child(right)?,
            cells: Cells::of(right, 0..slots)?,
        })
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let (level, flags) = (reader.byte()?, reader.byte()?);
        let upper = match flags {
            0 => Some(reader.bytes()?.to_vec()),
            UPPER_INFINITE => None,
            _ => return None,
        };
        let right_sibling = reader.swip()?;
        let first_child = if level == 0 { SwipWord::NULL } else { reader.swip()? };
        let cells = reader.cells(level == 0)?;
        reader.end()?;
        Some(Self { level, upper, right_sibling, first_child, cells })
    }
}

impl PageOp for AbsorbRight {
    fn kind(&self) -> OpKind {
        ABSORB_RIGHT
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, _| {
            let header = node.header()?;
            let (mut lower, mut fence) = (Vec::new(), Vec::new());
            node.lower_fence(&mut lower)?;
            if !node.is_node()? || header.level != self.level || !node.upper_fence(&mut fence)? {
                return Err(SlottedError::Malformed);
            }
            let mine = Cells::of(node, 0..node.count()?)?;
            let mut between = Cells::default();
            if self.level > 0 {
                between.push(&fence, &[], 0, self.first_child);
            }
            let content = Content {
                tree: header.tree,
                level: self.level,
                lower: &lower,
                upper: self.upper.as_deref(),
                right_sibling: self.right_sibling,
                first_child: first_child(node)?,
                parts: &[&mine, &between, &self.cells],
            };
            content.write(page)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        out.push(if self.upper.is_none() { UPPER_INFINITE } else { 0 });
        if let Some(upper) = &self.upper {
            put_bytes(out, upper);
        }
        put_swip(out, self.right_sibling);
        if self.level > 0 {
            put_swip(out, self.first_child);
        }
        put_cells(out, &self.cells, self.level == 0);
    }
}

/// Says of a node that it was merged away, so that a late reader goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkObsolete;

impl MarkObsolete {
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        payload.is_empty().then_some(Self)
    }
}

impl PageOp for MarkObsolete {
    fn kind(&self) -> OpKind {
        MARK_OBSOLETE
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, _| {
            let header = node.header()?;
            Ok(NodeHeader { obsolete: true, ..header }.store(page)?)
        })
    }

    fn encode(&self, _: &mut Vec<u8>) {}
}
