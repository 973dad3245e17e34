//! Where a leaf's parts stand, for who copies it whole and goes on without its page.
//!
//! Invariant: every range lies inside the page, whatever its bytes are.

use std::ops::Range;

use pagestone_page_format::OutOfBounds;

use pagestone_swip::SwipWord;

use super::LoadedNode;
use super::header::FIRST_CHILD;

/// The parts of a leaf, as offsets in its page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outline {
    /// Entries.
    pub(crate) count: usize,
    /// The words of their slots.
    pub(crate) slots: Range<usize>,
    /// What every key begins with and no cell repeats.
    pub(crate) prefix: Range<usize>,
    pub(crate) lower_fence: Range<usize>,
    /// None: infinite.
    pub(crate) upper_fence: Option<Range<usize>>,
}

impl LoadedNode<'_> {
    /// The child of an inner node with this index, if it has so many.
    #[inline]
    pub(crate) fn child_at(&self, index: usize) -> Option<SwipWord> {
        self.slots.link(FIRST_CHILD + index).ok().map(SwipWord::from_raw)
    }

    /// The parts, as the headers had them that were loaded.
    #[inline]
    pub(crate) fn outline(&self) -> Result<Outline, OutOfBounds> {
        let (header, page_len) = (self.header(), self.slots.page().len());
        let (count, slots_at) = (self.slots.count(), self.slots.slots_at());
        let (lower, upper) = (header.lower_at(page_len), header.upper_at(page_len));
        if slots_at + count * 8 > page_len {
            return Err(OutOfBounds);
        }
        Ok(Outline {
            count,
            slots: slots_at..slots_at + count * 8,
            prefix: lower..lower + header.prefix_len,
            lower_fence: lower..upper,
            upper_fence: (!header.upper_infinite).then_some(upper..page_len),
        })
    }
}
