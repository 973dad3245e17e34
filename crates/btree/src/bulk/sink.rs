//! Nodes to their pages, past the pool, in large writes.
//!
//! Invariant: nothing refers to what is written here before the group that takes the extents; whatever fails, the reservations are
//! dropped and nothing is left behind. All pages carry one LSN, as those of long values do and for the same reasons
//! (`overflow/write.rs`): where the log was durable when the load began.

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{Lsn, Page, PageId, PageKind, PageOp, PageResult, PageWriter};
use pagestone_sync::atomic::AtomicU64;

use crate::node::FormatNode;
use crate::overflow::{BATCH_BYTES, ids_of};

/// Runs that one more reservation may fall into: free space in pieces is worth less than large writes.
const RUNS: usize = 16;

/// Page ids in the order in which they are to be filled.
pub(super) struct Ids<'e> {
    env: &'e LoggedPool,
    extents: ExtentReservation<'e>,
    /// The next ones, the last of them first.
    next: Vec<PageId>,
    used: u64,
    /// The most that is reserved at once.
    step_max: u64,
}

impl<'e> Ids<'e> {
    pub(super) fn new(env: &'e LoggedPool, step_max: u64) -> PageResult<Self> {
        let extents = env.allocator().reserve_extents(env, 1, 1)?;
        let next = ids_of(&extents, 0, 1);
        Ok(Self { env, extents, next, used: 0, step_max })
    }

    /// One more.
    pub(super) fn take(&mut self) -> PageResult<PageId> {
        if self.next.is_empty() {
            let (have, step) = (self.extents.pages(), self.extents.pages().min(self.step_max));
            self.extents.extend(self.env, step, RUNS)?;
            self.next = ids_of(&self.extents, have, step as usize);
            self.next.reverse();
        }
        self.used += 1;
        Ok(self.next.pop().expect("as many as were reserved"))
    }

    pub(super) fn runs(&self) -> &[(PageId, u32)] {
        self.extents.runs()
    }

    /// Those that were taken; the others are given back.
    pub(super) fn finish(mut self) -> ExtentReservation<'e> {
        self.extents.trim(self.used);
        self.extents
    }
}

/// Where nodes are written.
pub(super) struct Sink<'e> {
    env: &'e LoggedPool,
    lsn: Lsn,
    /// Buffers; the first `filled` wait to be written.
    pages: Vec<Page>,
    filled: usize,
    node: Box<[AtomicU64]>,
    pub(super) written: u64,
}

impl<'e> Sink<'e> {
    pub(super) fn new(env: &'e LoggedPool) -> Self {
        let node = (0..env.pool().page_size().words()).map(|_| AtomicU64::new(0)).collect();
        Self { env, lsn: env.log().durable_lsn(), pages: Vec::new(), filled: 0, node, written: 0 }
    }

    /// Puts a node at the place of this id.
    pub(super) fn put(&mut self, id: PageId, node: &FormatNode) -> PageResult<()> {
        let writer = PageWriter::new(&self.node);
        writer.format(PageKind::PLAIN, id);
        node.apply(&writer)?;
        writer.set_lsn(self.lsn).map_err(|error| error.malformed(id))?;
        if self.filled == self.pages.len() {
            self.pages.push(self.env.pool().store().allocate_page(id));
        }
        writer.read().copy_out(self.pages[self.filled].bytes_mut());
        self.filled += 1;
        self.written += 1;
        if self.filled * self.env.pool().page_size().get() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what waits (P13).
    pub(super) fn flush(&mut self) -> PageResult<()> {
        self.env.check_open()?;
        self.env.poison().check()?;
        let pages = &mut self.pages[..self.filled];
        pages.sort_unstable_by_key(|page| page.id());
        for page in &*pages {
            self.env.pool().discard(page.id())?;
        }
        self.env.pool().store().write_new(pages)?;
        self.filled = 0;
        Ok(())
    }
}
