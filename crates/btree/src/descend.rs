//! The one way down.
//!
//! Invariant: every node that is arrived at is checked (tree, level, fences) before it is used, and its holder is validated
//! after it was sampled (P7). Levels fall by one on the way, so the way ends.

use pagestone_buffer_pool::{ExclusivePage, OptimisticPage, Restart, SharedPage};
use pagestone_page_format::{FrameIndex, OutOfBounds, PageId, SpeculativePage};
use pagestone_swip::SwipWord;

use crate::error::{Interrupt, TreeError, malformed};
use crate::node::{Covers, NodeView};
use crate::retry::optimistically;
use crate::{BTree, TreeResult};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seek<'k> {
    /// The leaf that has, or would have, this key.
    Key(&'k [u8]),
    /// The leaf of the greatest key below this one.
    Before(&'k [u8]),
    /// The rightmost leaf.
    Last,
}

/// How the nodes on the way are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Not at all: every step is validated.
    Optimistic,
    /// Shared, the parent until its child is.
    Shared,
    /// Exclusively, the parent until its child is, or longer if the visitor keeps it.
    Exclusive,
}

/// A node on the way: held, parsed, and of the right tree and level.
#[derive(Debug)]
pub(crate) struct Node<'p> {
    held: Held<'p>,
    view: NodeView<'p>,
    level: u8,
}

/// A page, held.
#[derive(Debug)]
pub(crate) enum Held<'p> {
    Optimistic(OptimisticPage<'p>),
    Shared(SharedPage<'p>),
    Exclusive(ExclusivePage<'p>),
}

impl<'p> Held<'p> {
    pub(crate) fn id(&self) -> PageId {
        match self {
            Self::Optimistic(page) => page.id(),
            Self::Shared(page) => page.id(),
            Self::Exclusive(page) => page.id(),
        }
    }

    pub(crate) fn page(&self) -> SpeculativePage<'p> {
        match self {
            Self::Optimistic(page) => page.page(),
            Self::Shared(page) => page.page(),
            Self::Exclusive(page) => page.page(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Restart> {
        match self {
            Self::Optimistic(page) => page.validate(),
            Self::Shared(_) | Self::Exclusive(_) => Ok(()),
        }
    }

    /// What was read, if it can be believed; an offset outside a page that nobody was changing is corruption.
    fn believe<T>(&self, read: Result<T, OutOfBounds>) -> Result<T, Interrupt> {
        read.map_err(|error| self.refuse(malformed(self.id())(error)))
    }

    /// An error about this page, unless a writer explains it.
    fn refuse(&self, error: TreeError) -> Interrupt {
        match self.validate() {
            Err(restart) => restart.into(),
            Ok(()) => error.into(),
        }
    }
}

impl<'p> Node<'p> {
    pub(crate) fn id(&self) -> PageId {
        self.held.id()
    }

    fn frame(&self) -> FrameIndex {
        match &self.held {
            Held::Optimistic(page) => page.frame(),
            Held::Shared(page) => page.frame(),
            Held::Exclusive(page) => page.frame(),
        }
    }

    pub(crate) fn page(&self) -> SpeculativePage<'p> {
        self.held.page()
    }

    #[inline]
    pub(crate) fn view(&self) -> NodeView<'p> {
        self.view
    }

    /// Distance from the leaves.
    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    #[inline]
    pub(crate) fn validate(&self) -> Result<(), Restart> {
        self.held.validate()
    }

    pub(crate) fn believe<T>(&self, read: Result<T, OutOfBounds>) -> Result<T, Interrupt> {
        self.held.believe(read)
    }

    /// An error about this node, unless a writer explains it.
    pub(crate) fn refuse(&self, error: TreeError) -> Interrupt {
        self.held.refuse(error)
    }

    /// Which child of an inner node the way goes to: its index, and the swip that stands there.
    #[inline]
    pub(crate) fn way(&self, seek: Seek<'_>) -> Result<(usize, SwipWord), Interrupt> {
        self.believe(choose(self.view, seek))
    }

    /// The look at it, if no latch was taken for that: who takes the page exclusively by it later knows it unchanged.
    pub(crate) fn sample(&self) -> Option<OptimisticPage<'p>> {
        match &self.held {
            Held::Optimistic(page) => Some(*page),
            Held::Shared(_) | Held::Exclusive(_) => None,
        }
    }

    /// Takes it exclusively, as it was looked at.
    pub(crate) fn into_exclusive(self) -> Result<ExclusivePage<'p>, Restart> {
        match self.held {
            Held::Optimistic(page) => page.upgrade(),
            Held::Shared(_) => unreachable!("writers hold nodes optimistically or exclusively"),
            Held::Exclusive(page) => Ok(page),
        }
    }
}

impl BTree {
    pub(crate) fn take(&self, hold: Hold, swip: SwipWord) -> Result<Held<'_>, Restart> {
        let pool = self.env().pool();
        match hold {
            Hold::Optimistic => pool.resolve(swip).map(Held::Optimistic),
            Hold::Shared => pool.resolve_shared(swip).map(Held::Shared),
            Hold::Exclusive => pool.resolve_exclusive(swip).map(Held::Exclusive),
        }
    }

    /// Samples or latches the root.
    pub(crate) fn root(&self, hold: Hold) -> Result<Node<'_>, Interrupt> {
        let swip = self.root_cell().load();
        let held = self.take(hold, swip)?;
        let root = self.arrive(held, None)?;
        self.repair_root(swip, root.frame());
        Ok(root)
    }

    fn repair_root(&self, swip: SwipWord, frame: FrameIndex) {
        if swip.hint() != Some(frame) {
            // The cell is no page: a lost race leaves another hint for the same id.
            let _ = self.root_cell().compare_exchange(swip, swip.with_hint(frame));
        }
    }

    /// The leaf that is looked for. `visit` is given every inner node on the way, once its child is held too, and the child.
    #[inline]
    pub(crate) fn descend<'t>(
        &'t self,
        hold: Hold,
        seek: Seek<'_>,
        visit: impl FnMut(Node<'t>, &Node<'t>) -> Result<(), Interrupt>,
    ) -> Result<Node<'t>, Interrupt> {
        self.descend_to(0, hold, seek, visit)
    }

    /// As [`BTree::descend`], but no further down than `level`: the root, if that is no higher.
    #[inline]
    pub(crate) fn descend_to<'t>(
        &'t self,
        level: u8,
        hold: Hold,
        seek: Seek<'_>,
        mut visit: impl FnMut(Node<'t>, &Node<'t>) -> Result<(), Interrupt>,
    ) -> Result<Node<'t>, Interrupt> {
        let mut node = self.root(hold)?;
        while node.level > level {
            let way = node.way(seek)?;
            let child = self.follow(hold, &node, way, seek)?;
            visit(node, &child)?;
            node = child;
        }
        // A leaf from which entries are gone because its tree is being dropped is one that was sampled after the tree was
        // marked: so an answer from what was sampled here is one from before.
        self.env().check_kept()?;
        Ok(node)
    }

    /// Goes one step of a way.
    #[inline]
    pub(crate) fn follow<'t>(
        &'t self,
        hold: Hold,
        node: &Node<'t>,
        (index, swip): (usize, SwipWord),
        seek: Seek<'_>,
    ) -> Result<Node<'t>, Interrupt> {
        let child = self.child(hold, node, index, swip)?;
        check_fences(node, &child, seek)?;
        Ok(child)
    }

    /// The child with this index of an inner node, which stood there under this swip.
    #[inline]
    pub(crate) fn child<'t>(
        &'t self,
        hold: Hold,
        node: &Node<'t>,
        index: usize,
        swip: SwipWord,
    ) -> Result<Node<'t>, Interrupt> {
        let held = match self.take(hold, swip) {
            Ok(held) => held,
            // Fault or wait for nothing that a torn node said.
            Err(restart) => {
                node.validate()?;
                return Err(restart.into());
            }
        };
        node.validate()?; // P7
        let child = self.arrive(held, Some(node.level - 1))?;
        if swip.hint() != Some(child.frame())
            && let Held::Optimistic(page) = &node.held
            && let Ok(word) = node.view.child_word(index)
        {
            page.repair_hint(word, swip, child.frame());
        }
        Ok(child)
    }

    /// Tree and level: a page that was reused by another tree, or that a hostile file names twice, is found here (E4).
    pub(crate) fn arrive<'t>(&'t self, held: Held<'t>, level: Option<u8>) -> Result<Node<'t>, Interrupt> {
        let view = NodeView::new(held.page());
        let wrong = |reason, expected, found| {
            held.refuse(TreeError::WrongNode { page_id: held.id(), reason, expected, found })
        };
        if !held.believe(view.is_node())? {
            return Err(wrong("not a node of a tree", 1, 0));
        }
        let tree = held.believe(view.tree_id())?;
        if tree != self.tree_id() {
            return Err(wrong("a node of another tree", self.tree_id().into(), tree.into()));
        }
        let found = held.believe(view.level())?;
        // The root has no bounds; one that claims some would send a scan round in circles.
        if level.is_none()
            && !(held.believe(view.upper_is_infinite())? && held.believe(view.covers(b""))? == Covers::Inside)
        {
            return Err(wrong("a root with fences", 0, 1));
        }
        if level.is_some_and(|level| level != found) {
            return Err(wrong("level", level.unwrap_or(0).into(), found.into()));
        }
        Ok(Node { held, view, level: found })
    }

    /// Levels of the tree.
    pub(crate) fn height(&self) -> TreeResult<u32> {
        optimistically(self.env(), |attempt| {
            let root = self.root(attempt.reading())?;
            root.validate()?;
            Ok(u32::from(root.level) + 1)
        })
    }
}

fn choose(view: NodeView<'_>, seek: Seek<'_>) -> Result<(usize, SwipWord), OutOfBounds> {
    match seek {
        Seek::Key(key) => view.child_for(key),
        Seek::Before(key) => view.child_before(key),
        Seek::Last => {
            let last = view.count()?;
            Ok((last, view.child(last)?))
        }
    }
}

/// The child covers what is looked for. With the holder validated, anything else is corruption.
fn check_fences(holder: &Node<'_>, child: &Node<'_>, seek: Seek<'_>) -> Result<(), Interrupt> {
    let view = child.view();
    let inside = match seek {
        Seek::Key(key) => child.believe(view.covers(key))? == Covers::Inside,
        Seek::Before(key) => child.believe(view.covers_before(key))?,
        Seek::Last => child.believe(view.upper_is_infinite())?,
    };
    if inside {
        return Ok(());
    }
    holder.validate()?;
    Err(child.held.refuse(TreeError::WrongNode {
        page_id: child.id(),
        reason: "the fences do not hold what the parent sends here",
        expected: 1,
        found: 0,
    }))
}
