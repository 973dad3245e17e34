//! A tree from entries that come in key order: bottom up, each page written once, in large writes past the pool and the log.
//!
//! Invariant: nothing refers to the pages before one group puts them to use and makes the root of them; the group waits for the data
//! file (L12). So a crash leaves the tree as it was, or with all entries, and costs no page; others see them come at one instant.
//!
//! ```text
//!   entries ─► leaf ─► leaf ─► leaf        full leaves, written in the order of their ids
//!                │ separator, id
//!                └─► inner ─► inner        a level above takes what a level below closes
//!                       └─► root           the one node of the top level: in the page of the root, which the group formats (L11)
//! ```
//!
//! A node's right sibling has its id when the node is closed, so none waits for another.

mod sink;

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::Reserve;
use pagestone_page_format::{Lsn, PageId, PageResult};
use pagestone_swip::SwipWord;

use self::sink::{Ids, Sink};
use crate::batch::within;
use crate::descend::Seek;
use crate::error::{Interrupt, TreeError};
use crate::node::{Closed, FormatNode, LevelBuilder};
use crate::retry::optimistically;
use crate::split::split_log_bytes;
use crate::{BTree, TreeResult};

/// Pages reserved at once, at most: of leaves, which are written in a row, and of all levels above.
const LEAVES_STEP: u64 = 4096;
const INNER_STEP: u64 = 64;

/// What [`BTree::bulk_load`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BulkLoaded {
    /// Entries.
    pub entries: u64,
    /// Pages of nodes that were written, beside the root.
    pub pages: u64,
    /// Durable once the log is durable up to here; none if there was nothing to load.
    pub lsn: Option<Lsn>,
}

/// A level under construction.
struct Level {
    builder: LevelBuilder,
    /// Of the node under construction; none while it may be the root.
    id: Option<PageId>,
}

struct Loader<'e> {
    tree: &'e BTree,
    levels: Vec<Level>,
    leaves: Ids<'e>,
    inner: Ids<'e>,
    sink: Sink<'e>,
    /// Of long values.
    values: Vec<ExtentReservation<'e>>,
    value_runs: usize,
}

impl BTree {
    /// Fills an empty tree with entries in key order, each key once. Leaves are filled; the pages are written in large writes, once,
    /// and not logged. Others see no entry before all are there; whatever fails, the tree stays empty and no page is lost.
    ///
    /// Errors: `NotSorted`, `NotEmpty`, also if an entry was put meanwhile; `BatchTooLarge` if the space map's part of the group is
    /// larger than a group may be, some millions of pages or some ten thousand long values; those of [`BTree::put`]. It takes a map page in the pool for
    /// each region that it fills, one for 126 MiB in pages of 4 KiB.
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> TreeResult<BulkLoaded> {
        self.env().check_open()?;
        if !self.is_empty()? {
            return Err(TreeError::NotEmpty);
        }
        let mut loader = Loader::new(self)?;
        let mut last: Option<Vec<u8>> = None;
        let mut count = 0;
        for (key, value) in entries {
            let key = key.as_ref();
            if last.as_deref().is_some_and(|last| last >= key) {
                return Err(TreeError::NotSorted { entry: count });
            }
            loader.add(key, value.as_ref())?;
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            count += 1;
        }
        if count == 0 {
            return Ok(BulkLoaded::default());
        }
        let (lsn, pages) = loader.finish()?;
        Ok(BulkLoaded { entries: count, pages, lsn: Some(lsn) })
    }
}

impl<'e> Loader<'e> {
    fn new(tree: &'e BTree) -> PageResult<Self> {
        let env = tree.env();
        let builder = LevelBuilder::of_leaves(env.pool().page_size(), tree.tree_id());
        Ok(Self {
            tree,
            levels: vec![Level { builder, id: None }],
            leaves: Ids::new(env, LEAVES_STEP)?,
            inner: Ids::new(env, INNER_STEP)?,
            sink: Sink::new(env),
            values: Vec::new(),
            value_runs: 0,
        })
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> TreeResult<()> {
        let mut placed = self.tree.place(key, value)?;
        if let Some(extents) = placed.extents.take() {
            self.value_runs += extents.runs().len();
            self.values.push(extents);
            self.check_size()?;
        }
        let cell = placed.cell();
        let closed = self.levels[0].builder.push(key, cell.value, cell.flags, SwipWord::NULL);
        if let Some(closed) = closed {
            self.close(0, closed)?;
            if self.sink.written.is_multiple_of(u64::from(u8::MAX)) {
                self.check_size()?;
            }
        }
        Ok(())
    }

    fn take_id(&mut self, level: usize) -> PageResult<PageId> {
        if level == 0 { self.leaves.take() } else { self.inner.take() }
    }

    /// Writes a node that is full, and puts the next one into the level above, which may be full by that.
    fn close(&mut self, mut level: usize, closed: Closed) -> PageResult<()> {
        let mut closed = Some(closed);
        while let Some(Closed { mut node, separator }) = closed {
            let id = match self.levels[level].id {
                Some(id) => id,
                None => self.take_id(level)?,
            };
            let next = self.take_id(level)?;
            self.levels[level].id = Some(next);
            node.right_sibling = SwipWord::new(next)?;
            self.sink.put(id, &node)?;
            level += 1;
            if level == self.levels.len() {
                self.begin_level(SwipWord::new(id)?);
            }
            closed = self.levels[level].builder.push(&separator, &[], 0, SwipWord::new(next)?);
        }
        Ok(())
    }

    /// A level above all that there are.
    fn begin_level(&mut self, first_child: SwipWord) {
        let (size, tree) = (self.tree.env().pool().page_size(), self.tree.tree_id());
        // Each level has a fourth of the pages of the one below, at most: a byte counts more than there can be.
        let level = u8::try_from(self.levels.len()).expect("fewer levels than 256");
        self.levels.push(Level { builder: LevelBuilder::of_inner(size, tree, level, first_child), id: None });
    }

    /// Ends all levels; gives the root.
    fn end_levels(&mut self) -> PageResult<FormatNode> {
        let mut level = 0;
        loop {
            let (closed, last) = self.levels[level].builder.finish();
            if let Some(closed) = closed {
                self.close(level, closed)?;
            }
            match self.levels[level].id {
                Some(id) => self.sink.put(id, &last)?,
                None => return Ok(last),
            }
            level += 1;
        }
    }

    fn finish(mut self) -> TreeResult<(Lsn, u64)> {
        let env = self.tree.env();
        let root = self.end_levels()?;
        self.sink.flush()?;
        self.check_size()?;
        let pages = self.sink.written;
        let mut extents = self.values;
        extents.extend([self.leaves.finish(), self.inner.finish()]);
        extents.retain(|extents| extents.pages() > 0);
        let runs: Vec<(PageId, u32)> =
            extents.iter().flat_map(|extents| extents.runs().iter().copied()).collect();
        // A reader with a stale swip may have brought one of them into the pool meanwhile (P13).
        for (first, count) in &runs {
            for id in first.get()..first.get() + u64::from(*count) {
                env.pool().discard(PageId::new(id))?;
            }
        }
        let log_bytes = split_log_bytes(env.pool().page_size(), 1);
        let mut txn = env.begin(Reserve { log_bytes, pins: 1, extents: &runs, ..Reserve::default() })?;
        let tree = self.tree;
        let page = optimistically(env, |attempt| {
            let leaf = tree.descend(attempt.writing(), Seek::Key(b""), |_, _| Ok(()))?;
            let count = leaf.believe(leaf.view().count())?;
            leaf.validate()?;
            if leaf.id() != tree.root_id() || count > 0 {
                return Err(Interrupt::Fail(TreeError::NotEmpty));
            }
            Ok(leaf.into_exclusive()?)
        })?;
        let page = txn.latch(page);
        extents.into_iter().try_for_each(|extents| txn.take_extents(extents))?;
        txn.change(page, &root)?;
        Ok((txn.commit()?.lsn, pages))
    }

    /// Refuses what would be too large a group.
    fn check_size(&self) -> TreeResult<()> {
        let env = self.tree.env();
        let runs = self.leaves.runs().len() + self.inner.runs().len() + self.value_runs;
        let log_bytes = split_log_bytes(env.pool().page_size(), 1);
        // In the log a run counts as a page does.
        let group = Reserve { log_bytes, new_pages: runs, ..Reserve::default() };
        within("log bytes", group.group_bytes(), env.log().max_group_bytes())
    }
}
