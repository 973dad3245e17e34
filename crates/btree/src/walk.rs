//! The steps of a way down, wherever the pages stand.
//!
//! Invariant: every node that is arrived at is checked (tree, level, fences) before it is used, and its holder is validated
//! after it was sampled (P7). Levels fall by one on the way, so the way ends. Look-ups, which give no inner node to anybody, check
//! the fences of the leaf alone: it is the one leaf that covers the key (B1), whatever was said on the way to it.
//!
//! ```text
//!                       PageSource               HeldPage
//!   look-ups            Sampled                  OptimisticPage     nothing is held, every step is validated
//!   all others          descend.rs, Latching     descend.rs, Held   as the operation says at run time
//!   benches/kvbench     pages in plain memory    a slice            what the pool costs is told by this
//! ```
//!
//! As soon as a child's swip is read the processor is asked for the lines that will be looked at there, before anything is
//! validated: they come from memory together and not one after another.

use pagestone_buffer_pool::{BufferPool, OptimisticPage, Restart};
use pagestone_page_format::{FrameIndex, OutOfBounds, PageId, SpeculativePage};
use pagestone_swip::{AtomicSwipWord, SwipWord};
use pagestone_sync::faults::planted;

use crate::descend::Seek;
use crate::error::{Interrupt, TreeError, malformed};
use crate::node::{Covers, LoadedNode, NodeView, prefetch_search};

/// Where a walk finds the pages that swips name.
pub trait PageSource<'p>: Copy {
    /// A page, held in whatever way keeps it whole, or tells that it was not.
    type Held: HeldPage<'p>;

    /// Finds the page, and holds it. As soon as it is known where it is, or would be, `ask` asks the processor for what will be read
    /// of it.
    fn take(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) -> Result<Self::Held, Restart>;

    /// The page is likely to be taken soon: `ask` asks the processor for what will be read of it.
    fn expect(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>));
}

/// A page that is being read.
pub trait HeldPage<'p> {
    /// Which page it is.
    fn id(&self) -> PageId;

    /// Where it was found: what a hint at it should say.
    fn frame(&self) -> FrameIndex;

    /// Its bytes.
    fn page(&self) -> SpeculativePage<'p>;

    /// Whether everything read so far was of this page, as of one instant (P1).
    fn validate(&self) -> Result<(), Restart>;

    /// Writes a fresh hint into the swip at this word of the page, if that can be done without a trace (P5).
    fn repair_hint(&self, word: usize, old: SwipWord, target: FrameIndex);
}

/// Pages of a pool, read without writing anything.
#[derive(Debug, Clone, Copy)]
pub struct Sampled<'p>(pub &'p BufferPool);

impl<'p> PageSource<'p> for Sampled<'p> {
    type Held = OptimisticPage<'p>;

    #[inline(always)]
    fn take(
        self,
        swip: SwipWord,
        ask: impl FnOnce(SpeculativePage<'p>),
    ) -> Result<OptimisticPage<'p>, Restart> {
        self.0.resolve_asking(swip, ask)
    }

    #[inline(always)]
    fn expect(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) {
        self.0.expect(swip, ask);
    }
}

impl<'p> HeldPage<'p> for OptimisticPage<'p> {
    #[inline]
    fn id(&self) -> PageId {
        OptimisticPage::id(self)
    }

    #[inline]
    fn frame(&self) -> FrameIndex {
        OptimisticPage::frame(self)
    }

    #[inline]
    fn page(&self) -> SpeculativePage<'p> {
        OptimisticPage::page(self)
    }

    #[inline]
    fn validate(&self) -> Result<(), Restart> {
        OptimisticPage::validate(self)
    }

    #[inline]
    fn repair_hint(&self, word: usize, old: SwipWord, target: FrameIndex) {
        OptimisticPage::repair_hint(*self, word, old, target);
    }
}

/// A node on the way: held, its headers loaded, and of the right tree and level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'p, H> {
    held: H,
    loaded: LoadedNode<'p>,
}

// Inline by force, from here to the leaf: out of line these hand nodes and results of 100 bytes to each other through memory. For the
// same reason what is cold is handed values: a node whose address is taken anywhere stands in memory everywhere.

/// What was read of a held page, if it can be believed; an offset outside a page that nobody was changing is corruption.
#[inline(always)]
pub(crate) fn believe<'p, T>(held: &impl HeldPage<'p>, read: Result<T, OutOfBounds>) -> Result<T, Interrupt> {
    match read {
        Ok(read) => Ok(read),
        Err(error) => Err(torn(held.validate(), held.id(), error)),
    }
}

#[cold]
fn torn(validated: Result<(), Restart>, id: PageId, error: OutOfBounds) -> Interrupt {
    refuse(validated, malformed(id)(error))
}

/// An error about a page, unless a writer explains it: `validated` is told after the page was read.
#[cold]
fn refuse(validated: Result<(), Restart>, error: TreeError) -> Interrupt {
    match validated {
        Err(restart) => restart.into(),
        Ok(()) => error.into(),
    }
}

impl<'p, H: HeldPage<'p>> Node<'p, H> {
    /// Tree and level: a page that was reused by another tree, or that a hostile file names twice, is found here (E4).
    #[inline(always)]
    pub(crate) fn arrive(held: H, tree_id: u32, level: Option<u8>) -> Result<Self, Interrupt> {
        let loaded = believe(&held, NodeView::new(held.page()).load())?;
        let is_node = believe(&held, loaded.is_node())?;
        let found = (is_node, loaded.tree_id(), loaded.level());
        let expected = (true, tree_id, level.unwrap_or(found.2));
        if found != expected {
            return Err(wrong_node(held.validate(), held.id(), expected, found));
        }
        // The root has no bounds; one that claims some would send a scan round in circles.
        if level.is_none() && !loaded.has_no_bounds() {
            return Err(wrong(held.validate(), held.id(), "a root with fences", 0, 1));
        }
        Ok(Self { held, loaded })
    }

    /// Which child of an inner node the way goes to: its index, and the swip that stands there.
    #[inline(always)]
    pub(crate) fn way(&self, seek: Seek<'_>) -> Result<(usize, SwipWord), Interrupt> {
        self.believe(choose(&self.loaded, seek))
    }

    pub(crate) fn id(&self) -> PageId {
        self.held.id()
    }

    pub(crate) fn page(&self) -> SpeculativePage<'p> {
        self.held.page()
    }

    pub(crate) fn view(&self) -> NodeView<'p> {
        self.loaded.view()
    }

    /// The node as its headers were when it was arrived at.
    #[inline]
    pub(crate) fn loaded(&self) -> &LoadedNode<'p> {
        &self.loaded
    }

    pub(crate) fn held(&self) -> &H {
        &self.held
    }

    pub(crate) fn into_held(self) -> H {
        self.held
    }

    /// Distance from the leaves.
    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.loaded.level()
    }

    #[inline]
    pub(crate) fn validate(&self) -> Result<(), Restart> {
        self.held.validate()
    }

    #[inline(always)]
    pub(crate) fn believe<T>(&self, read: Result<T, OutOfBounds>) -> Result<T, Interrupt> {
        believe(&self.held, read)
    }

    /// An error about this node, unless a writer explains it.
    pub(crate) fn refuse(&self, error: TreeError) -> Interrupt {
        refuse(self.held.validate(), error)
    }
}

#[cold]
fn wrong(
    validated: Result<(), Restart>,
    page_id: PageId,
    reason: &'static str,
    expected: u64,
    found: u64,
) -> Interrupt {
    refuse(validated, TreeError::WrongNode { page_id, reason, expected, found })
}

/// What was expected and found: whether it is a node, its tree, its level.
#[cold]
fn wrong_node(
    validated: Result<(), Restart>,
    page_id: PageId,
    (_, tree_id, level): (bool, u32, u8),
    found: (bool, u32, u8),
) -> Interrupt {
    if !found.0 {
        wrong(validated, page_id, "not a node of a tree", 1, 0)
    } else if found.1 != tree_id {
        wrong(validated, page_id, "a node of another tree", tree_id.into(), found.1.into())
    } else {
        wrong(validated, page_id, "level", level.into(), found.2.into())
    }
}

/// Which tree is walked, and where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Roots<'r> {
    /// The tree's number, which stands in each of its nodes.
    pub tree_id: u32,
    /// The root's cell: the one holder of a swip that is no page.
    pub root: &'r AtomicSwipWord,
}

/// Takes the root.
#[inline(always)]
pub(crate) fn root<'p, S: PageSource<'p>>(
    source: S,
    tree: Roots<'_>,
) -> Result<Node<'p, S::Held>, Interrupt> {
    let swip = tree.root.load();
    let root = Node::arrive(source.take(swip, |_| ())?, tree.tree_id, None)?;
    if swip.hint() != Some(root.held.frame()) {
        // The cell is no page: a lost race leaves another hint for the same id.
        let _ = tree.root.compare_exchange(swip, swip.with_hint(root.held.frame()));
    }
    Ok(root)
}

/// The node of this level that is looked for, or the root, if that is no higher. `visit` is given every node above, once its child is
/// held too, and the child.
#[inline(always)]
pub(crate) fn descend<'p, S: PageSource<'p>>(
    source: S,
    tree: Roots<'_>,
    level: u8,
    seek: Seek<'_>,
    mut visit: impl FnMut(Node<'p, S::Held>, &Node<'p, S::Held>) -> Result<(), Interrupt>,
) -> Result<Node<'p, S::Held>, Interrupt> {
    let mut node = root(source, tree)?;
    while node.level() > level {
        let way = node.way(seek)?;
        let next = follow(source, tree.tree_id, &node, way, seek)?;
        visit(node, &next)?;
        node = next;
    }
    Ok(node)
}

/// The leaf of a key, for who looks at nothing on the way.
#[inline(always)]
pub(crate) fn leaf_of<'p, S: PageSource<'p>>(
    source: S,
    tree: Roots<'_>,
    key: &[u8],
) -> Result<Node<'p, S::Held>, Interrupt> {
    let mut node = root(source, tree)?;
    while node.level() > 0 {
        let way = node.way(Seek::Key(key))?;
        let below = node.level() - 1;
        node = child(source, tree.tree_id, &node, way, |page| prefetch_search(below, page, key.len()))?;
    }
    check_leaf(&node, key)?;
    Ok(node)
}

/// The leaf covers the key. Its holder was validated after it was sampled, so with the leaf as it was, anything else is corruption.
#[inline(always)]
pub(crate) fn check_leaf<'p, H: HeldPage<'p>>(leaf: &Node<'p, H>, key: &[u8]) -> Result<(), Interrupt> {
    if leaf.believe(leaf.loaded.covers(key))? == Covers::Inside {
        return Ok(());
    }
    Err(wrong(leaf.held.validate(), leaf.id(), ELSEWHERE, 1, 0))
}

const ELSEWHERE: &str = "the fences do not hold what the parent sends here";

/// Goes one step of a way.
#[inline(always)]
pub(crate) fn follow<'p, S: PageSource<'p>>(
    source: S,
    tree_id: u32,
    node: &Node<'p, S::Held>,
    way: (usize, SwipWord),
    seek: Seek<'_>,
) -> Result<Node<'p, S::Held>, Interrupt> {
    let below = node.level() - 1;
    let child = child(source, tree_id, node, way, |page| prefetch_search(below, page, seek.key_len()))?;
    check_fences(node, &child, seek)?;
    Ok(child)
}

/// The child with this index of an inner node, which stood there under this swip. `ask` as in [`PageSource::take`].
#[inline(always)]
pub(crate) fn child<'p, S: PageSource<'p>>(
    source: S,
    tree_id: u32,
    node: &Node<'p, S::Held>,
    (index, swip): (usize, SwipWord),
    ask: impl FnOnce(SpeculativePage<'p>),
) -> Result<Node<'p, S::Held>, Interrupt> {
    let held = match source.take(swip, ask) {
        Ok(held) => held,
        // Fault or wait for nothing that a torn node said.
        Err(restart) => {
            node.validate()?;
            return Err(restart.into());
        }
    };
    if !planted("a child is believed without its holder") {
        node.validate()?; // P7
    }
    let child = Node::arrive(held, tree_id, Some(node.level() - 1))?;
    if swip.hint() != Some(child.held.frame())
        && let Ok(word) = node.loaded.child_word(index)
    {
        node.held.repair_hint(word, swip, child.held.frame());
    }
    Ok(child)
}

/// The key that is sought lies between the node's fences.
#[inline(always)]
pub(crate) fn choose(node: &LoadedNode<'_>, seek: Seek<'_>) -> Result<(usize, SwipWord), OutOfBounds> {
    match seek {
        Seek::Key(key) => node.child_for_inside(key),
        Seek::Before(key) => node.child_before(key),
        Seek::Last => node.last_child(),
    }
}

/// The child covers what is looked for. With the holder validated, anything else is corruption.
#[inline(always)]
fn check_fences<'p, H: HeldPage<'p>>(
    holder: &Node<'p, H>,
    child: &Node<'p, H>,
    seek: Seek<'_>,
) -> Result<(), Interrupt> {
    let node = &child.loaded;
    let inside = match seek {
        Seek::Key(key) => child.believe(node.covers(key))? == Covers::Inside,
        Seek::Before(key) => child.believe(node.covers_before(key))?,
        Seek::Last => node.upper_is_infinite(),
    };
    if inside {
        return Ok(());
    }
    holder.validate()?;
    Err(wrong(child.held.validate(), child.id(), ELSEWHERE, 1, 0))
}

/// Looks a key up among pages wherever they stand: replaces the contents of `value` by what the leaf has for it, and gives the flags of
/// that cell, which are 0 for a whole value.
///
/// [`Interrupt::Restart`] means nothing but that the look-up is to be taken again, from the root, once the page that it may name is
/// resident. [`crate::BTree::get_into`] does that, and is what to use where the pages are a pool's.
#[inline]
pub fn look_up_in<'p, S: PageSource<'p>>(
    source: S,
    tree: Roots<'_>,
    key: &[u8],
    value: &mut Vec<u8>,
) -> Result<Option<u8>, Interrupt> {
    let leaf = leaf_of(source, tree, key)?;
    let found = find_in(&leaf, None, key, value)?;
    leaf.validate()?;
    Ok(found)
}

/// [`look_up_in`] once the leaf is there, and where the key stands in it if anywhere, if that is known; the caller validates it.
#[inline(always)]
pub(crate) fn find_in<'p, H: HeldPage<'p>>(
    leaf: &Node<'p, H>,
    expected: Option<usize>,
    key: &[u8],
    value: &mut Vec<u8>,
) -> Result<Option<u8>, Interrupt> {
    match leaf.believe(leaf.loaded.find_expected(expected, key))? {
        None => {
            value.clear();
            Ok(None)
        }
        Some(cell) => leaf.believe(leaf.loaded.copy_flagged(cell, value)).map(Some),
    }
}
