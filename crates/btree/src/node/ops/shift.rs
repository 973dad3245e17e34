//! Cells that go to a sibling, which stays.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, PageOp, PageResult, PageWriter};

use super::{TRIM_LEFT, change, expect};
use crate::node::cells::Cells;
use crate::node::content::{Content, first_child};

/// Takes out of a node what its left sibling got: everything below the separator, which becomes the lower fence. An inner node has that
/// separator, and loses it too.
#[derive(Clone, Copy)]
pub(crate) struct TrimLeft<'a> {
    pub(crate) lower: &'a [u8],
}

impl<'a> TrimLeft<'a> {
    pub(super) fn decode(lower: &'a [u8]) -> Option<Self> {
        Some(Self { lower })
    }
}

impl PageOp for TrimLeft<'_> {
    fn kind(&self) -> OpKind {
        TRIM_LEFT
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, _| {
            let header = node.header()?;
            expect(node, header.level == 0, self.lower)?;
            let search = node.search(self.lower)?;
            let (from, first_child) = match header.level {
                0 => (search.slot, first_child(node)?),
                _ if search.found => (search.slot + 1, node.child(search.slot + 1)?),
                _ => return Err(SlottedError::Malformed),
            };
            let mut upper = Vec::new();
            let finite = node.upper_fence(&mut upper)?;
            let cells = Cells::of(node, from..node.count()?)?;
            let content = Content {
                tree: header.tree,
                level: header.level,
                lower: self.lower,
                upper: finite.then_some(&upper[..]),
                right_sibling: node.right_sibling()?,
                first_child,
                parts: &[&cells],
            };
            content.write(page)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lower);
    }
}
