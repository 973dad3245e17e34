//! A whole node.

use pagestone_page_format::{OpKind, OutOfBounds, PageId, PageOp, PageResult, PageWriter};
use pagestone_swip::SwipWord;

use super::codec::{Reader, put_bytes, put_cells, put_swip, put_varint};
use super::{FORMAT_NODE, change};
use crate::node::cells::Cells;
use crate::node::content::{Content, first_child};
use crate::node::split::SplitPoint;
use crate::node::view::NodeView;

/// Makes a page this node, whatever stood there; the page keeps its id.
#[derive(Clone)]
pub(crate) struct FormatNode {
    pub(crate) tree: u32,
    pub(crate) level: u8,
    pub(crate) lower: Vec<u8>,
    /// None: infinite.
    pub(crate) upper: Option<Vec<u8>>,
    /// Null at the end of a level.
    pub(crate) right_sibling: SwipWord,
    /// Of an inner node; null in a leaf.
    pub(crate) first_child: SwipWord,
    pub(crate) cells: Cells,
}

const UPPER_INFINITE: u8 = 1;

impl FormatNode {
    /// The root of an empty tree.
    pub(crate) fn empty_leaf(tree: u32) -> Self {
        Self {
            tree,
            level: 0,
            lower: Vec::new(),
            upper: None,
            right_sibling: SwipWord::NULL,
            first_child: SwipWord::NULL,
            cells: Cells::default(),
        }
    }

    /// The new node to the right of one that is split.
    pub(crate) fn right_half(node: NodeView<'_>, point: &SplitPoint) -> Result<Self, OutOfBounds> {
        let mut half = Self::without_cells(node)?;
        let count = node.count()?;
        half.lower.clone_from(&point.separator);
        let from = if half.level == 0 {
            point.slot
        } else {
            half.first_child = node.child(point.slot + 1)?;
            point.slot + 1
        };
        half.cells = Cells::of(node, from..count)?;
        Ok(half)
    }

    /// The left half of a root that is split, in a new page; the right half is the page `right`.
    pub(crate) fn left_half(
        node: NodeView<'_>,
        point: &SplitPoint,
        right: PageId,
    ) -> Result<Self, OutOfBounds> {
        Ok(Self {
            upper: Some(point.separator.clone()),
            right_sibling: swip(right)?,
            cells: Cells::of(node, 0..point.slot)?,
            ..Self::without_cells(node)?
        })
    }

    /// The root over the two halves of what it was.
    pub(crate) fn root_over(
        root: NodeView<'_>,
        left: PageId,
        point: &SplitPoint,
        right: PageId,
    ) -> Result<Self, OutOfBounds> {
        let old = Self::without_cells(root)?;
        let mut cells = Cells::default();
        cells.push(&point.separator, &[], 0, swip(right)?);
        let level = old.level.checked_add(1).ok_or(OutOfBounds)?;
        Ok(Self { level, first_child: swip(left)?, cells, ..old })
    }

    /// The same node, for another page: a root that takes over its only child, a page that moves.
    pub(crate) fn copy_of(node: NodeView<'_>) -> Result<Self, OutOfBounds> {
        Ok(Self { cells: Cells::of(node, 0..node.count()?)?, ..Self::without_cells(node)? })
    }

    fn without_cells(node: NodeView<'_>) -> Result<Self, OutOfBounds> {
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        node.lower_fence(&mut lower)?;
        let finite = node.upper_fence(&mut upper)?;
        Ok(Self {
            tree: node.tree_id()?,
            level: node.level()?,
            lower,
            upper: finite.then_some(upper),
            right_sibling: node.right_sibling()?,
            first_child: first_child(node)?,
            cells: Cells::default(),
        })
    }

    pub(in crate::node) fn with_content<T>(&self, with: impl FnOnce(&Content<'_>) -> T) -> T {
        with(&Content {
            tree: self.tree,
            level: self.level,
            lower: &self.lower,
            upper: self.upper.as_deref(),
            right_sibling: self.right_sibling,
            first_child: self.first_child,
            parts: &[&self.cells],
        })
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let tree = reader.varint()?.try_into().ok()?;
        let (level, flags) = (reader.byte()?, reader.byte()?);
        let lower = reader.bytes()?.to_vec();
        let upper = match flags {
            0 => Some(reader.bytes()?.to_vec()),
            UPPER_INFINITE => None,
            _ => return None,
        };
        let right_sibling = reader.swip()?;
        let first_child = if level == 0 { SwipWord::NULL } else { reader.swip()? };
        let cells = reader.cells(level == 0)?;
        reader.end()?;
        Some(Self { tree, level, lower, upper, right_sibling, first_child, cells })
    }
}

fn swip(page: PageId) -> Result<SwipWord, OutOfBounds> {
    SwipWord::new(page).map_err(|_| OutOfBounds)
}

impl PageOp for FormatNode {
    fn kind(&self) -> OpKind {
        FORMAT_NODE
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |_, _| self.with_content(|content| content.write(page)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.tree.into());
        out.push(self.level);
        out.push(if self.upper.is_none() { UPPER_INFINITE } else { 0 });
        put_bytes(out, &self.lower);
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
