//! The whole store into as small a file as it fits, beside readers and writers.
//!
//! Invariant: every step is a group of its own that leaves every tree whole, with the same entries; so whatever ends a compaction, an
//! error, a power cut, costs nothing but what was not done yet. The data file never grows by it: pages move only to ids that are free
//! and lower.
//!
//! ```text
//!   1  every region of the space map is read: all that is free is known
//!   2  pack       nodes are filled from their neighbours, level by level; the others go (btree/compact)
//!   3  values     two checkpoints make what is free free for extents (L8); long values at the end of the file are written further down
//!   4  pages      nodes at the end of the file take free ids further down
//!   5  tail       regions that hold nothing are dropped; checkpoints; the file is cut (tail.rs)
//! ```
//!
//! What counts as the end of the file is everything past as many pages as are in use when a step begins. Roots stay where they are (L11).
//! Where writers take the free ids meanwhile, less moves; where they free more, the next compaction finds it.

use std::time::{Duration, Instant};

use pagestone_btree::{BTree, Fill, TreeError, TreeResult};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{PageId, PageResult};

use crate::checkpoint::Core;
use crate::superblock::PAGES_AT;
use crate::{StoreError, StoreResult};

/// Steps between two looks at how full the log is.
const EASE_EVERY: u64 = 32;
/// Passes over the long values: what one frees the next may find in a row. From the third on values may come into more pieces than they had.
const VALUE_PASSES: usize = 6;
const WHOLE_PASSES: usize = 2;
/// Nodes between two reports of progress.
const PROGRESS_EVERY: u64 = 1024;

/// What a compaction is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompactStep {
    /// Fills nodes from their neighbours.
    Pack,
    /// Writes long values further down in the file.
    Values,
    /// Moves nodes further down in the file.
    Pages,
    /// Makes checkpoints and cuts the file.
    Tail,
}

/// How far a compaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactProgress {
    /// The step.
    pub step: CompactStep,
    /// Nodes that it has looked at.
    pub done: u64,
    /// Pages that were in use when the compaction began: a bound for each step that others do not raise meanwhile.
    pub of: u64,
}

/// What a compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactReport {
    /// Bytes of the data file before.
    pub bytes_before: u64,
    /// Bytes of the data file behind it.
    pub bytes_after: u64,
    /// Pages of nodes that became free because others took their entries.
    pub freed_pages: u64,
    /// Pages of nodes that moved.
    pub moved_pages: u64,
    /// Pages of long values that were written again.
    pub moved_value_pages: u64,
    /// How long it took.
    pub took: Duration,
}

impl CompactReport {
    /// Every figure by name, with what it means. Names end in their unit.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        let took = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        vec![
            ("bytes_before", "bytes of the data file before", self.bytes_before),
            ("bytes_after", "bytes of the data file behind it", self.bytes_after),
            (
                "freed_pages",
                "pages of nodes that became free because others took their entries",
                self.freed_pages,
            ),
            ("moved_pages", "pages of nodes that moved", self.moved_pages),
            ("moved_value_pages", "pages of long values that were written again", self.moved_value_pages),
            ("took_microseconds", "how long it took", took),
        ]
    }
}

/// One compaction.
struct Compaction<'c> {
    core: &'c Core,
    report: CompactReport,
    progress: CompactProgress,
    tell: &'c mut dyn FnMut(CompactProgress),
    steps: u64,
}

impl Core {
    /// Compacts all trees and cuts the file; one at a time.
    pub(crate) fn compact(&self, tell: &mut dyn FnMut(CompactProgress)) -> StoreResult<CompactReport> {
        self.env.check_open()?;
        let _one = self.compacting.lock();
        let began = Instant::now();
        // 1.
        self.env.allocator().load_all(&*self.env)?;
        let of = pages_in_use(&self.env);
        let progress = CompactProgress { step: CompactStep::Pack, done: 0, of };
        let mut compaction =
            Compaction { core: self, report: CompactReport::default(), progress, tell, steps: 0 };
        compaction.report.bytes_before = self.file_bytes()?;
        compaction.run()?;
        let CompactReport { freed_pages, moved_pages, moved_value_pages, bytes_before, .. } =
            compaction.report;
        let bytes_after = self.file_bytes()?;
        let took = began.elapsed();
        Ok(CompactReport { freed_pages, moved_pages, moved_value_pages, bytes_before, bytes_after, took })
    }

    fn file_bytes(&self) -> PageResult<u64> {
        Ok(PAGES_AT + self.env.pool().store().len()? * self.env.pool().page_size().get() as u64)
    }
}

impl Compaction<'_> {
    fn run(&mut self) -> StoreResult<()> {
        self.begin(CompactStep::Pack);
        self.each_tree(|this, tree| this.pack(tree))?;
        self.begin(CompactStep::Values);
        for pass in 0..VALUE_PASSES {
            // What was freed may be extents once both copies of the superblock have passed it.
            self.core.empty_log()?;
            let (end, moved) = (self.end(), self.report.moved_value_pages);
            let mut full = false;
            let in_pieces = pass >= WHOLE_PASSES;
            self.each_tree(|this, tree| this.move_values(tree, end, in_pieces, &mut full))?;
            if !full || (in_pieces && self.report.moved_value_pages == moved) {
                break;
            }
        }
        self.begin(CompactStep::Pages);
        let end = self.end();
        self.each_tree(|this, tree| this.move_pages(tree, end))?;
        self.begin(CompactStep::Tail);
        while self.core.env.drop_last_region()? {}
        // One pair until no recovery needs what was freed, one until both copies say how much shorter the file may be.
        self.core.empty_log()?;
        self.core.empty_log()?;
        Ok(self.core.cut_whole_tail()?)
    }

    /// Pages from here on are at the end of the file.
    fn end(&self) -> PageId {
        PageId::new(pages_in_use(&self.core.env))
    }

    /// Every tree but those that are being dropped, or are dropped meanwhile.
    fn each_tree(&mut self, mut work: impl FnMut(&mut Self, &BTree) -> StoreResult<()>) -> StoreResult<()> {
        for tree in self.core.kept_trees()? {
            match work(self, &tree) {
                Ok(()) | Err(StoreError::Tree(TreeError::Dropped)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Inner nodes first, so that leaves have as few parents as can be and as many siblings; and then again, as they have fewer children.
    fn pack(&mut self, tree: &BTree) -> StoreResult<()> {
        let levels = levels_below_root(tree)?;
        for level in levels.clone().rev().chain(levels.skip(1)) {
            let mut from = Some(Vec::new());
            while let Some(key) = from {
                let packed = tree.pack(level, &key, Fill::Whole)?;
                self.report.freed_pages += packed.freed;
                self.step(packed.looked)?;
                from = packed.next;
            }
        }
        Ok(tree.shrink_root()?)
    }

    fn move_values(
        &mut self,
        tree: &BTree,
        end: PageId,
        in_pieces: bool,
        full: &mut bool,
    ) -> StoreResult<()> {
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let moved = tree.move_value(&key, end, in_pieces)?;
            self.report.moved_value_pages += moved.pages;
            *full |= moved.full;
            self.step(moved.looked)?;
            from = moved.next;
        }
        Ok(())
    }

    fn move_pages(&mut self, tree: &BTree, end: PageId) -> StoreResult<()> {
        for level in levels_below_root(tree)? {
            let mut from = Some(Vec::new());
            while let Some(key) = from {
                let relocated = tree.relocate(level, &key, end)?;
                self.report.moved_pages += relocated.moved;
                self.step(relocated.looked)?;
                if relocated.full {
                    return Ok(());
                }
                from = relocated.next;
            }
        }
        Ok(())
    }

    fn begin(&mut self, step: CompactStep) {
        (self.progress.step, self.progress.done) = (step, 0);
        self.tell();
    }

    /// Between two groups: nothing is latched.
    fn step(&mut self, looked: u64) -> StoreResult<()> {
        self.core.env.check_open()?;
        let before = self.progress.done / PROGRESS_EVERY;
        self.progress.done += looked;
        if self.progress.done / PROGRESS_EVERY != before {
            self.tell();
        }
        self.steps += 1;
        // Where no thread of ours does it, or it does not keep up.
        if self.steps.is_multiple_of(EASE_EVERY) && self.core.presses() {
            self.core.relieve()?;
        }
        Ok(())
    }

    fn tell(&mut self) {
        let CompactProgress { step, done, of } = self.progress;
        (self.tell)(CompactProgress { step, done: done.min(of), of });
    }
}

/// Pages that are in use, reserved or held by readers, once all regions are known.
pub(crate) fn pages_in_use(env: &LoggedPool) -> u64 {
    let allocator = env.allocator();
    allocator.high_water().map_or(0, |high| high.saturating_sub(allocator.free_count()))
}

/// The levels below the root, from the leaves up.
pub(crate) fn levels_below_root(tree: &BTree) -> TreeResult<std::ops::Range<u8>> {
    let height = tree.stats()?.height;
    Ok(0..u8::try_from(height.saturating_sub(1)).unwrap_or(u8::MAX))
}
