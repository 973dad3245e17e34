//! A few lookups beside each other, as far as they come by what is in memory.
//!
//! Invariant: nothing is waited for but a writer of a page that is looked at. What is told as found came down the one way, step by step, each
//! validated as that of a single lookup.
//!
//! ```text
//!            lane 0        lane 1        lane 2        ...     one after another, all on one level
//!   pass     child ──────► child ──────► child                 what it reads was asked for in the pass before
//!            search        search        search
//!            ask           ask           ask                   for what the next pass reads: misses of memory overlap
//!   pass     ...
//! ```
//!
//! A level takes one pass, or two where the word that names the child is itself likely to be missing. After Chen et al., *Improving Index Performance
//! through Prefetching*, SIGMOD 2001, and Kocberber et al., *Asynchronous Memory Access Chaining*, VLDB 2015.

use pagestone_buffer_pool::{OptimisticPage, Restart};
use pagestone_page_format::PageId;
use pagestone_swip::SwipWord;

use crate::BTree;
use crate::descend::Seek;
use crate::error::Interrupt;
use crate::node::prefetch_search;
use crate::walk::{self, Node, PageSource};

/// Lookups of a sweep, at most: past what a core can have missing.
pub(super) const GROUP: usize = 16;
/// The level from which on lookups wait beside each other. What is above is a small part of a tree, looked at by every lookup: it is in the
/// processor's caches, and a step beside others costs more than it waits there.
const STAGED: u8 = 2;

/// So many take their steps on a level together: the words that name their children come meanwhile, and no more lines are asked for at once
/// than a core can have missing.
const FEW: usize = 4;

/// What became of a lookup.
pub(super) enum Told<'v, 't> {
    /// The value, if there is one.
    Found(Option<&'v [u8]>),
    /// The child to which the way goes is not in memory.
    Missing { node: Node<'t, OptimisticPage<'t>>, way: (usize, SwipWord), page: PageId },
    /// It did not go through: what was read has changed, an error, a value that is not in the leaf.
    Not,
}

/// A lookup under way.
#[derive(Clone, Copy)]
struct Lane<'t, 'k> {
    /// Which of the keys.
    at: usize,
    key: &'k [u8],
    node: Node<'t, OptimisticPage<'t>>,
    /// Where it goes next from an inner node.
    way: (usize, SwipWord),
    /// In a leaf, where its key will be looked for.
    expected: Option<usize>,
}

struct Lanes<'t, 'k> {
    lanes: [Lane<'t, 'k>; GROUP],
    /// How many are under way: the first ones.
    left: usize,
}

/// Looks these keys up, the first of which is number `first` of those that were asked for, and tells of each once, in no order that is promised.
pub(super) fn sweep<'t, K: AsRef<[u8]>>(
    tree: &'t BTree,
    first: usize,
    keys: &[K],
    value: &mut Vec<u8>,
    tell: &mut dyn FnMut(usize, Told<'_, 't>),
) {
    let Ok(root) = walk::root(tree.sampled(), tree.roots()) else {
        (first..first + keys.len()).for_each(|at| tell(at, Told::Not));
        return;
    };
    let (source, tree_id) = (tree.sampled(), tree.tree_id());
    let idle = Lane { at: 0, key: &[], node: root, way: (0, SwipWord::from_raw(0)), expected: None };
    let mut lanes = Lanes { lanes: [idle; GROUP], left: keys.len() };
    for (lane, (key, at)) in lanes.lanes.iter_mut().zip(keys.iter().zip(first..)) {
        (lane.at, lane.key) = (at, key.as_ref());
    }
    let mut level = root.level();
    if level > 0 {
        lanes.each(tell, |lane| {
            let mut node = root;
            lane.way = node.way(Seek::Key(lane.key))?;
            while node.level() > STAGED {
                node = walk::child(source, tree_id, &node, lane.way, |_| ())?;
                lane.node = node;
                lane.way = node.way(Seek::Key(lane.key))?;
            }
            source.expect(lane.way.1, |page| prefetch_search(node.level() - 1, page, lane.key.len()));
            Ok(())
        });
        level = level.min(STAGED);
    }
    while level > 1 {
        level -= 1;
        let mut from = 0;
        while from < lanes.left {
            let mut end = lanes.some(from, from + FEW, tell, |lane| {
                lane.node = walk::child(source, tree_id, &lane.node, lane.way, |_| ())?;
                lane.way.0 = lane.node.believe(lane.node.loaded().child_index_inside(lane.key))?;
                Ok(())
            });
            end = lanes.some(from, end, tell, |lane| {
                lane.way.1 = lane.node.believe(lane.node.loaded().child(lane.way.0))?;
                source.expect(lane.way.1, |page| prefetch_search(level - 1, page, lane.key.len()));
                Ok(())
            });
            from = end;
        }
    }
    lanes.each(tell, |lane| {
        if level > 0 {
            lane.node = walk::child(source, tree_id, &lane.node, lane.way, |_| ())?;
        }
        lane.expected = lane.node.loaded().expect_inside(lane.key);
        Ok(())
    });
    // As at the end of every way down: what is gone with a dropped tree was not missing.
    let is_kept = tree.env().is_kept();
    for lane in &lanes.lanes[..lanes.left] {
        tell(lane.at, if is_kept { lane.look(value) } else { Told::Not });
    }
}

impl<'t, 'k> Lanes<'t, 'k> {
    /// A step of each; those that cannot take it are told of, and end.
    #[inline(always)]
    fn each(
        &mut self,
        tell: &mut dyn FnMut(usize, Told<'_, 't>),
        mut step: impl FnMut(&mut Lane<'t, 'k>) -> Result<(), Interrupt>,
    ) {
        self.some(0, self.left, tell, &mut step);
    }

    /// The same of those from `from` to `end`, or as many as there are; gives the end of those of them that are left.
    #[inline(always)]
    fn some(
        &mut self,
        from: usize,
        end: usize,
        tell: &mut dyn FnMut(usize, Told<'_, 't>),
        mut step: impl FnMut(&mut Lane<'t, 'k>) -> Result<(), Interrupt>,
    ) -> usize {
        let (mut next, mut end) = (from, end.min(self.left));
        while let Some(lane) = self.lanes[..end].get_mut(next) {
            match step(lane) {
                Ok(()) => next += 1,
                Err(interrupt) => {
                    lane.stop(interrupt, tell);
                    end -= 1;
                    self.left -= 1;
                    self.lanes.swap(next, end);
                    self.lanes.swap(end, self.left);
                }
            }
        }
        end
    }
}

impl<'t> Lane<'t, '_> {
    /// What the leaf has for the key.
    #[inline(always)]
    fn look<'v>(&self, value: &'v mut Vec<u8>) -> Told<'v, 't> {
        let found = walk::check_leaf(&self.node, self.key)
            .and_then(|()| walk::find_in(&self.node, self.expected, self.key, value));
        match found {
            Ok(found) if self.node.validate().is_ok() => match found {
                None => Told::Found(None),
                Some(0) => Told::Found(Some(value)),
                Some(_) => Told::Not,
            },
            _ => Told::Not,
        }
    }

    #[cold]
    fn stop(&self, interrupt: Interrupt, tell: &mut dyn FnMut(usize, Told<'_, 't>)) {
        let told = match interrupt {
            Interrupt::Restart(Restart::Fault(page)) => {
                Told::Missing { node: self.node, way: self.way, page }
            }
            _ => Told::Not,
        };
        tell(self.at, told);
    }
}
