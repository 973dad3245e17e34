//! Nodes to pages that are written past the pool.
//!
//! Invariant: nothing refers to what is written here before the group that takes the extents; whatever fails, the reservations are
//! dropped and nothing is left behind. All pages carry one LSN, as those of long values do and for the same reasons
//! (`overflow/write.rs`): where the log was durable when the load began.

use pagestone_page_format::{Lsn, PageId};

use crate::node::FormatNode;
use crate::{BTree, TreeResult};

pub(super) struct Pages {
    tree: BTree,
    lsn: Lsn,
}

impl Pages {
    pub(super) fn new(tree: &BTree) -> Self {
        Self { tree: tree.clone(), lsn: tree.env().log().durable_lsn() }
    }

    /// Makes `page` the page of a node, to be written at once.
    pub(super) fn format(&self, id: PageId, node: &FormatNode, page: &mut [u8]) -> TreeResult<()> {
        let env = self.tree.env();
        env.check_open()?;
        env.poison().check()?;
        Ok(node.write_image(id, self.lsn, page)?)
    }
}
