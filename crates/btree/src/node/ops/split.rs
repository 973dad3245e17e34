//! The left half of a split.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, PageId, PageOp, PageResult, PageWriter};
use pagestone_swip::SwipWord;

use super::codec::{Reader, put_page};
use super::{CUT_NODE, change, expect};
use crate::node::cells::Cells;
use crate::node::content::{Content, first_child};
use crate::node::split::SplitPoint;

/// Takes out of a node what its new right sibling got: everything from the separator on, which becomes the upper fence. An
/// inner node has that separator, and loses it too.
#[derive(Clone, Copy)]
pub(crate) struct CutNode<'a> {
    pub(crate) upper: &'a [u8],
    pub(crate) right_sibling: PageId,
}

impl<'a> CutNode<'a> {
    /// For a split that was decided on, whose right half is the page `right`.
    pub(crate) fn new(point: &'a SplitPoint, right: PageId) -> Self {
        Self { upper: &point.separator, right_sibling: right }
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let right_sibling = reader.page()?;
        Some(Self { upper: reader.rest(), right_sibling })
    }
}

impl PageOp for CutNode<'_> {
    fn kind(&self) -> OpKind {
        CUT_NODE
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let right_sibling = SwipWord::new(self.right_sibling)?;
        change(page, |node, _| {
            let header = node.header()?;
            expect(node, header.level == 0, self.upper)?;
            let search = node.search(self.upper)?;
            if header.level > 0 && !search.found {
                return Err(SlottedError::Malformed);
            }
            let mut lower = Vec::new();
            node.lower_fence(&mut lower)?;
            let cells = Cells::of(node, 0..search.slot)?;
            let content = Content {
                tree: header.tree,
                level: header.level,
                lower: &lower,
                upper: Some(self.upper),
                right_sibling,
                first_child: first_child(node)?,
                parts: &[&cells],
            };
            content.write(page)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_page(out, self.right_sibling);
        out.extend_from_slice(self.upper);
    }
}
