//! One look at the whole data file.

use std::collections::BTreeMap;

use pagestone_allocator::{MapSource, RegionBits, region_bits};
use pagestone_btree::{BTree, CheckVisitor, PageUse, ReachedPage, TreeFinding, TreeProblem};
use pagestone_page_format::{Page, PageError, PageId, PageResult};
use pagestone_sync::thread;

use super::page_set::PageSet;
use super::report::{FINDINGS_MAX, Finding, Findings, Problem, VerifyProgress, VerifyReport, VerifyStep};
use crate::StoreResult;
use crate::catalog::CATALOG_TREE;
use crate::checkpoint::{Core, Judged};
use crate::superblock::PAGES_AT;

/// Pages read from the file at once.
const BATCH: usize = 64;
/// How often a page is read again that was perhaps being written.
const READS: usize = 16;
/// Pages between two reports of progress.
const PROGRESS_EVERY: u64 = 1024;

/// What a look saw.
pub(super) struct Looked {
    pub(super) report: VerifyReport,
    /// Pages that trees use for values.
    pub(super) values: PageSet,
}

pub(super) struct Look<'c> {
    core: &'c Core,
    progress: Progress<'c>,
    report: VerifyReport,
    findings: Findings,
    /// Ids of a region.
    bits: u64,
    /// The map as it was before the trees were walked.
    before: BTreeMap<u64, RegionBits>,
    reached: PageSet,
    values: PageSet,
    buffers: Vec<Page>,
}

impl<'c> Look<'c> {
    pub(super) fn new(core: &'c Core, look: u32, progress: &'c mut dyn FnMut(VerifyProgress)) -> Self {
        Self {
            core,
            progress: Progress { look, step: VerifyStep::Map, done: 0, of: 0, tell: progress },
            report: VerifyReport { looks: look, ..VerifyReport::default() },
            findings: Findings::default(),
            bits: region_bits(core.env.pool().page_size()),
            before: BTreeMap::new(),
            reached: PageSet::default(),
            values: PageSet::default(),
            buffers: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> StoreResult<Looked> {
        self.core.env.check_open()?;
        self.superblock()?;
        self.map()?;
        self.trees()?;
        self.pages()?;
        self.findings.into_report(&mut self.report);
        Ok(Looked { report: self.report, values: self.values })
    }

    fn file_pages(&self) -> PageResult<u64> {
        self.core.env.pool().store().len()
    }

    fn found(
        &mut self,
        page_id: Option<PageId>,
        problem: Problem,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.findings.add(Finding { page_id, problem, expected: expected.into(), found: found.into() });
    }

    /// Step 1.
    fn superblock(&mut self) -> StoreResult<()> {
        let Judged { wrong, data_pages, pages } = self.core.judge_superblock()?;
        for (copy, why) in wrong {
            self.found(None, Problem::Superblock, format!("a whole copy {copy} of the superblock"), why);
        }
        if pages < data_pages {
            self.found(None, Problem::Length, format!("{data_pages} pages"), format!("{pages} pages"));
        }
        self.progress.of = pages;
        Ok(())
    }

    /// Step 2.
    fn map(&mut self) -> StoreResult<()> {
        let mut regions = 1;
        let mut region = 0;
        while region < regions {
            let (id, file_pages) = (PageId::new(region * self.bits), self.file_pages()?);
            if id.get() >= file_pages {
                let expected = format!("a file with the maps of {regions} regions");
                self.found(Some(id), Problem::Length, expected, format!("{file_pages} pages"));
                break;
            }
            if let Some(bits) = self.region(region)? {
                regions = bits.regions().unwrap_or(regions);
                self.before.insert(region, bits);
            }
            region += 1;
            self.progress.add(1);
        }
        self.report.map_pages = region;
        Ok(())
    }

    /// The bits of a region; none, and a finding, if its map page cannot be used.
    fn region(&mut self, region: u64) -> StoreResult<Option<RegionBits>> {
        let id = PageId::new(region * self.bits);
        let error = match self.core.env.load_region(region) {
            Ok(Some(bits)) => return Ok(Some(bits)),
            Ok(None) => "none".to_owned(),
            Err(error) if is_of_the_handle(&error) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        self.found(Some(id), Problem::Map, format!("the map of region {region}"), error);
        Ok(None)
    }

    /// Step 3.
    fn trees(&mut self) -> StoreResult<()> {
        self.progress.begin(VerifyStep::Trees);
        let (trees, wrong) = self.core.all_trees()?;
        for wrong in wrong {
            let root = Some(self.core.catalog.root_id());
            self.found(root, Problem::Catalog, "the trees by name", wrong.to_string());
            self.report.not_looked_below += 1; // there may be trees that nobody told of
        }
        for tree in trees {
            let before = std::mem::take(&mut self.findings);
            let seen = tree.check(self)?;
            let of_tree = std::mem::replace(&mut self.findings, before);
            if !of_tree.is_empty() && !self.is_listed(&tree)? {
                continue; // dropped meanwhile: its pages are free, or others'
            }
            self.findings.append(of_tree);
            let is_catalog = tree.tree_id() == CATALOG_TREE;
            self.report.trees += u64::from(!is_catalog);
            self.report.nodes += seen.nodes;
            self.report.leaves += seen.leaves;
            self.report.entries += if is_catalog { 0 } else { seen.entries };
            self.report.value_pages += seen.value_pages;
            self.report.not_looked_below += seen.not_looked_below;
        }
        Ok(())
    }

    /// Whether the store still has this tree, as far as its catalog can be read. Its entry goes in the group that frees its root, and
    /// its id is never another's.
    fn is_listed(&self, tree: &BTree) -> StoreResult<bool> {
        let (trees, wrong) = self.core.all_trees()?;
        let is_it = |other: &BTree| (other.tree_id(), other.root_id()) == (tree.tree_id(), tree.root_id());
        Ok(!wrong.is_empty() || trees.iter().any(is_it))
    }

    /// Steps 4 and 5, region by region.
    fn pages(&mut self) -> StoreResult<()> {
        self.progress.begin(VerifyStep::Pages);
        let (mut in_use, mut regions) = (0, self.report.map_pages);
        for region in 0..self.report.map_pages {
            let after = self.region(region)?;
            // Regions may have been added behind those that were looked at.
            regions = after.as_ref().and_then(RegionBits::regions).unwrap_or(regions).max(regions);
            if let (Some(before), Some(after)) = (self.before.remove(&region), after) {
                in_use += self.compare(&before, &after)?;
            }
        }
        self.unmapped(regions);
        self.report.pages = self.file_pages()?;
        self.report.free_pages = self.report.pages.saturating_sub(in_use);
        let page_size = self.core.env.pool().page_size().get() as u64;
        self.report.bytes = PAGES_AT + self.report.pages * page_size;
        Ok(())
    }

    /// One region's bits against what was reached; gives how many pages are in use.
    fn compare(&mut self, before: &RegionBits, after: &RegionBits) -> StoreResult<u64> {
        let file_pages = self.file_pages()?;
        let first = after.region() * self.bits;
        let (mut in_use, mut batch) = (0, Vec::with_capacity(BATCH));
        // Most of a region is free and reached by nothing: 64 such pages are one word of zeros each.
        for word in (first..first + self.bits).step_by(64).map(PageId::new) {
            let (was, is) = (before.word_at(word), after.word_at(word));
            let reached = self.reached.word_at(word) | u64::from(word.get() == first);
            in_use += u64::from(is.count_ones());
            for id in bits_of(was | is | reached).map(|bit| PageId::new(word.get() + bit)) {
                let mask = 1 << (id.get() - word.get());
                let (was, is, reached) = (was & mask != 0, is & mask != 0, reached & mask != 0);
                // Asked again: a page that was freed meanwhile may have been cut off.
                if is && id.get() >= file_pages && self.is_in_use(id)? {
                    self.found(
                        Some(id),
                        Problem::Length,
                        "a page of the file",
                        format!("{file_pages} pages"),
                    );
                } else if was && is {
                    if !reached && self.report.not_looked_below == 0 {
                        self.found(
                            Some(id),
                            Problem::Leaked,
                            "a page that something refers to",
                            "none that does",
                        );
                    }
                    batch.push(id);
                } else if !was && !is && reached {
                    self.found(
                        Some(id),
                        Problem::Dangling,
                        "a page in use",
                        "a free one that is referred to",
                    );
                }
                if batch.len() == BATCH {
                    self.read(&batch)?;
                    batch.clear();
                }
            }
        }
        self.read(&batch)?;
        Ok(in_use)
    }

    /// Pages that were reached in regions that there are none of.
    fn unmapped(&mut self, regions: u64) {
        let end = regions.saturating_mul(self.bits);
        let beyond: Vec<PageId> =
            self.reached.iter().filter(|id| id.get() >= end).take(FINDINGS_MAX).collect();
        for id in beyond {
            let found = format!("one behind all {regions} regions of the space map");
            self.found(Some(id), Problem::Dangling, "a page in use", found);
        }
    }

    /// Reads pages as they stand in the file, past the pool.
    fn read(&mut self, ids: &[PageId]) -> StoreResult<()> {
        let (store, log) = (self.core.env.pool().store(), self.core.env.log());
        let mut pages = std::mem::take(&mut self.buffers);
        while pages.len() < ids.len() {
            pages.push(store.allocate_page(PageId::new(0)));
        }
        let read = store.read_many(ids, &mut pages[..ids.len()]);
        let end = log.end_lsn();
        for ((id, page), read) in ids.iter().zip(&pages).zip(read) {
            match read {
                Ok(()) if page.lsn() > end => {
                    let (expected, found) = (format!("an LSN up to {end}"), page.lsn().to_string());
                    self.found(Some(*id), Problem::Unreadable, expected, found);
                }
                Ok(()) => {}
                Err(error) => self.read_again(*id, error)?,
            }
        }
        self.buffers = pages;
        self.progress.add(ids.len() as u64);
        Ok(())
    }

    /// An error is believed of a page that is in use and was written, unless a write of it explains it.
    fn read_again(&mut self, id: PageId, mut error: PageError) -> StoreResult<()> {
        let pool = self.core.env.pool();
        let mut page = pool.store().allocate_page(id);
        for _ in 0..READS {
            if pool.is_dirty(id) || !self.is_in_use(id)? {
                return Ok(());
            }
            match pool.store().read_into(id, &mut page) {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
            thread::yield_now();
        }
        self.found(Some(id), Problem::Unreadable, "the page as it was written", error.to_string());
        Ok(())
    }

    /// Whether its bit is set now, as far as the map can be read.
    fn is_in_use(&self, id: PageId) -> StoreResult<bool> {
        match self.core.env.load_region(id.get() / self.bits) {
            Ok(bits) => Ok(bits.and_then(|bits| bits.is_allocated(id)).unwrap_or(true)),
            Err(error) if is_of_the_handle(&error) => Err(error.into()),
            Err(_) => Ok(true),
        }
    }
}

/// What the trees tell.
impl CheckVisitor for Look<'_> {
    fn page(&mut self, page: ReachedPage) -> bool {
        self.progress.add(1);
        let (id, is_value) = (page.page_id, page.usage == PageUse::Value);
        let new = self.reached.insert(id);
        if new && is_value {
            self.values.insert(id);
        } else if !new && is_value != self.values.contains(id) {
            let problem = Problem::Tree(TreeProblem::Shared);
            self.found(Some(id), problem, "a node or a part of a value", "both");
        }
        new
    }

    fn is_reached(&self, page_id: PageId) -> bool {
        self.reached.contains(page_id)
    }

    fn finding(&mut self, finding: TreeFinding) {
        let TreeFinding { page_id, problem, expected, found } = finding;
        self.found(Some(page_id), Problem::Tree(problem), expected, found);
    }
}

/// The bits of a word that are set, rising.
fn bits_of(mut word: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| u64::from(word.trailing_zeros()));
        word &= word.wrapping_sub(1);
        bit
    })
}

/// Whether an error says nothing about the page that was asked for.
pub(super) fn is_of_the_handle(error: &PageError) -> bool {
    matches!(error, PageError::Closed | PageError::Poisoned { .. } | PageError::BufferPoolExhausted { .. })
}

struct Progress<'c> {
    look: u32,
    step: VerifyStep,
    done: u64,
    of: u64,
    tell: &'c mut dyn FnMut(VerifyProgress),
}

impl Progress<'_> {
    fn begin(&mut self, step: VerifyStep) {
        (self.step, self.done) = (step, 0);
        self.tell();
    }

    fn add(&mut self, pages: u64) {
        let before = self.done / PROGRESS_EVERY;
        self.done += pages;
        if self.done / PROGRESS_EVERY != before {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let Self { look, step, done, of, .. } = *self;
        (self.tell)(VerifyProgress { look, step, done: done.min(of), of });
    }
}
