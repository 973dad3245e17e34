//! What siblings can give each other.
//!
//! Invariant: what is chosen fits: the left node with what it takes, and the right one behind its new lower fence, with the prefixes that
//! [`super::content`] will choose; and the right one keeps a cell.
//!
//! ```text
//!   leaf    a b c │ d e f g     takes 2:   a b c d e │ f g     the shortest key between e and f becomes the fence of both
//!   inner   a b c │ e f g       takes 2:   a b c s e │ g       s was the fence between them, f becomes it; children go along
//!                 s                                  f
//! ```

use pagestone_page_format::OutOfBounds;

use super::fit::{Sizes, common_prefix};
use super::split::shortest_between;
use super::view::NodeView;

/// What goes from a node to a sibling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    /// Cells that leave the node: its first ones to the left sibling, its last ones to the right one. Of an inner node one of them moves up.
    pub(crate) slots: usize,
    /// The fence between the two from then on.
    pub(crate) separator: Vec<u8>,
}

/// A node that might be.
struct Planned<'k> {
    sizes: Sizes,
    lower: &'k [u8],
    upper: Option<&'k [u8]>,
    last: Option<&'k [u8]>,
}

impl Planned<'_> {
    fn fits(&self) -> bool {
        let fences = self.upper.map_or(0, |upper| common_prefix(self.lower, upper));
        // Keys are sorted: what the lower fence and the last key share, all share.
        let all = self.last.map_or(0, |last| common_prefix(self.lower, last));
        self.sizes.fit(fences, false) || (all > fences && self.sizes.fit(all, true))
    }
}

impl NodeView<'_> {
    /// The most that this node can take from its right sibling, `most` bytes of keys and values; nothing if that is no cell.
    pub(crate) fn shift_from(&self, right: &NodeView<'_>, most: usize) -> Result<Option<Shift>, OutOfBounds> {
        let (mine, theirs) = (self.sizes()?, right.sizes()?);
        if mine.leaf != theirs.leaf {
            return Err(OutOfBounds);
        }
        let (mut lower, mut fence, mut upper) = (Vec::new(), Vec::new(), Vec::new());
        self.lower_fence(&mut lower)?;
        self.upper_fence(&mut fence)?;
        let finite = right.upper_fence(&mut upper)?;
        let upper = finite.then_some(&upper[..]);
        let prefix_len = right.header()?.prefix_len;
        let mut bytes = vec![0];
        for slot in 0..theirs.slots {
            let cell = right.cell(slot)?;
            bytes.push(bytes[slot] + prefix_len + cell.key_len + cell.value_len);
        }
        let key = |slot: usize| {
            let mut key = Vec::new();
            right.append_key(slot, &mut key)?;
            Ok::<_, OutOfBounds>(key)
        };
        for slots in (1..theirs.slots).rev() {
            // What the left node gets: cells, and of an inner node the fence in place of the last one.
            let got = if mine.leaf { bytes[slots] } else { bytes[slots - 1] + fence.len() };
            if got > most {
                continue;
            }
            let whole_bytes = mine.whole_bytes + got;
            let left = Sizes { slots: mine.slots + slots, whole_bytes, upper_len: 0, ..mine };
            // No prefix is longer than the lower fence: a look that builds no key.
            let least = Sizes { whole_bytes: whole_bytes.max(left.slots * lower.len()), ..left };
            if !least.fit(lower.len(), false) {
                continue;
            }
            let (last_gone, separator, last) = if mine.leaf {
                let last = key(slots - 1)?;
                (slots, shortest_between(&last, key(slots)?), last)
            } else {
                (slots, key(slots - 1)?, if slots == 1 { fence.clone() } else { key(slots - 2)? })
            };
            let left = Planned {
                sizes: Sizes { upper_len: separator.len(), ..left },
                lower: &lower,
                upper: Some(&separator),
                last: Some(&last),
            };
            let behind = key(theirs.slots - 1)?;
            let right = Planned {
                sizes: Sizes {
                    slots: theirs.slots - last_gone,
                    whole_bytes: bytes[theirs.slots] - bytes[last_gone],
                    lower_len: separator.len(),
                    ..theirs
                },
                lower: &separator,
                upper,
                last: Some(&behind),
            };
            if left.fits() && right.fits() {
                return Ok(Some(Shift { slots, separator }));
            }
        }
        Ok(None)
    }
}
