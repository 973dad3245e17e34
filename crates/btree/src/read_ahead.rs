//! What a scan asks the pool for ahead of itself.
//!
//! Invariant: it is a hint and nothing else. What is asked for may be out of date, and costs a read then; the cursor itself goes its own
//! way, and no error comes from here. It begins with the first leaf that was not in memory, so a scan of what is resident asks for
//! nothing.
//!
//! ```text
//!   level 1    ┌── node ──────────────────┐ ┌── next nodes: asked for while this one is scanned ─┐
//!   leaves      ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ▪   ▪ ▪ ▪ ▪
//!                   ▲         ▲           ▲
//!                 cursor              the window's end: twice as far with each request, up to two mebibytes
//! ```
//!
//! The first window is read by the cursor's own thread, and the second too, once the cursor misses the leaf behind it: a short scan comes to no
//! more, and wakes nobody. From then on requests go to the readers, each once the window has room for it, or for half of itself.
//!
//! The window stays below a sixteenth of the pool: pages that wait to be looked at for the first time are pushed out by those that come
//! later, as all that is on probation.

use pagestone_buffer_pool::{BufferPool, PageMark, Restart};
use pagestone_page_format::PageId;

use crate::BTree;
use crate::descend::Seek;
use crate::error::Interrupt;
use crate::walk::{self, Node};

/// Leaves that are asked for first.
const WINDOW_MIN: usize = 4;
/// Bytes of leaves that are asked for and not looked at, at most.
const WINDOW_BYTES: usize = 2 << 20;
/// The part of the pool that they may be.
const POOL_SHARE: usize = 16;
/// Pages in one request: one long read, if they are neighbours.
const REQUEST: usize = 64;

/// Nodes of level 1 that are asked for together. The leaves of one are fewer than the window may be, so the next must be there long before
/// the cursor is: while it is not, nothing more can be asked for.
const NODES: usize = 4;

/// How far a cursor has asked ahead of itself, and in which direction.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    forward: bool,
    /// Leaves that may be asked for and not reached; 0: nothing is asked for.
    window: usize,
    /// Leaves that were asked for and not reached.
    ahead: usize,
    next: Next,
    /// The fence at which the next node of level 1 begins, or ends.
    fence: Vec<u8>,
}

/// Where it goes on.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Nowhere.
    End,
    /// With this child of a node of level 1.
    Child { node: PageMark, index: usize },
    /// With the node behind the fence.
    BehindFence,
}

impl ReadAhead {
    pub(crate) fn new() -> Self {
        Self { forward: true, window: 0, ahead: 0, next: Next::End, fence: Vec::new() }
    }

    /// Asks for nothing until the next miss.
    pub(crate) fn stop(&mut self) {
        (self.window, self.ahead, self.next) = (0, 0, Next::End);
    }

    /// The cursor came to a leaf.
    #[inline]
    pub(crate) fn reached_leaf(&mut self, tree: &BTree, forward: bool) {
        if self.window > 0 {
            self.go_on(tree, forward);
        }
    }

    fn go_on(&mut self, tree: &BTree, forward: bool) {
        if forward != self.forward {
            return self.stop();
        }
        self.ahead = self.ahead.saturating_sub(1);
        // The first window may be all that a short scan comes to.
        if self.window > WINDOW_MIN && self.window >= self.ahead + REQUEST.min(self.window / 2) {
            self.ask(tree, BufferPool::prefetch_soon);
        }
    }

    /// The cursor came to a leaf that is not in memory: this child of that node.
    pub(crate) fn missed(&mut self, tree: &BTree, node: PageMark, index: usize, forward: bool) {
        if forward == self.forward && self.ahead > 0 {
            return; // it was asked for, and is on its way
        }
        let goes_on = self.window > 0 && forward == self.forward;
        let window = if goes_on { self.window.min(WINDOW_MIN) } else { WINDOW_MIN / 2 };
        self.stop();
        (self.forward, self.window, self.next) = (forward, window, Next::Child { node, index });
        if goes_on {
            self.ask_for_next_nodes(tree, node);
        }
        // The cursor is about to wait for the first of them, and to wake a reader takes longer than to read some neighbours with it.
        self.ask(tree, BufferPool::prefetch);
    }

    /// Asks for as many leaves as the window has room for.
    fn ask(&mut self, tree: &BTree, prefetch: fn(&BufferPool, &[PageId])) {
        let pool = tree.env().pool();
        let most = (WINDOW_BYTES / pool.page_size().get()).min(pool.capacity() / POOL_SHARE).max(WINDOW_MIN);
        self.window = (2 * self.window).min(most);
        let (wanted, mut ids) = (self.window - self.ahead.min(self.window), Vec::new());
        while ids.len() < wanted {
            match self.next {
                Next::End => break,
                Next::Child { node, index } => {
                    if self.take_children(tree, node, index, wanted, &mut ids).is_none() {
                        self.next = Next::End; // it changed
                    }
                }
                Next::BehindFence => {
                    if !self.enter_next_node(tree) {
                        break;
                    }
                }
            }
        }
        self.ahead += ids.len();
        ids.retain(|id| !pool.is_resident(*id));
        if ids.is_empty() && self.ahead > 0 {
            self.window /= 4; // all of it is there
            if self.window == 0 {
                return self.stop();
            }
        }
        for ids in ids.chunks_mut(REQUEST) {
            ids.sort_unstable(); // neighbours are read together in the order of the file
            prefetch(pool, ids);
        }
    }

    /// Adds the ids of the children from this one on, until there are as many as are wanted; nothing if the node is not as it was.
    fn take_children(
        &mut self,
        tree: &BTree,
        mark: PageMark,
        mut index: usize,
        wanted: usize,
        ids: &mut Vec<PageId>,
    ) -> Option<()> {
        let node = Node::arrive(tree.env().pool().revisit(mark)?, tree.tree_id(), Some(1)).ok()?;
        let before = ids.len();
        self.next = loop {
            if ids.len() == wanted {
                break Next::Child { node: mark, index };
            }
            match node.loaded().child_at(index) {
                None => break Next::BehindFence,
                Some(child) => ids.push(child.page_id()),
            }
            match beside(index, self.forward) {
                Some(next) => index = next,
                None => break Next::BehindFence,
            }
        };
        let mut fence = std::mem::take(&mut self.fence);
        let is_last = self.append_fence(&node, &mut fence);
        self.fence = fence;
        if node.validate().is_err() {
            ids.truncate(before);
            return None;
        }
        if is_last? && matches!(self.next, Next::BehindFence) {
            self.next = Next::End;
        }
        Some(())
    }

    /// Replaces `fence` by the one that the scan leaves the node by; whether it is the last node of its level on the way.
    fn append_fence<'p>(
        &self,
        node: &Node<'p, impl walk::HeldPage<'p>>,
        fence: &mut Vec<u8>,
    ) -> Option<bool> {
        fence.clear();
        if self.forward {
            return node.view().upper_fence(fence).ok().map(|finite| !finite);
        }
        node.view().lower_fence(fence).ok()?;
        Some(fence.is_empty())
    }

    /// Goes to the node behind the fence if it is in memory; if not, asks for what is missing on the way there.
    fn enter_next_node(&mut self, tree: &BTree) -> bool {
        let seek = if self.forward { Seek::Key(&self.fence) } else { Seek::Before(&self.fence) };
        match walk::descend(tree.sampled(), tree.roots(), 1, seek, |_, _| Ok(())) {
            Ok(node) if node.level() == 1 => {
                let children = node.view().count();
                let (Ok(()), Ok(separators)) = (node.validate(), children) else { return false };
                let mark = node.held().mark();
                self.next = Next::Child { node: mark, index: if self.forward { 0 } else { separators } };
                self.ask_for_next_nodes(tree, mark);
                true
            }
            Err(Interrupt::Restart(Restart::Fault(id))) => {
                tree.env().pool().prefetch_soon(&[id]);
                false
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Asks for the nodes behind this one, or what is missing on the way there, so that they are in memory when they are entered: once one
    /// of the next two is not, for the next four, which are neighbours in the file if they were loaded in the order of their keys.
    fn ask_for_next_nodes(&mut self, tree: &BTree, mark: PageMark) {
        let Some(held) = tree.env().pool().revisit(mark) else { return };
        let Ok(node) = Node::arrive(held, tree.tree_id(), Some(1)) else { return };
        let mut fence = std::mem::take(&mut self.fence);
        let is_last = self.append_fence(&node, &mut fence);
        if is_last == Some(false) && node.validate().is_ok() {
            let seek = if self.forward { Seek::Key(&fence) } else { Seek::Before(&fence) };
            match self.nodes_from(tree, seek) {
                Ok(mut ids) => {
                    let pool = tree.env().pool();
                    if ids.iter().take(NODES / 2).any(|id| !pool.is_resident(*id)) {
                        ids.retain(|id| !pool.is_resident(*id));
                        ids.sort_unstable();
                        pool.prefetch_soon(&ids);
                    }
                }
                Err(Interrupt::Restart(Restart::Fault(id))) => tree.env().pool().prefetch_soon(&[id]),
                Err(_) => {}
            }
        }
        self.fence = fence;
    }

    /// The ids of the next nodes of level 1 in the order of the scan, as far as they hang below one node.
    fn nodes_from(&self, tree: &BTree, seek: Seek<'_>) -> Result<Vec<PageId>, Interrupt> {
        let above = walk::descend(tree.sampled(), tree.roots(), 2, seek, |_, _| Ok(()))?;
        if above.level() != 2 {
            return Ok(Vec::new()); // it became lower
        }
        let (mut index, _) = above.believe(walk::choose(above.loaded(), seek))?;
        let mut ids = Vec::with_capacity(NODES);
        while ids.len() < NODES
            && let Some(child) = above.loaded().child_at(index)
        {
            ids.push(child.page_id());
            match beside(index, self.forward) {
                Some(next) => index = next,
                None => break,
            }
        }
        above.validate()?;
        Ok(ids)
    }
}

/// The place beside this one, if there is one left of it.
fn beside(index: usize, forward: bool) -> Option<usize> {
    if forward { Some(index + 1) } else { index.checked_sub(1) }
}
