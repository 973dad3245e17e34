//! What verification finds, and how it tells.

use std::collections::BTreeMap;

use pagestone_btree::TreeProblem;
use pagestone_page_format::PageId;

/// Findings that a report names; the rest is counted.
pub(super) const FINDINGS_MAX: usize = 1000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// A copy of the superblock cannot be used.
    Superblock,
    /// The data file is shorter than its superblock or its space map says.
    Length,
    /// A page of the space map cannot be read or believed.
    Map,
    /// The catalog of trees, whose root this is, holds something that it cannot hold, or cannot be read to its end.
    Catalog,
    /// In use, and nothing refers to it.
    Leaked,
    /// Something refers to it, and it is free.
    Dangling,
    /// As it stands in the file it is not what was written: magic, version, checksum, id, LSN.
    Unreadable,
    /// It is not what the tree that refers to it says.
    Tree(TreeProblem),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Superblock => "unusable copy of the superblock",
            Self::Length => "past the end of the file",
            Self::Map => "unusable page of the space map",
            Self::Catalog => "not a list of trees",
            Self::Leaked => "leaked",
            Self::Dangling => "dangling",
            Self::Unreadable => "unreadable",
            Self::Tree(problem) => return problem.fmt(f),
        })
    }
}

/// One thing that is wrong. Shows ids and sizes, never keys or values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The page; none for the superblock.
    pub page_id: Option<PageId>,
    /// What is wrong.
    pub problem: Problem,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.page_id {
            Some(page_id) => write!(f, "page {page_id}: ")?,
            None => f.write_str("data file: ")?,
        }
        write!(f, "{}: {} expected, {} found", self.problem, self.expected, self.found)
    }
}

/// What verification saw. Where nobody writes meanwhile, and there is no finding,
/// `pages = map_pages + nodes + leaves + value_pages + free_pages`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Pages of the data file.
    pub pages: u64,
    /// Pages of the space map.
    pub map_pages: u64,
    /// Trees, the default tree and those that are being dropped among them.
    pub trees: u64,
    /// Inner nodes of all trees and of the catalog.
    pub nodes: u64,
    /// Leaves of all trees and of the catalog.
    pub leaves: u64,
    /// Entries of all trees.
    pub entries: u64,
    /// Pages of values that are too long for a leaf.
    pub value_pages: u64,
    /// Pages that are free, those past the highest in use among them.
    pub free_pages: u64,
    /// Bytes of the data file.
    pub bytes: u64,
    /// Inner nodes that could not be looked below, and faults of the catalog. What hangs there is not told from what is leaked, so nothing is reported as
    /// leaked then.
    pub not_looked_below: u64,
    /// How often the whole file was looked at: once if nothing was wrong, else three times at most.
    pub looks: u32,
    /// What is wrong, by page; at most 1000.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more_findings: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }

    /// The figures by name, with what they mean; all but the findings themselves.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            ("pages", "pages of the data file", self.pages),
            ("map_pages", "pages of the space map", self.map_pages),
            ("trees", "trees", self.trees),
            ("nodes", "inner nodes", self.nodes),
            ("leaves", "leaves", self.leaves),
            ("entries", "entries", self.entries),
            ("value_pages", "pages of long values", self.value_pages),
            ("free_pages", "free pages", self.free_pages),
            ("bytes", "bytes of the data file", self.bytes),
            ("findings", "what is wrong", self.findings.len() as u64 + self.more_findings),
        ]
    }
}

/// What verification is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyStep {
    /// Reading the space map.
    Map,
    /// Walking the trees.
    Trees,
    /// Reading the pages in use.
    Pages,
}

/// How far verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Which look: the first, or one more at what seemed wrong.
    pub look: u32,
    /// What is being done.
    pub step: VerifyStep,
    /// Pages done in this step.
    pub done: u64,
    /// Pages of the file: no step has more to do.
    pub of: u64,
}

/// Findings being gathered: each page and problem once, by page, a bounded number.
#[derive(Debug, Default)]
pub(super) struct Findings {
    known: BTreeMap<(Option<PageId>, Problem), Finding>,
    more: u64,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let key = (finding.page_id, finding.problem);
        if self.known.len() >= FINDINGS_MAX && !self.known.contains_key(&key) {
            self.more += 1;
        } else {
            self.known.entry(key).or_insert(finding);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn append(&mut self, others: Self) {
        self.more += others.more;
        others.known.into_values().for_each(|finding| self.add(finding));
    }

    pub(super) fn into_report(self, report: &mut VerifyReport) {
        report.findings = self.known.into_values().collect();
        report.more_findings = self.more;
    }
}
