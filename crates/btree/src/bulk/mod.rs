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
//!
//! ```text
//!   mod.rs      entries to nodes                      caller's thread
//!   ids.rs      where the nodes are to stand
//!   pages.rs    nodes to pages                        a thread of its own (writer.rs), or the caller's, entry by entry as the disk
//!                                                     takes pages: it is busy with the first while the next are made
//! ```

mod ids;
mod pages;
mod writer;

use std::collections::VecDeque;

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::Reserve;
use pagestone_page_format::{Lsn, PageId, PageResult};
use pagestone_swip::SwipWord;
use pagestone_threading::Spawner;

use self::ids::Ids;
use self::pages::Pages;
use self::writer::Writer;
use crate::batch::within;
use crate::descend::Seek;
use crate::error::TreeError;
use crate::node::{Closed, FormatNode, LevelBuilder, max_inline_value, max_key_len};
use crate::retry::optimistically;
use crate::split::split_log_bytes;
use crate::{BTree, TreeResult};

/// Pages reserved at once, at most: of leaves, which are written in a row, and of all levels above.
const LEAVES_STEP: u64 = 4096;
const INNER_STEP: u64 = 64;
/// Nodes above the leaves that are held back until they are written together: each breaks a run of leaves.
const INNER_HELD: usize = 256;

/// A node that was written, if the next leaf is to be made in its memory. The others are few; kept, they would become more and more.
fn worth_keeping(node: FormatNode) -> Option<FormatNode> {
    (node.level == 0).then_some(node)
}

/// As `<`, most often without a call of `memcmp`.
#[inline]
fn is_below(left: &[u8], right: &[u8]) -> bool {
    match (left.first_chunk(), right.first_chunk()) {
        (Some(left), Some(right)) if left != right => u64::from_be_bytes(*left) < u64::from_be_bytes(*right),
        _ => left < right,
    }
}

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

/// Makes the nodes, in the order in which they are to be written.
struct Loader<'e> {
    tree: &'e BTree,
    levels: Vec<Level>,
    leaves: Ids<'e>,
    inner: Ids<'e>,
    /// Nodes that wait to be written.
    ready: VecDeque<(PageId, FormatNode)>,
    held_back: Vec<(PageId, FormatNode)>,
    /// The node of the highest level, once all entries have come.
    root: Option<FormatNode>,
    /// Nodes that were given out to be written.
    pages: u64,
    /// Of long values, all of them: neighbours are one run, so that their number is not what a group is bounded by.
    values: Option<ExtentReservation<'e>>,
    /// The most bytes of a key, and of key and value of an entry that stands in a leaf.
    key_max: usize,
    cell_max: usize,
    /// Entries that have come. The last of them is the last one of the leaf under construction.
    entries: u64,
}

impl BTree {
    /// Fills an empty tree with entries in key order, each key once. Leaves are filled; the pages are written in large writes, once,
    /// and not logged. Others see no entry before all are there; whatever fails, the tree stays empty and no page is lost.
    ///
    /// Errors: `NotSorted`, `NotEmpty`, also if an entry was put meanwhile; `BatchTooLarge` if the space map's part of the group is
    /// larger than a group may be: past some millions of pages, or where free space is in many thousand pieces; those of [`BTree::put`].
    /// It takes a map page in the pool for each region that it fills, one for 126 MiB in pages of 4 KiB.
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> TreeResult<BulkLoaded> {
        let mut loader = Loader::new(self)?;
        let (mut entries, pages) = (entries.into_iter(), Pages::new(self));
        let mut failed = None;
        let written = self.env().pool().store().write_new_stream(&mut |page| {
            let made = loader.next_node(&mut entries).and_then(|node| match node {
                Some((id, node)) => {
                    pages.format(id, &node, page)?;
                    loader.spare().extend(worth_keeping(node));
                    Ok(true)
                }
                None => Ok(false),
            });
            made.unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        });
        failed.map_or(Ok(()), Err)?;
        written?;
        loader.finish()
    }

    /// As [`BTree::bulk_load`], with a thread that makes pages of nodes and writes them while the caller's makes nodes of entries.
    ///
    /// Errors: also `Io` where the system refuses the thread.
    pub fn bulk_load_by<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        threads: &Spawner,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> TreeResult<BulkLoaded> {
        let mut loader = Loader::new(self)?;
        // Dropped before the loader, whatever fails: ids that somebody is still writing to are not given back.
        let mut writer = Writer::start(self, threads)?;
        let mut entries = entries.into_iter();
        while let Some(node) = loader.next_node(&mut entries)? {
            if !writer.give(node, loader.spare()) {
                break; // it has failed
            }
        }
        writer.finish()?;
        loader.finish()
    }
}

impl<'e> Loader<'e> {
    fn new(tree: &'e BTree) -> TreeResult<Self> {
        let env = tree.env();
        env.check_open()?;
        if !tree.is_empty()? {
            return Err(TreeError::NotEmpty);
        }
        let size = env.pool().page_size();
        let builder = LevelBuilder::of_leaves(size, tree.tree_id());
        Ok(Self {
            tree,
            levels: vec![Level { builder, id: None }],
            leaves: Ids::new(env, LEAVES_STEP)?,
            inner: Ids::new(env, INNER_STEP)?,
            ready: VecDeque::new(),
            held_back: Vec::new(),
            root: None,
            pages: 0,
            values: None,
            key_max: max_key_len(size),
            cell_max: max_inline_value(size, 0),
            entries: 0,
        })
    }

    /// Nodes in whose memory leaves are made: whoever is done with one puts it here.
    fn spare(&mut self) -> &mut Vec<FormatNode> {
        &mut self.levels[0].builder.spare
    }

    /// The next node to be written; nothing once all are.
    fn next_node<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        entries: &mut impl Iterator<Item = (K, V)>,
    ) -> TreeResult<Option<(PageId, FormatNode)>> {
        loop {
            if let Some(node) = self.ready.pop_front() {
                self.pages += 1;
                return Ok(Some(node));
            }
            if self.held_back.len() >= INNER_HELD || (self.root.is_some() && !self.held_back.is_empty()) {
                self.held_back.sort_unstable_by_key(|(id, _)| *id);
                self.ready.extend(self.held_back.drain(..));
            } else if self.root.is_some() {
                return Ok(None);
            } else {
                self.make_nodes(entries)?;
            }
        }
    }

    /// Takes entries until nodes may wait to be written because of them, or there are no more.
    fn make_nodes<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        entries: &mut impl Iterator<Item = (K, V)>,
    ) -> TreeResult<()> {
        for (key, value) in entries {
            if self.add(key.as_ref(), value.as_ref())? {
                return Ok(());
            }
        }
        self.root = Some(self.end_levels()?);
        Ok(())
    }

    /// Puts an entry behind all others. True if nodes may wait to be written because of it.
    #[inline]
    fn add(&mut self, key: &[u8], value: &[u8]) -> TreeResult<bool> {
        let last = self.levels[0].builder.last_key();
        if last.is_some_and(|last| !is_below(last, key)) {
            return Err(TreeError::NotSorted { entry: self.entries });
        }
        if key.len() <= self.key_max && key.len() + value.len() <= self.cell_max {
            return self.push(key, value, 0);
        }
        self.add_long(key, value)
    }

    /// One whose value does not stand in a leaf, or that is none.
    #[cold]
    fn add_long(&mut self, key: &[u8], value: &[u8]) -> TreeResult<bool> {
        let mut placed = self.tree.place(key, value)?;
        if let Some(extents) = placed.extents.take() {
            match &mut self.values {
                Some(values) => values.join(extents),
                None => self.values = Some(extents),
            }
            self.check_size()?;
        }
        let cell = placed.cell();
        self.push(key, cell.value, cell.flags)
    }

    #[inline]
    fn push(&mut self, key: &[u8], value: &[u8], flags: u8) -> TreeResult<bool> {
        self.entries += 1;
        match self.levels[0].builder.push(key, value, flags, SwipWord::NULL) {
            None => Ok(false),
            Some(closed) => self.close_leaf(closed).map(|()| true),
        }
    }

    #[inline(never)]
    fn close_leaf(&mut self, closed: Closed) -> TreeResult<()> {
        self.close(0, closed)?;
        if self.pages.is_multiple_of(u64::from(u8::MAX)) { self.check_size() } else { Ok(()) }
    }

    /// Has a node written, when it is its turn.
    fn put(&mut self, level: usize, id: PageId, node: FormatNode) {
        if level == 0 { self.ready.push_back((id, node)) } else { self.held_back.push((id, node)) }
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
            self.put(level, id, node);
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
                Some(id) => self.put(level, id, last),
                None => return Ok(last),
            }
            level += 1;
        }
    }

    /// Puts all that was written to use.
    fn finish(mut self) -> TreeResult<BulkLoaded> {
        let (env, entries) = (self.tree.env(), self.entries);
        if entries == 0 {
            return Ok(BulkLoaded::default());
        }
        let root = self.root.take().expect("all entries have come");
        self.check_size()?;
        let pages = self.pages;
        let mut extents = vec![self.leaves.finish(), self.inner.finish()];
        extents.extend(self.values);
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
                return Err(TreeError::NotEmpty.into());
            }
            Ok(leaf.into_exclusive()?)
        })?;
        let page = txn.latch(page);
        extents.into_iter().try_for_each(|extents| txn.take_extents(extents))?;
        txn.change(page, &root)?;
        let lsn = Some(txn.commit()?.lsn);
        Ok(BulkLoaded { entries, pages, lsn })
    }

    /// Refuses what would be too large a group.
    fn check_size(&self) -> TreeResult<()> {
        let env = self.tree.env();
        let value_runs = self.values.as_ref().map_or(0, |values| values.runs().len());
        let runs = self.leaves.runs().len() + self.inner.runs().len() + value_runs;
        let log_bytes = split_log_bytes(env.pool().page_size(), 1);
        // In the log a run counts as a page does.
        let group = Reserve { log_bytes, new_pages: runs, ..Reserve::default() };
        within("log bytes", group.group_bytes(), env.log().max_group_bytes())
    }
}
