//! A thread that makes pages of nodes and writes them.
//!
//! Invariant: it writes nothing any more once this is dropped; so whoever made the nodes can give their ids back after that. What it fails
//! with is told by [`Writer::finish`]; a panic poisons the handle (E8).
//!
//! ```text
//!   maker     node, node, ... ──► belt, bounded ──► node to page ─► storage's stream     writer
//!             waits while it is full                takes all, and waits for ENOUGH of them
//!             gives no more ────► ended ──────────► all written, told how
//!             leaf in the memory of a used one ◄─── used
//!             is told that it is enough ◄────────── failed
//! ```
//!
//! A thread that is woken costs as much as a page or two, and the one who wakes it pays half of that. So neither is woken before there is
//! work for a while. For the same reason leaves go round: memory that one thread takes and another gives back has both of them at the allocator's
//! lock, which they sleep at. A leaf is made anew only while all that there are wait for the writer or for the maker's next put, so they are some
//! FULL three times at most.

use std::collections::VecDeque;

use pagestone_page_format::{PageError, PageId};
use pagestone_sync::{Arc, Condvar, Mutex};
use pagestone_threading::{Spawner, ThreadClass, Worker};

use super::pages::Pages;
use super::worth_keeping;
use crate::node::FormatNode;
use crate::{BTree, TreeError, TreeResult};

/// Nodes that are put on the belt at once.
const LOT: usize = 16;
/// Nodes for which the writer waits, unless no more come.
const ENOUGH: usize = 64;
/// Nodes with which the belt is full; the writer may have as many, and a lot may come on top.
const FULL: usize = 512;

type Node = (PageId, FormatNode);

/// What goes from the one who makes nodes to the one who writes them.
///
/// No wake-up is lost: each of the two looks at what it waits for under the lock, and whoever makes that true does so under the lock and
/// signals behind it. For the writer that is a put that brings the belt to ENOUGH, or the end; the belt gets shorter by
/// the writer alone. For the maker it is a take, or that the writer is done. Each is the only one that waits for its signal.
#[derive(Default)]
struct Belt {
    state: Mutex<State>,
    /// There are ENOUGH nodes, or the last ones.
    enough: Condvar,
    /// There is room, or no use in it.
    room: Condvar,
}

#[derive(Default)]
struct State {
    nodes: VecDeque<Node>,
    /// Leaves that are in pages.
    used: Vec<FormatNode>,
    /// Nothing more comes.
    ended: bool,
    /// How it went, once the writer is done.
    done: Option<TreeResult<()>>,
}

impl Belt {
    /// Puts a lot on the belt when there is room, leaves it empty, and gives used leaves for it; false if the writer is done, which it is
    /// only if it has failed.
    fn put(&self, lot: &mut Vec<Node>, spare: &mut Vec<FormatNode>) -> bool {
        let mut state = self.state.lock();
        while state.nodes.len() >= FULL && state.done.is_none() {
            state = self.room.wait(state);
        }
        if state.done.is_some() {
            return false;
        }
        let before = state.nodes.len();
        state.nodes.extend(lot.drain(..));
        spare.append(&mut state.used);
        let becomes_enough = before < ENOUGH && state.nodes.len() >= ENOUGH;
        drop(state);
        if becomes_enough {
            self.enough.notify_one();
        }
        true
    }

    /// Takes all nodes, in place of none, for used ones; there are none only at the end.
    fn take(&self, nodes: &mut VecDeque<Node>, used: &mut Vec<FormatNode>) {
        let mut state = self.state.lock();
        while state.nodes.len() < ENOUGH && !state.ended {
            state = self.enough.wait(state);
        }
        std::mem::swap(&mut state.nodes, nodes);
        state.used.append(used);
        drop(state);
        self.room.notify_one();
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.enough.notify_one();
    }

    fn done(&self, how: TreeResult<()>) {
        self.state.lock().done.get_or_insert(how);
        self.room.notify_one();
    }
}

/// The writer, as its maker sees it.
pub(super) struct Writer {
    belt: Arc<Belt>,
    lot: Vec<Node>,
    worker: Option<Worker>,
}

/// The system shows 15 bytes of it.
const NAME: &str = "pagestone-load";

impl Writer {
    pub(super) fn start(tree: &BTree, threads: &Spawner) -> TreeResult<Self> {
        let belt = Arc::new(Belt::default());
        let (on_belt, of_panic, writer) = (Arc::clone(&belt), Arc::clone(&belt), tree.clone());
        let poison = tree.env().poison().clone();
        let on_panic = move |message: String| {
            let error = poison.poison(format_args!("the thread {NAME} panicked: {message}"));
            of_panic.done(Err(error.into()));
        };
        let body = move || on_belt.done(write_all(&writer, &on_belt));
        let worker = threads
            .spawn(ThreadClass::Worker, NAME, on_panic, body)
            .map_err(|error| TreeError::from(PageError::io("starting to load", error)))?;
        Ok(Self { belt, lot: Vec::with_capacity(LOT), worker: Some(worker) })
    }

    /// Gives a node to be written, now and then for leaves that are; false if it is no use to go on.
    pub(super) fn give(&mut self, node: Node, spare: &mut Vec<FormatNode>) -> bool {
        self.lot.push(node);
        self.lot.len() < LOT || self.belt.put(&mut self.lot, spare)
    }

    /// Waits until all is written; tells how it went.
    pub(super) fn finish(mut self) -> TreeResult<()> {
        self.belt.put(&mut self.lot, &mut Vec::new());
        self.end();
        let how = self.belt.state.lock().done.take();
        how.expect("a writer that has ended says how it went")
    }

    fn end(&mut self) {
        self.belt.end();
        if let Some(worker) = self.worker.take() {
            // A panic was told to `on_panic` when it happened.
            let _ = worker.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write_all(tree: &BTree, belt: &Belt) -> TreeResult<()> {
    let (pages, mut nodes, mut used) = (Pages::new(tree), VecDeque::new(), Vec::new());
    let mut failed = None;
    let written = tree.env().pool().store().write_new_stream(&mut |page| {
        if nodes.is_empty() {
            belt.take(&mut nodes, &mut used);
        }
        let Some((id, node)) = nodes.pop_front() else { return false };
        let formatted = pages.format(id, &node, page);
        used.extend(worth_keeping(node));
        formatted.map_err(|error| failed = Some(error)).is_ok()
    });
    failed.map_or(Ok(()), Err)?;
    Ok(written?)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread::{scope, yield_now};

    use super::*;

    fn nodes(ids: std::ops::Range<usize>) -> Vec<Node> {
        ids.map(|id| (PageId::new(id as u64), FormatNode::empty_leaf(1))).collect()
    }

    fn ids(nodes: &VecDeque<Node>) -> impl Iterator<Item = usize> {
        nodes.iter().map(|(id, _)| id.get() as usize)
    }

    /// Whoever is the slower one: the other waits, and goes on.
    #[test]
    fn all_nodes_arrive_in_order_whoever_waits() {
        const NODES: usize = 5 * FULL + ENOUGH / 2;
        // On the belt, at the writer, and used ones that wait for the next put; and the maker's lot.
        const LEAVES_MAX: usize = 3 * (FULL + LOT) + LOT;
        for round in 0..30 {
            let belt = Belt::default();
            let (slow_maker, slow_writer) = (round % 3 == 0, round % 3 == 1);
            let pause = |slow| (0..if slow { 20 } else { 0 }).for_each(|_| yield_now());
            scope(|threads| {
                threads.spawn(|| {
                    let (mut spare, mut made) = (Vec::new(), 0);
                    for first in (0..NODES).step_by(LOT) {
                        let mut lot = nodes(first..NODES.min(first + LOT));
                        made += lot.len().saturating_sub(spare.len());
                        spare.truncate(spare.len().saturating_sub(lot.len()));
                        assert!(belt.put(&mut lot, &mut spare) && lot.is_empty());
                        pause(slow_maker);
                    }
                    assert!(made <= LEAVES_MAX, "{made} leaves were made anew");
                    belt.end();
                });
                let (mut taken, mut next, mut used) = (VecDeque::new(), 0, Vec::new());
                loop {
                    belt.take(&mut taken, &mut used);
                    assert!(used.is_empty());
                    if taken.is_empty() {
                        break;
                    }
                    assert!(
                        taken.len() < FULL + LOT && (taken.len() >= ENOUGH || next + taken.len() == NODES)
                    );
                    assert!(ids(&taken).eq(next..next + taken.len()));
                    next += taken.len();
                    used.extend(taken.drain(..).map(|(_, node)| node));
                    pause(slow_writer);
                }
                assert_eq!(next, NODES);
            });
        }
    }

    /// The maker waits at a full belt, or is about to, when the writer fails.
    #[test]
    fn a_writer_that_fails_lets_the_maker_go() {
        for round in 0..500 {
            let belt = Belt::default();
            assert!(belt.put(&mut nodes(0..FULL), &mut Vec::new()), "there was room");
            scope(|threads| {
                let maker = threads.spawn(|| belt.put(&mut nodes(FULL..FULL + 1), &mut Vec::new()));
                (0..round % 50).for_each(|_| yield_now());
                belt.done(Err(TreeError::NotEmpty));
                assert!(!maker.join().expect("the maker"), "the writer has failed");
            });
            assert!(matches!(belt.state.lock().done, Some(Err(TreeError::NotEmpty))));
        }
    }

    /// The writer waits for ENOUGH, or is about to, when no more come.
    #[test]
    fn an_end_lets_the_writer_go_with_what_there_is() {
        for round in 0..500 {
            let belt = Belt::default();
            assert!(belt.put(&mut nodes(0..ENOUGH - 1), &mut Vec::new()));
            scope(|threads| {
                let writer = threads.spawn(|| {
                    let mut taken = VecDeque::new();
                    belt.take(&mut taken, &mut Vec::new());
                    taken
                });
                (0..round % 50).for_each(|_| yield_now());
                belt.end();
                assert!(ids(&writer.join().expect("the writer")).eq(0..ENOUGH - 1));
            });
        }
    }
}
