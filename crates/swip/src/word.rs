//! The word and its three fields.
//!
//! Invariant: every one of the 2^64 words reads as some swip, and always as the same one. Bytes from a torn or hostile page
//! are therefore harmless here: a state without a hint, a hint without a state and the unused state 3 read as evicted.

use pagestone_page_format::{FrameIndex, PageError, PageId, PageResult};

const HINT_BITS: u32 = 24;
const PAGE_BITS: u32 = 38;
const STATE_SHIFT: u32 = HINT_BITS + PAGE_BITS;
const HINT_MASK: u64 = (1 << HINT_BITS) - 1;
const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;
const NO_HINT: u64 = HINT_MASK;
const NO_PAGE: u64 = PAGE_MASK;

const _: () = assert!(HINT_BITS + PAGE_BITS + 2 == 64);

/// The largest page that a swip can refer to: 2^38 - 2, which is 1 PiB of file at 4 KiB.
pub const MAX_SWIP_PAGE: PageId = PageId::new(NO_PAGE - 1);
/// How many frames a pool can have so that every one can be hinted at: 2^24 - 1, which is 64 GiB of pool at 4 KiB.
pub const MAX_FRAMES: usize = NO_HINT as usize;

/// What a swip believes of its page, as users of swizzling know it. The frame's header knows better.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum SwipState {
    /// No hint. Number 0, so that a masked swip is its page id and nothing else.
    Evicted = 0,
    /// The hint is valid and the frame is marked for replacement.
    Cool = 1,
    /// The hint is valid.
    Hot = 2,
}

impl std::fmt::Display for SwipState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Evicted => "evicted",
            Self::Cool => "cool",
            Self::Hot => "hot",
        })
    }
}

/// Where to look for the page of a swip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// In this frame, if the frame's page id says so too.
    Hot(FrameIndex),
    /// In this frame, if the frame's page id says so too; it is about to be replaced, so a touch should warm it.
    Cool(FrameIndex),
    /// In the page table or in storage.
    Evicted(PageId),
}

/// A reference to a page, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SwipWord(u64);

impl SwipWord {
    /// Refers to no page: for the end of a chain.
    pub const NULL: SwipWord = SwipWord(NO_PAGE << HINT_BITS | NO_HINT);

    /// An evicted reference. [`PageError::InvalidPageId`] for a page past [`MAX_SWIP_PAGE`].
    pub const fn new(page_id: PageId) -> PageResult<Self> {
        if page_id.get() > MAX_SWIP_PAGE.get() {
            return Err(PageError::InvalidPageId { page_id });
        }
        Ok(Self(page_id.get() << HINT_BITS | NO_HINT))
    }

    /// The reference that a word holds, whatever the word.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The word.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The page it refers to. For the null swip, one that no file has.
    #[inline]
    pub const fn page_id(self) -> PageId {
        PageId::new(self.0 >> HINT_BITS & PAGE_MASK)
    }

    /// Whether it refers to no page.
    #[inline]
    pub const fn is_null(self) -> bool {
        self.page_id().get() == NO_PAGE
    }

    /// The frame where the page was last seen, unless evicted.
    #[inline]
    pub const fn hint(self) -> Option<FrameIndex> {
        const FIRST: u64 = SwipState::Cool as u64;
        const { assert!(SwipState::Hot as u64 == FIRST + 1) };
        let hint = self.0 & HINT_MASK;
        // As `resolve` has it, in one comparison of the state: a descent asks for nothing else.
        if (self.0 >> STATE_SHIFT).wrapping_sub(FIRST) < 2 && hint != NO_HINT {
            Some(FrameIndex::new(hint as u32))
        } else {
            None
        }
    }

    /// What it believes of its page.
    #[inline]
    pub const fn state(self) -> SwipState {
        match self.resolve() {
            Resolved::Hot(_) => SwipState::Hot,
            Resolved::Cool(_) => SwipState::Cool,
            Resolved::Evicted(_) => SwipState::Evicted,
        }
    }

    /// Where to look first.
    #[inline]
    pub const fn resolve(self) -> Resolved {
        const COOL: u64 = SwipState::Cool as u64;
        const HOT: u64 = SwipState::Hot as u64;
        let hint = self.0 & HINT_MASK;
        match self.0 >> STATE_SHIFT {
            HOT if hint != NO_HINT => Resolved::Hot(FrameIndex::new(hint as u32)),
            COOL if hint != NO_HINT => Resolved::Cool(FrameIndex::new(hint as u32)),
            _ => Resolved::Evicted(self.page_id()),
        }
    }

    /// The same page, evicted: what goes into page images and log records. Never refused, whatever the state.
    #[inline]
    pub const fn without_hint(self) -> Self {
        Self(self.0 & PAGE_MASK << HINT_BITS | NO_HINT)
    }

    /// The same page, hot, with this hint: the repair of a swip whose hint was wrong. Never refused, whatever the state. A
    /// frame that cannot be named, or no page to be hinted at, leaves no hint.
    #[inline]
    pub const fn with_hint(self, frame: FrameIndex) -> Self {
        if frame.index() >= MAX_FRAMES || self.is_null() {
            return self.without_hint();
        }
        self.at(SwipState::Hot, frame)
    }

    /// The same page in a state with a hint.
    pub(crate) const fn at(self, state: SwipState, frame: FrameIndex) -> Self {
        Self((state as u64) << STATE_SHIFT | self.0 & PAGE_MASK << HINT_BITS | frame.get() as u64)
    }
}

impl std::fmt::Debug for SwipWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_null() {
            return f.write_str("SwipWord(null)");
        }
        match self.resolve() {
            Resolved::Evicted(page) => write!(f, "SwipWord(page {page}, evicted)"),
            Resolved::Cool(frame) | Resolved::Hot(frame) => {
                write!(f, "SwipWord(page {}, {}, frame {})", self.page_id(), self.state(), frame.get())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_those_of_the_layout() {
        assert_eq!(MAX_SWIP_PAGE, PageId::new((1 << 38) - 2));
        assert_eq!(MAX_FRAMES, (1 << 24) - 1);
        assert_eq!(SwipWord::new(MAX_SWIP_PAGE).expect("the last page").page_id(), MAX_SWIP_PAGE);
        for past in [MAX_SWIP_PAGE.get() + 1, 1 << 38, u64::MAX] {
            let refused = SwipWord::new(PageId::new(past));
            assert!(matches!(refused, Err(PageError::InvalidPageId { page_id }) if page_id.get() == past));
        }
    }

    #[test]
    fn layout_is_the_documented_one() {
        let page = PageId::new(0x2a_aaaa_aaaa);
        let cold = SwipWord::new(page).expect("in range");
        assert_eq!(cold.raw(), 0x2a_aaaa_aaaa << 24 | 0xff_ffff);
        let hot = cold.with_hint(FrameIndex::new(0x12_3456));
        assert_eq!(hot.raw(), 2 << 62 | 0x2a_aaaa_aaaa << 24 | 0x12_3456);
        assert_eq!(SwipWord::NULL.raw(), (1 << 62) - 1);
    }

    #[test]
    fn null_never_has_a_hint() {
        assert!(SwipWord::NULL.is_null());
        assert_eq!(SwipWord::NULL.with_hint(FrameIndex::new(1)), SwipWord::NULL);
        assert_eq!(SwipWord::NULL.without_hint(), SwipWord::NULL);
        assert!(!SwipWord::new(PageId::new(0)).expect("page 0").is_null());
    }

    #[test]
    fn nonsense_reads_as_evicted() {
        let page = 77 << HINT_BITS;
        for nonsense in
            [page, page | 5, 1 << 62 | page | NO_HINT, 2 << 62 | page | NO_HINT, 3 << 62 | page | 5]
        {
            let swip = SwipWord::from_raw(nonsense);
            assert_eq!(swip.state(), SwipState::Evicted);
            assert_eq!(swip.hint(), None);
            assert_eq!(swip.resolve(), Resolved::Evicted(PageId::new(77)));
        }
    }

    proptest! {
        #[test]
        fn every_word_reads_as_one_swip(raw: u64, frame: u32) {
            let swip = SwipWord::from_raw(raw);
            prop_assert_eq!(swip.raw(), raw);
            prop_assert_eq!(swip.hint().is_some(), swip.state() != SwipState::Evicted);
            prop_assert_eq!(swip.hint(), match swip.resolve() {
                Resolved::Hot(frame) | Resolved::Cool(frame) => Some(frame),
                Resolved::Evicted(_) => None,
            });
            let masked = swip.without_hint();
            prop_assert_eq!(masked.page_id(), swip.page_id());
            prop_assert_eq!(masked.state(), SwipState::Evicted);
            prop_assert_eq!(masked.without_hint(), masked);
            if let Ok(fresh) = SwipWord::new(swip.page_id()) {
                prop_assert_eq!(fresh, masked);
                let hinted = swip.with_hint(FrameIndex::new(frame));
                prop_assert_eq!(hinted.page_id(), swip.page_id());
                let fits = (frame as usize) < MAX_FRAMES;
                prop_assert_eq!(hinted.hint(), fits.then_some(FrameIndex::new(frame)));
            }
        }
    }
}
