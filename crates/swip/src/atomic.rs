//! A swip that stands outside of pages: a root cell, a cursor.
//!
//! Invariant: it holds at every instant a word that somebody stored whole. A swip inside a page is a word of the page and
//! is changed under the page's latch only (P5): there the slot itself may move.

use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::faults::planted;

use crate::SwipWord;

/// A [`SwipWord`] that threads share.
pub struct AtomicSwipWord(AtomicU64);

impl AtomicSwipWord {
    /// Holds `swip`.
    pub fn new(swip: SwipWord) -> Self {
        Self(AtomicU64::new(swip.raw()))
    }

    /// The word now. Acquire: its partner is the Release of the `store` or `compare_exchange` that put it there.
    #[inline]
    pub fn load(&self) -> SwipWord {
        let acquire = if planted("a swip is loaded relaxed") { Ordering::Relaxed } else { Ordering::Acquire };
        SwipWord::from_raw(self.0.load(acquire))
    }

    /// Replaces the word, whatever it is. Release: see [`AtomicSwipWord::load`].
    #[inline]
    pub fn store(&self, swip: SwipWord) {
        self.0.store(swip.raw(), Ordering::Release);
    }

    /// Replaces `old` by `new` if `old` stands there. Either way gives the live word: `Ok(new)`, or `Err` of what stood
    /// there instead, to decide anew.
    #[inline]
    pub fn compare_exchange(&self, old: SwipWord, new: SwipWord) -> Result<SwipWord, SwipWord> {
        if planted("a swip is replaced whatever it is") {
            self.store(new);
            return Ok(new);
        }
        match self.0.compare_exchange(old.raw(), new.raw(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(new),
            Err(live) => Err(SwipWord::from_raw(live)),
        }
    }
}

impl std::fmt::Debug for AtomicSwipWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AtomicSwipWord").field(&self.load()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_page_format::{FrameIndex, PageId};

    use super::*;

    #[test]
    fn compare_exchange_gives_the_live_word() {
        let cold = SwipWord::new(PageId::new(1)).expect("in range");
        let hot = cold.with_hint(FrameIndex::new(2));
        let cell = AtomicSwipWord::new(cold);
        assert_eq!(cell.compare_exchange(hot, cold), Err(cold));
        assert_eq!(cell.compare_exchange(cold, hot), Ok(hot));
        assert_eq!(cell.load(), hot);
        cell.store(SwipWord::NULL);
        assert_eq!(cell.compare_exchange(hot, cold), Err(SwipWord::NULL));
    }
}
