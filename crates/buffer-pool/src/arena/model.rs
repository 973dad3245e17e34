//! The arena of a model: the model's atomics cannot lie in mapped memory. The same face, nothing behind it but the words.

use pagestone_page_format::{FrameIndex, PageResult, PageSize};
use pagestone_sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Arena {
    frames: Box<[Box<[AtomicU64]>]>,
}

impl Arena {
    pub(crate) fn reserve(frames: usize, size: PageSize) -> PageResult<Self> {
        let page = || (0..size.words()).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { frames: (0..frames).map(|_| page()).collect() })
    }

    /// What a stale hint leads to from now on.
    pub(crate) fn release_from(&self, frame: usize) {
        let words = self.frames[frame..].iter().flat_map(|page| page.iter());
        words.for_each(|word| word.store(0, Ordering::Relaxed));
    }

    pub(crate) fn words(&self, frame: FrameIndex) -> &[AtomicU64] {
        &self.frames[frame.index()]
    }
}
