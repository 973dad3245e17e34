//! The tree: what it is made of, and how it comes to be.

use std::ops::Deref;
use std::sync::Weak;

use pagestone_mini_txn::{LoggedPool, Reserve};
use pagestone_page_format::{PageId, PageOp, PageResult};
use pagestone_swip::{AtomicSwipWord, SwipWord};
use pagestone_sync::Arc;
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::copy_shelf::CopyShelf;
use crate::metrics::TreeMetrics;
use crate::node::{FormatNode, max_inline_value, max_key_len};
use crate::overflow::MAX_VALUE_LEN;
use crate::{TreeError, TreeResult};

/// The fewest frames with which a tree works: what one split of the highest tree may hold at once, twice.
pub const MIN_TREE_FRAMES: usize = 32;

/// Number of the default tree; others count up from it.
pub const TREE_BASE_ID: u32 = 1;

/// A B+tree in a store. Cheap to clone; all clones are one tree.
#[derive(Debug, Clone)]
pub struct BTree {
    shared: Arc<Shared>,
}

/// A tree that this does not keep in use: for whoever hands out clones of one [`BTree`] to all who ask for a tree.
#[derive(Debug, Clone)]
pub struct WeakTree {
    shared: Weak<Shared>,
}

impl WeakTree {
    /// The tree, if anybody else still has it.
    pub fn upgrade(&self) -> Option<BTree> {
        self.shared.upgrade().map(|shared| BTree { shared })
    }
}

/// What the operations of one tree run in: pool, log and page ids, until the tree is dropped.
#[derive(Debug)]
pub(crate) struct TreeEnv {
    env: Arc<LoggedPool>,
    dropped: AtomicBool,
    /// Shared with the trees beside it.
    pub(crate) counters: Arc<Counters>,
    /// Shared with them too.
    pub(crate) copies: Arc<CopyShelf>,
}

impl TreeEnv {
    /// Refuses once the tree is dropped. Whoever meets a node that the drop has changed, sampled it after that, and so finds the
    /// flag set.
    pub(crate) fn check_kept(&self) -> TreeResult<()> {
        if self.is_kept() { Ok(()) } else { Err(TreeError::Dropped) }
    }

    /// Whether the tree is not dropped.
    #[inline]
    pub(crate) fn is_kept(&self) -> bool {
        !self.dropped.load(Ordering::Acquire)
    }
}

impl Deref for TreeEnv {
    type Target = LoggedPool;

    fn deref(&self) -> &LoggedPool {
        &self.env
    }
}

/// Lies on lines of its own, apart from the count of its clones: every cursor is one, and what writes that count must take nothing from
/// those who read here.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    env: TreeEnv,
    tree_id: u32,
    root_id: PageId,
    /// The root's cell: the one holder of a swip that is no page.
    root: AtomicSwipWord,
}

/// What is counted while the tree is used.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) splits: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) shrinks: AtomicU64,
    pub(crate) merges_given_up: AtomicU64,
    pub(crate) metrics: TreeMetrics,
}

/// What a tree has done since it was opened, and what shape it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeStats {
    /// Levels, the leaves' among them; a lookup visits as many pages.
    pub height: u32,
    /// Nodes split since the tree was opened, in the trees beside it too ([`BTree::beside`]).
    pub splits: u64,
    /// Nodes merged into a sibling since then.
    pub merges: u64,
    /// Times that the root took the place of its only child since then.
    pub shrinks: u64,
    /// Merges that failed since then, for want of something or because a page could not be read. The removals that had asked for
    /// them were done, and whoever needs the page is told what is wrong with it.
    pub merges_given_up: u64,
}

impl TreeStats {
    /// Pages that merges and shrinking roots gave back since the tree was opened; those of extents and of dropped trees are not in it.
    pub fn pages_freed(&self) -> u64 {
        self.merges + self.shrinks
    }
}

impl BTree {
    /// Makes an empty tree with the number `tree_id`; gives it and its root, which it keeps for life (L11).
    pub fn create(env: Arc<LoggedPool>, tree_id: u32) -> TreeResult<Self> {
        let mut txn = env.begin(Reserve { log_bytes: 256, new_pages: 1, ..Reserve::default() })?;
        let root = txn.allocate()?;
        let root_id = txn.id(root);
        txn.change(root, &FormatNode::empty_leaf(tree_id))?;
        txn.commit()?;
        Ok(Self::open(env, tree_id, root_id)?)
    }

    /// The operation that makes a page the root of an empty tree, for whoever lays out a new store.
    pub fn empty_root(tree_id: u32) -> impl PageOp {
        FormatNode::empty_leaf(tree_id)
    }

    /// The tree whose root stands at `root_id`. Reads nothing; [`crate::TreeError::WrongNode`] comes from the first use if
    /// something else stands there. The pool's budget cannot be lowered below [`MIN_TREE_FRAMES`] any more.
    ///
    /// Errors: `BudgetRefused` for a pool with fewer, `InvalidPageId` for a root that no pool can hold.
    pub fn open(env: Arc<LoggedPool>, tree_id: u32, root_id: PageId) -> PageResult<Self> {
        Self::sharing(env, tree_id, root_id, Arc::default(), Arc::default())
    }

    /// Another tree over the same pool and log, which counts what it does where this one counts. Reads nothing, as
    /// [`BTree::open`].
    pub fn beside(&self, tree_id: u32, root_id: PageId) -> PageResult<Self> {
        let TreeEnv { env, counters, copies, .. } = self.env();
        Self::sharing(Arc::clone(env), tree_id, root_id, Arc::clone(counters), Arc::clone(copies))
    }

    fn sharing(
        env: Arc<LoggedPool>,
        tree_id: u32,
        root_id: PageId,
        counters: Arc<Counters>,
        copies: Arc<CopyShelf>,
    ) -> PageResult<Self> {
        env.pool().require_frames(MIN_TREE_FRAMES)?;
        let root = AtomicSwipWord::new(SwipWord::new(root_id)?);
        let env = TreeEnv { env, dropped: AtomicBool::new(false), counters, copies };
        Ok(Self { shared: Arc::new(Shared { env, tree_id, root_id, root }) })
    }

    /// The same tree, but this does not keep it in use.
    pub fn downgrade(&self) -> WeakTree {
        WeakTree { shared: Arc::downgrade(&self.shared) }
    }

    /// From now on every call of all clones, their cursors' too, gives [`TreeError::Dropped`]; what is under way ends as it would
    /// have, or with that error. To be called before the first page of the tree is freed.
    pub fn mark_dropped(&self) {
        self.shared.env.dropped.store(true, Ordering::Release);
    }

    /// Page id of the root.
    pub fn root_id(&self) -> PageId {
        self.shared.root_id
    }

    /// The tree's number, which stands in each of its nodes.
    pub fn tree_id(&self) -> u32 {
        self.shared.tree_id
    }

    /// The longest key, in bytes.
    pub fn max_key_len(&self) -> usize {
        max_key_len(self.env().pool().page_size())
    }

    /// The longest value, in bytes: 4 GiB.
    pub fn max_value_len(&self) -> u64 {
        MAX_VALUE_LEN
    }

    /// The longest value that stands in the leaf of a key of this length, in bytes; longer ones stand in extents.
    pub fn max_inline_value(&self, key_len: usize) -> usize {
        max_inline_value(self.env().pool().page_size(), key_len)
    }

    /// What it has done and what shape it has.
    pub fn stats(&self) -> TreeResult<TreeStats> {
        let Counters { splits, merges, shrinks, merges_given_up, .. } = self.counters();
        Ok(TreeStats {
            height: self.height()?,
            splits: splits.load(Ordering::Relaxed),
            merges: merges.load(Ordering::Relaxed),
            shrinks: shrinks.load(Ordering::Relaxed),
            merges_given_up: merges_given_up.load(Ordering::Relaxed),
        })
    }

    pub(crate) fn env(&self) -> &TreeEnv {
        &self.shared.env
    }

    pub(crate) fn root_cell(&self) -> &AtomicSwipWord {
        &self.shared.root
    }

    pub(crate) fn count_split(&self) {
        self.counters().splits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.env.counters
    }
}
