//! One swip of a node, when the page it refers to moves or goes.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, PageId, PageOp, PageResult, PageWriter};
use pagestone_swip::SwipWord;

use super::codec::{Reader, put_page, put_swip, put_varint};
use super::{SET_CHILD, SET_RIGHT_SIBLING, change};
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
