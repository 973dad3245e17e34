//! The one way down, as a tree's operations take it: over the pool, held as they say.

use pagestone_buffer_pool::{BufferPool, ExclusivePage, OptimisticPage, Restart, SharedPage};
use pagestone_page_format::{FrameIndex, PageId, SpeculativePage};
use pagestone_swip::SwipWord;

use crate::error::Interrupt;
use crate::retry::optimistically;
use crate::walk::{self, HeldPage, PageSource, Roots, Sampled};
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

impl Seek<'_> {
    /// Bytes of the key.
    pub(crate) fn key_len(&self) -> usize {
        match self {
            Self::Key(key) | Self::Before(key) => key.len(),
            Self::Last => 0,
        }
    }
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

/// A node on the way, held in any of the ways.
pub(crate) type Node<'p> = walk::Node<'p, Held<'p>>;

/// A page, held.
#[derive(Debug)]
pub(crate) enum Held<'p> {
    Optimistic(OptimisticPage<'p>),
    Shared(SharedPage<'p>),
    Exclusive(ExclusivePage<'p>),
}

impl<'p> Held<'p> {
    /// Takes it exclusively, as it was looked at.
    pub(crate) fn into_exclusive(self) -> Result<ExclusivePage<'p>, Restart> {
        match self {
            Self::Optimistic(page) => page.upgrade(),
            Self::Shared(_) => unreachable!("writers hold nodes optimistically or exclusively"),
            Self::Exclusive(page) => Ok(page),
        }
    }
}

impl<'p> HeldPage<'p> for Held<'p> {
    fn id(&self) -> PageId {
        match self {
            Self::Optimistic(page) => page.id(),
            Self::Shared(page) => page.id(),
            Self::Exclusive(page) => page.id(),
        }
    }

    fn frame(&self) -> FrameIndex {
        match self {
            Self::Optimistic(page) => page.frame(),
            Self::Shared(page) => page.frame(),
            Self::Exclusive(page) => page.frame(),
        }
    }

    fn page(&self) -> SpeculativePage<'p> {
        match self {
            Self::Optimistic(page) => page.page(),
            Self::Shared(page) => page.page(),
            Self::Exclusive(page) => page.page(),
        }
    }

    fn validate(&self) -> Result<(), Restart> {
        match self {
            Self::Optimistic(page) => page.validate(),
            Self::Shared(_) | Self::Exclusive(_) => Ok(()),
        }
    }

    fn repair_hint(&self, word: usize, old: SwipWord, target: FrameIndex) {
        if let Self::Optimistic(page) = self {
            page.repair_hint(word, old, target);
        }
    }
}

impl<'p> Node<'p> {
    /// The look at it, if no latch was taken for that: who takes the page exclusively by it later knows it unchanged.
    pub(crate) fn sample(&self) -> Option<OptimisticPage<'p>> {
        match self.held() {
            Held::Optimistic(page) => Some(*page),
            Held::Shared(_) | Held::Exclusive(_) => None,
        }
    }

    /// Takes it exclusively, as it was looked at.
    pub(crate) fn into_exclusive(self) -> Result<ExclusivePage<'p>, Restart> {
        self.into_held().into_exclusive()
    }
}

/// Pages of a pool, held in a way that is told at run time.
#[derive(Debug, Clone, Copy)]
struct Latching<'p> {
    pool: &'p BufferPool,
    hold: Hold,
}

impl<'p> PageSource<'p> for Latching<'p> {
    type Held = Held<'p>;

    fn take(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) -> Result<Held<'p>, Restart> {
        if self.hold == Hold::Optimistic {
            return self.pool.resolve_asking(swip, ask).map(Held::Optimistic);
        }
        self.pool.expect(swip, ask);
        match self.hold {
            Hold::Exclusive => self.pool.resolve_exclusive(swip).map(Held::Exclusive),
            Hold::Shared | Hold::Optimistic => self.pool.resolve_shared(swip).map(Held::Shared),
        }
    }

    fn expect(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) {
        self.pool.expect(swip, ask);
    }
}

impl BTree {
    fn latching(&self, hold: Hold) -> Latching<'_> {
        Latching { pool: self.env().pool(), hold }
    }

    pub(crate) fn sampled(&self) -> Sampled<'_> {
        Sampled(self.env().pool())
    }

    pub(crate) fn roots(&self) -> Roots<'_> {
        Roots { tree_id: self.tree_id(), root: self.root_cell() }
    }

    pub(crate) fn take(&self, hold: Hold, swip: SwipWord) -> Result<Held<'_>, Restart> {
        self.latching(hold).take(swip, |_| ())
    }

    /// The leaf that is looked for. `visit` is given every inner node on the way, once its child is held too, and the child.
    pub(crate) fn descend<'t>(
        &'t self,
        hold: Hold,
        seek: Seek<'_>,
        visit: impl FnMut(Node<'t>, &Node<'t>) -> Result<(), Interrupt>,
    ) -> Result<Node<'t>, Interrupt> {
        self.descend_to(0, hold, seek, visit)
    }

    /// As [`BTree::descend`], but no further down than `level`: the root, if that is no higher.
    pub(crate) fn descend_to<'t>(
        &'t self,
        level: u8,
        hold: Hold,
        seek: Seek<'_>,
        visit: impl FnMut(Node<'t>, &Node<'t>) -> Result<(), Interrupt>,
    ) -> Result<Node<'t>, Interrupt> {
        let node = walk::descend(self.latching(hold), self.roots(), level, seek, visit)?;
        // A leaf from which entries are gone because its tree is being dropped is one that was sampled after the tree was
        // marked: so an answer from what was sampled here is one from before.
        self.env().check_kept()?;
        Ok(node)
    }

    /// As [`BTree::descend`] with nothing held, for look-ups.
    #[inline(always)]
    pub(crate) fn descend_sampled<'t>(
        &'t self,
        key: &[u8],
    ) -> Result<walk::Node<'t, OptimisticPage<'t>>, Interrupt> {
        let leaf = walk::leaf_of(self.sampled(), self.roots(), key)?;
        self.env().check_kept()?; // as above
        Ok(leaf)
    }

    /// The child with this index of an inner node, which stood there under this swip.
    pub(crate) fn child<'t>(
        &'t self,
        hold: Hold,
        node: &Node<'t>,
        index: usize,
        swip: SwipWord,
    ) -> Result<Node<'t>, Interrupt> {
        walk::child(self.latching(hold), self.tree_id(), node, (index, swip), |_| ())
    }

    /// Levels of the tree.
    pub(crate) fn height(&self) -> TreeResult<u32> {
        optimistically(self.env(), |attempt| {
            let root = walk::root(self.latching(attempt.reading()), self.roots())?;
            root.validate()?;
            Ok(u32::from(root.level()) + 1)
        })
    }
}
