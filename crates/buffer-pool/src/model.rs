//! What models look at, under `--cfg loom` alone: the invariants of the pool, checked on the pool itself.

use pagestone_page_format::{FrameIndex, PageId};

use crate::BufferPool;
use crate::table::Entry;

impl BufferPool {
    /// A provider is there, and awake; some thread will be it. False if there is one already.
    pub fn have_provider(&self) -> bool {
        let taken = self.demand.take();
        if taken {
            self.demand.raise();
        }
        taken
    }

    /// To be the provider, until it is ended.
    pub fn be_provider(&self) {
        self.provide_until_stopped();
    }

    /// Ends the provider.
    pub fn end_provider(&self) {
        self.demand.stop();
    }

    /// The provider has ended: there may be another one.
    pub fn leave_provider(&self) {
        self.demand.leave();
    }

    /// Whether there is a provider that serves, and was asked to.
    pub fn has_provider_at_work(&self) -> bool {
        let state = self.demand.state.lock();
        self.demand.is_served() && state.wanted && !state.stopped
    }

    /// Frames on the free list now.
    pub fn free_len(&self) -> usize {
        self.free.len()
    }

    /// P2, of each frame while nobody else has it latched: the table leads to it from the page that it holds, and from no other of
    /// those below `pages`.
    pub fn assert_residency(&self, pages: u64) {
        for index in 0..self.frames.len() {
            let index = FrameIndex::new(index as u32);
            let frame = &self.frames[index.index()];
            let _shared = frame.latch.lock_shared().expect("no panic");
            let held = frame.page();
            for id in (0..pages).map(PageId::new) {
                let named = self.table.get(id) == Entry::Resident(index);
                assert_eq!(named, held == Some(id), "P2: table and header disagree about page {id}");
            }
        }
    }

    /// P9, P10, when nobody is at work and no pin is held: no frame is latched, pinned or being written, and each is either on the
    /// free list, once, or holds a page; those above the budget neither.
    pub fn assert_at_rest(&self) {
        for frame in &self.frames {
            assert!(
                frame.latch.try_lock_exclusive().map(|latch| latch.unlock_unchanged()).is_ok(),
                "P10: a latch is left held"
            );
            assert!(!frame.is_pinned() && !frame.is_writing(), "P10: a pin or a claim is left");
        }
        let mut free = vec![0; self.frames.len()];
        let listed: Vec<_> = std::iter::from_fn(|| self.free.pop()).collect();
        for index in listed {
            free[index.index()] += 1;
            self.free.push(index).expect("it was there");
        }
        for (index, (frame, listed)) in self.frames.iter().zip(free).enumerate() {
            let owned = usize::from(frame.page().is_some());
            let owners = usize::from(index < self.capacity());
            assert_eq!(listed + owned, owners, "P9: a frame is lost, or has two owners");
        }
    }
}
