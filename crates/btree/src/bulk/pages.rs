//! Nodes to pages that are written past the pool.
//!
//! Invariant: nothing refers to what is written here before the group that takes the extents; whatever fails, the reservations are
//! dropped and nothing is left behind. All pages carry one LSN, as those of long values do and for the same reasons
//! (`overflow/write.rs`): where the log was durable when the load began.

use pagestone_page_format::{Lsn, Page, PageId, PageKind, PageOp, PageWriter};
use pagestone_sync::atomic::AtomicU64;

use crate::node::FormatNode;
use crate::{BTree, TreeResult};

pub(super) struct Pages {
    tree: BTree,
    lsn: Lsn,
    words: Box<[AtomicU64]>,
}

impl Pages {
    pub(super) fn new(tree: &BTree) -> Self {
        let env = tree.env();
        let words = (0..env.pool().page_size().words()).map(|_| AtomicU64::new(0)).collect();
        Self { tree: tree.clone(), lsn: env.log().durable_lsn(), words }
    }

    /// Makes `page` the page of a node, to be written at once (P13).
    pub(super) fn format(&mut self, id: PageId, node: &FormatNode, page: &mut Page) -> TreeResult<()> {
        let env = self.tree.env();
        env.check_open()?;
        env.poison().check()?;
        let writer = PageWriter::new(&self.words);
        writer.put_header(PageKind::PLAIN, id);
        node.apply(&writer)?;
        writer.set_lsn(self.lsn).map_err(|error| error.malformed(id))?;
        writer.read().copy_out(page.bytes_mut());
        env.pool().discard(id)?;
        Ok(())
    }
}
