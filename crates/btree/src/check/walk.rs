//! The walk over all leaves, by key.
//!
//! Invariant: the key only rises, and each step arrives at one leaf or skips one child; so the walk ends, and counts every entry
//! that is there throughout exactly once.

use pagestone_page_format::{OutOfBounds, PageId};
use pagestone_swip::SwipWord;

use super::path::{NodeCopy, Path, Stop, finding};
use super::{CheckVisitor, PageUse, ReachedPage, TreeFinding, TreeProblem, TreeReport, is_of_the_handle};
use crate::descend::Hold;
use crate::node::NodeView;
use crate::overflow::{self, OVERFLOW};
use crate::retry::optimistically;
use crate::walk::HeldPage;
use crate::{BTree, TreeError, TreeResult};

/// Steps that even the smallest tree may take.
const STEPS_MIN: u64 = 64;

pub(super) struct Walk<'a> {
    tree: &'a BTree,
    visitor: &'a mut dyn CheckVisitor,
    path: Path,
    /// The node that the walk came to last, by level.
    last: Vec<Option<Last>>,
    steps: u64,
    /// Steps that the file's length allows.
    allowed: u64,
    report: TreeReport,
}

/// What the next node of a level is compared with.
struct Last {
    id: PageId,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    right: SwipWord,
}

impl Last {
    fn of(node: &NodeCopy) -> Result<Self, OutOfBounds> {
        let right = node.view().right_sibling()?;
        Ok(Self { id: node.id(), lower: node.lower()?, upper: node.upper()?, right })
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(tree: &'a BTree, visitor: &'a mut dyn CheckVisitor) -> Self {
        let path = Path::new(tree.env().pool().page_size());
        Self { tree, visitor, path, last: Vec::new(), steps: 0, allowed: 0, report: TreeReport::default() }
    }

    pub(super) fn run(mut self) -> TreeResult<TreeReport> {
        let mut key = Vec::new();
        while self.may_go_on()? {
            let stopped = self.tree.copy_path(&key, 0, &mut self.path)?;
            for depth in 0..self.path.nodes().len() {
                self.take_in(depth, &key)?;
            }
            if let Some(stopped) = stopped {
                self.skip(stopped);
            }
            if !self.path.advance(&mut key) {
                break;
            }
        }
        Ok(self.report)
    }

    /// A sound tree has fewer links than its file has pages. The file may be growing beside the walk.
    fn may_go_on(&mut self) -> TreeResult<bool> {
        self.steps += 1;
        if self.steps > self.allowed {
            let pages = self.tree.env().pool().store().len()?;
            self.allowed = pages.saturating_mul(2).max(STEPS_MIN);
            if self.steps > self.allowed {
                let expected = format!("at most {} steps through {pages} pages", self.allowed);
                let root = self.tree.root_id();
                self.visitor.finding(finding(root, TreeProblem::Endless, expected, "more"));
                self.report.not_looked_below += 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A node that is new to the walk. One that contradicts itself is judged elsewhere.
    fn count(&mut self, depth: usize, level: u8) {
        let node = self.path.nodes()[depth].view();
        let used = node.used_bytes().unwrap_or(0) as u64;
        let report = &mut self.report;
        report.prefix_bytes_saved += node.prefix_bytes_saved().unwrap_or(0) as u64;
        if level == 0 {
            report.leaves += 1;
            report.leaf_bytes += used;
        } else {
            report.nodes += 1;
            report.node_bytes += used;
        }
    }

    /// A node on the way to `key`: told of if the walk is new here, judged if it has changed.
    fn take_in(&mut self, depth: usize, key: &[u8]) -> TreeResult<()> {
        let node = &self.path.nodes()[depth];
        let level = node.view().level().unwrap_or(0);
        let (id, judged) = (node.id(), node.judged);
        let parent = depth.checked_sub(1).map(|above| self.path.nodes()[above].id());
        if depth == 0 {
            self.report.height = u32::from(level) + 1;
            self.last.resize_with(usize::from(level) + 1, || None);
        }
        let before = self.last[usize::from(level)].take();
        if before.as_ref().is_none_or(|before| before.id != id) {
            let usage = PageUse::Node { level };
            // Not the first time: what was merged into a node that the walk had left behind.
            if self.visitor.page(ReachedPage { page_id: id, parent, usage }) {
                self.count(depth, level);
            }
        }
        let now = Last::of(&self.path.nodes()[depth]).ok();
        if let (Some(before), Some(now)) = (&before, &now)
            && before.upper.as_ref() == Some(&now.lower)
            && (before.right.is_null() || before.right.page_id() != id)
        {
            self.judge_sibling(level, before)?;
        }
        self.last[usize::from(level)] = now;
        if !judged {
            self.judge_node(depth, level, key);
            self.path.node_mut(depth).judged = true;
        }
        if level == 0 {
            self.report.entries += entries_from(self.path.nodes()[depth].view(), key).unwrap_or(0);
        }
        Ok(())
    }

    /// The node by itself, and what its cells refer to. Those of keys below `key` the walk may have seen elsewhere.
    fn judge_node(&mut self, depth: usize, level: u8, key: &[u8]) {
        let node = &self.path.nodes()[depth];
        let (id, view) = (node.id(), node.view());
        if let Err(error) = view.check() {
            self.visitor.finding(finding(id, TreeProblem::Malformed, "a whole node", error.to_string()));
            self.report.not_looked_below += u64::from(level > 0);
            return; // its cells mean nothing
        }
        let ends = (view.upper_is_infinite(), view.right_sibling().map(SwipWord::is_null));
        if let (Ok(last), Ok(alone)) = ends
            && last != alone
        {
            let show = |none| if none { "no right sibling" } else { "a right sibling" };
            self.visitor.finding(finding(id, TreeProblem::Sibling, show(last), show(alone)));
        }
        if level > 0 {
            return;
        }
        let first_new = view.lower_bound(key).unwrap_or(0);
        for slot in 0..view.count().unwrap_or(0) {
            match references(view, slot) {
                Ok(runs) => {
                    for page_id in pages_of(runs) {
                        let page = ReachedPage { page_id, parent: Some(id), usage: PageUse::Value };
                        let new = self.visitor.page(page);
                        self.report.value_pages += u64::from(new);
                        if !new && slot >= first_new {
                            let found = format!("cell {slot} of page {id} too");
                            let shared =
                                finding(page_id, TreeProblem::Shared, "one that refers to it", found);
                            self.visitor.finding(shared);
                        }
                    }
                }
                Err((problem, what)) => {
                    let found = format!("{what} in cell {slot}");
                    self.visitor.finding(finding(id, problem, "a value or a reference to one", found));
                }
            }
        }
    }

    /// `left` was seen to end where a node begins that is not its right sibling: looks at both as of one instant.
    #[cold]
    fn judge_sibling(&mut self, level: u8, left: &Last) -> TreeResult<()> {
        let tree = self.tree;
        let mut path = Path::new(tree.env().pool().page_size());
        let mut wanted = left.id;
        let wrong = optimistically(tree.env(), |attempt| {
            let hold = attempt.reading();
            let stopped = tree.look(hold, &left.lower, level, &mut path, &mut wanted)?;
            if stopped.is_some() || path.last_id() != left.id {
                return Ok(None); // no longer in the tree
            }
            let page = tree.take(Hold::Optimistic, SwipWord::new(left.id)?)?;
            path.clear();
            path.push(&page)?;
            page.validate()?;
            let Some(now) = path.whoami(tree.tree_id()).and_then(|_| Last::of(&path.nodes()[0]).ok()) else {
                return Ok(None);
            };
            let Some(upper) = &now.upper else { return Ok(None) };
            let stopped = tree.look(hold, upper, level, &mut path, &mut wanted)?;
            page.validate()?;
            let next = path.last_id();
            Ok((stopped.is_none() && next != now.right.page_id()).then(|| {
                let found = match now.right.is_null() {
                    true => "none".to_owned(),
                    false => format!("page {}", now.right.page_id()),
                };
                finding(left.id, TreeProblem::Sibling, format!("page {next}"), found)
            }))
        });
        match wrong {
            Ok(wrong) => wrong.into_iter().for_each(|wrong| self.visitor.finding(wrong)),
            Err(TreeError::Page(error)) if is_of_the_handle(&error) => return Err(error.into()),
            // A page on the way cannot be read, which the walk itself tells of.
            Err(TreeError::Page(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tells of what the walk could not go on to; the next step goes on behind it.
    fn skip(&mut self, stop: Stop) {
        let stopped = match stop {
            Stop::Here(finding) => {
                self.report.not_looked_below += 1;
                return self.visitor.finding(finding);
            }
            Stop::Next(finding) => finding,
        };
        let parent = self.path.nodes().last();
        let above = parent.map(|parent| parent.view().level().unwrap_or(0));
        let level = above.map_or(0, |above| above.saturating_sub(1));
        let levels_below = above.map_or(self.last.len(), usize::from);
        self.last.iter_mut().take(levels_below).for_each(|last| *last = None);
        self.report.not_looked_below += u64::from(level > 0 || above.is_none());
        let seen = self.visitor.is_reached(stopped.page_id);
        let problem = match stopped.problem {
            TreeProblem::Fences | TreeProblem::Level | TreeProblem::OtherTree if seen => TreeProblem::Shared,
            problem => problem,
        };
        // A link leads there, whatever it is.
        let page = ReachedPage {
            page_id: stopped.page_id,
            parent: parent.map(NodeCopy::id),
            usage: PageUse::Node { level },
        };
        self.visitor.page(page);
        self.visitor.finding(TreeFinding { problem, ..stopped });
    }
}

/// Entries of a leaf whose keys are not below `key`.
fn entries_from(view: NodeView<'_>, key: &[u8]) -> Result<u64, OutOfBounds> {
    Ok((view.count()? - view.lower_bound(key)?) as u64)
}

fn pages_of(runs: Vec<(PageId, u32)>) -> impl Iterator<Item = PageId> {
    runs.into_iter().flat_map(|(first, count)| {
        (first.get()..first.get().saturating_add(u64::from(count))).map(PageId::new)
    })
}

/// The runs of pages that hold the value of a cell: the first of each, and how many. Nothing for a value that stands in
/// the leaf; else what is wrong with the cell.
fn references(view: NodeView<'_>, slot: usize) -> Result<Vec<(PageId, u32)>, (TreeProblem, String)> {
    match view.flags(slot) {
        Ok(flags) if flags & !OVERFLOW != 0 => {
            Err((TreeProblem::UnknownFlags, format!("flags {flags:#04x}")))
        }
        // The node was checked, so there is such a cell.
        Ok(_) => match overflow::references(view, slot) {
            Ok(runs) => runs.map_err(|reason| (TreeProblem::Malformed, reason.to_owned())),
            Err(OutOfBounds) => Ok(Vec::new()),
        },
        Err(OutOfBounds) => Ok(Vec::new()),
    }
}
