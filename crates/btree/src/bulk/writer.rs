//! A thread that makes pages of nodes and writes them.
//!
//! Invariant: it writes nothing any more once this is dropped; so whoever made the nodes can give their ids back after that. What it fails
//! with is told by [`Writer::finish`]; a panic poisons the handle (E8).
//!
//! ```text
//!   maker     node, node, ... ──► belt, bounded ──► node to page ─► storage's stream     writer
//!             gives no more ────► ended ──────────► all written, told how
//!             is told that it is enough ◄────────── failed
//! ```

use std::collections::VecDeque;

use pagestone_page_format::{PageError, PageId};
use pagestone_sync::{Arc, Condvar, Mutex};
use pagestone_threading::{Spawner, ThreadClass, Worker};

use super::pages::Pages;
use crate::node::FormatNode;
use crate::{BTree, TreeError, TreeResult};

/// Nodes that are given at once, so that not each of them wakes somebody.
const LOT: usize = 16;
/// Lots on the belt at most.
const LOTS_MAX: usize = 16;

type Node = (PageId, FormatNode);

/// What goes from the one who makes nodes to the one who writes them.
#[derive(Default)]
struct Belt {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lots: VecDeque<Vec<Node>>,
    /// Nothing more comes.
    ended: bool,
    /// How it went, once the writer is done.
    done: Option<TreeResult<()>>,
}

impl Belt {
    /// Puts a lot on the belt when there is room; false if the writer is done, which it is only if it has failed.
    fn put(&self, lot: Vec<Node>) -> bool {
        let mut state = self.state.lock();
        while state.lots.len() >= LOTS_MAX && state.done.is_none() {
            state = self.changed.wait(state);
        }
        let goes_on = state.done.is_none();
        state.lots.push_back(lot);
        drop(state);
        self.changed.notify_all();
        goes_on
    }

    /// The next lot; nothing at the end.
    fn take(&self) -> Option<Vec<Node>> {
        let mut state = self.state.lock();
        while state.lots.is_empty() && !state.ended {
            state = self.changed.wait(state);
        }
        let lot = state.lots.pop_front();
        drop(state);
        self.changed.notify_all();
        lot
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    fn done(&self, how: TreeResult<()>) {
        self.state.lock().done.get_or_insert(how);
        self.changed.notify_all();
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

    /// Gives a node to be written; false if it is no use to go on.
    pub(super) fn give(&mut self, node: Node) -> bool {
        self.lot.push(node);
        self.lot.len() < LOT || self.belt.put(std::mem::replace(&mut self.lot, Vec::with_capacity(LOT)))
    }

    /// Waits until all is written; tells how it went.
    pub(super) fn finish(mut self) -> TreeResult<()> {
        self.belt.put(std::mem::take(&mut self.lot));
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
    let (mut pages, mut lot) = (Pages::new(tree), Vec::new().into_iter());
    let mut failed = None;
    let written = tree.env().pool().store().write_new_stream(&mut |page| {
        loop {
            if let Some((id, node)) = lot.next() {
                return match pages.format(id, &node, page) {
                    Ok(()) => true,
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                };
            }
            match belt.take() {
                Some(more) => lot = more.into_iter(),
                None => return false,
            }
        }
    });
    failed.map_or(Ok(()), Err)?;
    Ok(written?)
}
