//! Merges: what removals leave behind goes into fewer pages, and the others go back to the allocator.
//!
//! Invariant: a merge is one group, in which the left node takes all that the right one has and the fence between them leaves the
//! parent; so every key is covered by exactly one leaf for every reader and after every crash, and a page is free exactly if no node
//! refers to it. The right page is marked obsolete under its latch: who sampled it before, fails to validate; nobody finds it later,
//! because its holder is validated too (P7).
//!
//! ```text
//!              parent                       parent              root, its separators gone        root
//!          …  s  │  t  …                   …  t  …                        │                 (keeps its id, L11)
//!         ┌────┐ ┌─────┐         ┌────────────┐ ┌┄┄┄┄┄┐              ┌─────────┐              what the child was
//!         │left├►│right├► next   │left + right├─┼┄┄┄┄┄┼► next        │only child│    ►       ┌┄┄┄┄┄┄┄┄┄┐
//!         └────┘ └─────┘         └────────────┘ └┄┄┄┄┄┘ free         └─────────┘              └┄┄┄┄┄┄┄┄┄┘ free
//!
//!   1  go down to the parent; find a pair of siblings that should merge (`NodeView::should_absorb`), or the root's only child
//!   2  begin with what that can need: log bytes, frames, the map page of the id that becomes free
//!   3  go down again and latch parent, left, right, as they were looked at; if another page would go by now: let go, look again
//!   4  see whether the nodes are whole, free the id (what can fail, so before the first change); absorb, mark obsolete, take the
//!      separator out
//!   5  commit; look at the parent, which has become emptier, and at what has become neighbours below
//! ```
//!
//! A removal asks for it when its leaf falls under 40 % of its page, and at each tenth below, because siblings may have become
//! emptier meanwhile. A merged node is at most 85 % full, so that it takes as many inserts to split it as it took removals to merge
//! it; a node without cells is merged whatever its sibling holds. All this is for space and not for correctness, so it gives up
//! rather than wait: for conflicts past the retry loop's patience, and on any error but `Poisoned`.

use pagestone_buffer_pool::ExclusivePage;
use pagestone_mini_txn::{MiniTxn, PageHandle, Reserve};
use pagestone_page_format::{PageId, PageResult, PageSize};
use pagestone_sync::atomic::Ordering;

use crate::believe::{check_whole, rehearse};
use crate::descend::{Hold, Node, Seek};
use crate::error::{Interrupt, TreeError};
use crate::node::{AbsorbRight, Covers, FormatNode, MarkObsolete, RemoveSeparator, max_key_len};
use crate::retry::{Attempt, optimistically};
use crate::split::{bug, view};
use crate::{BTree, TreeResult};

/// Merges and looks that one removal causes at most: several times the levels of any tree, so that what is left is left to others.
const STEPS: usize = 64;
/// Looks at one place that others keep changing.
const TRIES: usize = 3;

/// Log bytes that a merge, or a root that shrinks, can take: the content of a page, its keys in full length where they bound it,
/// and framing.
pub(crate) fn merge_log_bytes(size: PageSize) -> usize {
    size.get() * 3 / 2 + 4 * max_key_len(size) + 512
}

/// A node that may be worth a merge: the one of this level that covers the key.
struct Place {
    level: u8,
    key: Vec<u8>,
}

/// What to do at a place, with the nodes as they were looked at.
enum Find<'t> {
    Pair {
        parent: Node<'t>,
        left: Node<'t>,
        right: Node<'t>,
        /// The parent's separator between them, which is the fence of both.
        fence: Vec<u8>,
    },
    OnlyChild {
        root: Node<'t>,
        child: Node<'t>,
    },
}

/// The same nodes, latched.
enum Latched {
    Pair { parent: PageHandle, left: PageHandle, right: PageHandle, fence: Vec<u8> },
    OnlyChild { root: PageHandle, child: PageHandle },
}

impl BTree {
    /// Merges the leaf of `key` with a sibling if both fit a page, then what is above and beside it, as far as that goes.
    ///
    /// Errors: `Poisoned`. Any other is counted and leaves the tree as it is: the caller's own change is done and must not be
    /// reported as failed, and a page that cannot be read is told to whoever needs it.
    #[cold]
    pub(crate) fn merge_around(&self, key: &[u8]) -> TreeResult<()> {
        if self.merge_places(key).is_err() {
            self.env().poison().check()?;
            self.counters().merges_given_up.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets the root take the place of its only child, if a tree of `height` levels has but one there.
    pub(crate) fn merge_root(&self, height: u32) -> TreeResult<()> {
        let Some(level) = height.checked_sub(1).and_then(|level| u8::try_from(level).ok()) else {
            return Ok(());
        };
        self.merge_at(Place { level, key: Vec::new() }, &mut Vec::new())
    }

    fn merge_places(&self, key: &[u8]) -> TreeResult<()> {
        // The last place is the lowest.
        let mut places = vec![Place { level: 0, key: key.to_vec() }];
        for _ in 0..STEPS {
            let Some(place) = places.pop() else { break };
            self.merge_at(place, &mut places)?;
        }
        Ok(())
    }

    /// Does what there is to do at a place, and adds the places where there is more to do by that.
    fn merge_at(&self, place: Place, places: &mut Vec<Place>) -> TreeResult<()> {
        for _ in 0..TRIES {
            let Some(goes) = self.page_to_go(&place)? else { return Ok(()) };
            let frees = [(goes, 1)];
            let mut txn = self.env().begin(Reserve {
                log_bytes: merge_log_bytes(self.env().pool().page_size()),
                pins: 3,
                frees: &frees,
                ..Reserve::default()
            })?;
            if let Some(latched) = self.latch(&mut txn, &place, goes)? {
                return Ok(self.merge(txn, latched, place, places)?);
            }
        }
        Ok(())
    }

    /// Step 1: which page would go.
    fn page_to_go(&self, place: &Place) -> TreeResult<Option<PageId>> {
        optimistically(self.env(), |attempt| Ok(self.find(attempt, place)?.map(|find| find.goes())))
    }

    /// Step 3: nothing if another page, or none, would go by now.
    fn latch<'t>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        place: &Place,
        goes: PageId,
    ) -> TreeResult<Option<Latched>> {
        let latched = optimistically(self.env(), |attempt| {
            let find = self.find(attempt, place)?;
            find.filter(|find| find.goes() == goes).map(Find::latch).transpose()
        })?;
        Ok(latched.map(|(pages, fence)| {
            // Top down, left to right.
            let mut pages = pages.into_iter().map(|page| txn.latch(page));
            let mut next = || pages.next().expect("as many as were latched");
            match fence {
                Some(fence) => Latched::Pair { parent: next(), left: next(), right: next(), fence },
                None => Latched::OnlyChild { root: next(), child: next() },
            }
        }))
    }

    /// Steps 4 and 5. Nothing fails after the first change but by a bug of ours.
    fn merge<'t>(
        &'t self,
        mut txn: MiniTxn<'t>,
        latched: Latched,
        Place { level, key }: Place,
        places: &mut Vec<Place>,
    ) -> PageResult<()> {
        match latched {
            Latched::Pair { parent, left, right, fence } => {
                check_whole(&txn, left)?;
                check_whole(&txn, right)?;
                rehearse(&txn, parent, [RemoveSeparator { key: &fence }])?;
                let absorb = AbsorbRight::of(view(&txn, right)).map_err(bug(&txn, right))?;
                txn.free(txn.id(right), 1)?;
                txn.change(left, &absorb)?;
                txn.change(right, &MarkObsolete)?;
                txn.change(parent, &RemoveSeparator { key: &fence })?;
                let still_sparse = view(&txn, left).is_sparse().map_err(bug(&txn, left))?;
                let parent_sparse = view(&txn, parent).is_sparse().map_err(bug(&txn, parent))?;
                txn.commit()?;
                self.counters().merges.fetch_add(1, Ordering::Relaxed);
                // The merged node, its parent, and the right one of the two children that met: each covers the fence.
                if parent_sparse {
                    places.push(Place { level: level + 1, key: fence.clone() });
                }
                if still_sparse {
                    places.push(Place { level, key: fence.clone() });
                }
                if let Some(below) = level.checked_sub(1) {
                    places.push(Place { level: below, key: fence });
                }
            }
            Latched::OnlyChild { root, child } => {
                check_whole(&txn, child)?;
                let copy = FormatNode::copy_of(view(&txn, child)).map_err(bug(&txn, child))?;
                txn.free(txn.id(child), 1)?;
                txn.change(root, &copy)?;
                txn.change(child, &MarkObsolete)?;
                txn.commit()?;
                self.counters().shrinks.fetch_add(1, Ordering::Relaxed);
                places.push(Place { level: level - 1, key });
            }
        }
        Ok(())
    }

    /// What there is to do at a place: the root's only child, if the root is of this level; else the first pair that should merge
    /// of the place's node with its left and with its right neighbour.
    fn find<'t>(&'t self, attempt: Attempt, place: &Place) -> Result<Option<Find<'t>>, Interrupt> {
        if attempt == Attempt::Latched {
            return Ok(None); // so much is going on here that there will be another removal
        }
        let parent = self.descend_to(
            place.level.saturating_add(1),
            Hold::Optimistic,
            Seek::Key(&place.key),
            |_, _| Ok(()),
        )?;
        if parent.level() <= place.level {
            return if parent.level() == place.level { self.find_only_child(parent) } else { Ok(None) };
        }
        let (index, _) = parent.believe(parent.view().child_for(&place.key))?;
        let count = parent.believe(parent.view().count())?;
        // Each pair by the separator between its two.
        for separator in index.saturating_sub(1)..count.min(index + 1) {
            let (left, right) = (self.child_at(&parent, separator)?, self.child_at(&parent, separator + 1)?);
            let fence = fence_between(&parent, separator, &left, &right)?;
            let should = left.believe(left.view().should_absorb(&right.view()));
            right.validate()?; // before an error is believed that it may have caused
            if should? {
                return Ok(Some(Find::Pair { parent, left, right, fence }));
            }
        }
        Ok(None)
    }

    fn find_only_child<'t>(&'t self, root: Node<'t>) -> Result<Option<Find<'t>>, Interrupt> {
        if root.level() == 0 || root.believe(root.view().count())? > 0 {
            return Ok(None);
        }
        let child = self.child_at(&root, 0)?;
        let whole = child.believe(child.view().upper_is_infinite())?
            && child.believe(child.view().covers(b""))? == Covers::Inside
            && child.believe(child.view().right_sibling())?.is_null();
        if !whole {
            return Err(refuse(&root, &child, "the only child of a root has fences or a sibling"));
        }
        Ok(Some(Find::OnlyChild { root, child }))
    }

    pub(crate) fn child_at<'t>(&'t self, parent: &Node<'t>, index: usize) -> Result<Node<'t>, Interrupt> {
        let swip = parent.believe(parent.view().child(index))?;
        self.child(Hold::Optimistic, parent, index, swip)
    }
}

impl<'t> Find<'t> {
    /// The page that would become free.
    fn goes(&self) -> PageId {
        match self {
            Self::Pair { right, .. } => right.id(),
            Self::OnlyChild { child, .. } => child.id(),
        }
    }

    /// Each taken as it was looked at, in latch order; a fence, if it is a pair.
    fn latch(self) -> Result<(Vec<ExclusivePage<'t>>, Option<Vec<u8>>), Interrupt> {
        let (nodes, fence) = match self {
            Self::Pair { parent, left, right, fence } => (vec![parent, left, right], Some(fence)),
            Self::OnlyChild { root, child } => (vec![root, child], None),
        };
        let pages = nodes.into_iter().map(|node| node.into_exclusive().map_err(Interrupt::from));
        Ok((pages.collect::<Result<_, _>>()?, fence))
    }
}

/// The separator with this index, if the two nodes meet there and the left one's sibling is the right one.
pub(crate) fn fence_between(
    parent: &Node<'_>,
    separator: usize,
    left: &Node<'_>,
    right: &Node<'_>,
) -> Result<Vec<u8>, Interrupt> {
    let (mut between, mut upper, mut lower) = (Vec::new(), Vec::new(), Vec::new());
    parent.believe(parent.view().append_key(separator, &mut between))?;
    let finite = left.believe(left.view().upper_fence(&mut upper))?;
    right.believe(right.view().lower_fence(&mut lower))?;
    let sibling = left.believe(left.view().right_sibling())?;
    if finite && upper == between && lower == between && sibling.page_id() == right.id() {
        return Ok(between);
    }
    left.validate()?;
    Err(refuse(parent, right, "siblings that do not meet at their parent's separator"))
}

fn refuse(holder: &Node<'_>, node: &Node<'_>, reason: &'static str) -> Interrupt {
    if let Err(restart) = holder.validate() {
        return restart.into();
    }
    node.refuse(TreeError::WrongNode { page_id: node.id(), reason, expected: 1, found: 0 })
}
