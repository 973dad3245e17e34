//! One swip of a node, when the page it refers to moves or goes; and the end of a level, when all behind a node goes.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, PageId, PageOp, PageResult, PageWriter};
use pagestone_swip::SwipWord;

use super::codec::{Reader, put_page, put_swip, put_varint};
use super::{END_LEVEL, SET_CHILD, SET_RIGHT_SIBLING, change};
use crate::node::cells::Cells;
use crate::node::content::{Content, first_child};
use crate::node::header::{FIRST_CHILD, RIGHT_SIBLING};

/// Makes another page the child with this index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetChild {
    pub(crate) index: usize,
    pub(crate) child: PageId,
}

/// Makes another page the right sibling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetRightSibling {
    /// Null at the end of a level.
    pub(crate) sibling: SwipWord,
}

/// Makes a node the last of its level: no upper fence, no right sibling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndLevel;

impl SetChild {
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let (index, child) = (reader.len()?, reader.page()?);
        reader.end()?;
        Some(Self { index, child })
    }
}

impl SetRightSibling {
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let sibling = reader.swip()?;
        reader.end()?;
        Some(Self { sibling })
    }
}

impl EndLevel {
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        payload.is_empty().then_some(Self)
    }
}

impl PageOp for SetChild {
    fn kind(&self) -> OpKind {
        SET_CHILD
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let child = SwipWord::new(self.child)?;
        change(page, |node, area| {
            if node.level()? == 0 || self.index > node.count()? {
                return Err(SlottedError::OutOfRange);
            }
            area.set_link(FIRST_CHILD + self.index, child.raw())
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.index as u64);
        put_page(out, self.child);
    }
}

impl PageOp for SetRightSibling {
    fn kind(&self) -> OpKind {
        SET_RIGHT_SIBLING
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |_, area| area.set_link(RIGHT_SIBLING, self.sibling.raw()))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_swip(out, self.sibling);
    }
}

impl PageOp for EndLevel {
    fn kind(&self) -> OpKind {
        END_LEVEL
    }

    /// It always fits. The prefix that the fences shared, all keys share with the lower fence; if more is cut then, each key is
    /// shorter by as much as the room that a tight node keeps for an upper fence is longer than the old upper fence.
    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, _| {
            if !node.is_node()? {
                return Err(SlottedError::Malformed);
            }
            let mut lower = Vec::new();
            node.lower_fence(&mut lower)?;
            let cells = Cells::of(node, 0..node.count()?)?;
            let content = Content {
                tree: node.tree_id()?,
                level: node.level()?,
                lower: &lower,
                upper: None,
                right_sibling: SwipWord::NULL,
                first_child: first_child(node)?,
                parts: &[&cells],
            };
            content.write(page)
        })
    }

    fn encode(&self, _: &mut Vec<u8>) {}
}
