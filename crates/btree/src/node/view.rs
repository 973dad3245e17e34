//! Reading a node, also while somebody changes it.
//!
//! Invariant: nothing here panics, loops without a bound or reads outside the page, whatever the bytes are; what was read
//! means something once the latch was validated.

use std::cmp::Ordering;

use pagestone_page_format::slotted::{Cell, LoadedSlots, Search, SlottedError, SlottedPage};
use pagestone_page_format::{OutOfBounds, PageKind, PageSize, SpeculativePage};
use pagestone_swip::SwipWord;

use super::fit::common_prefix;
use super::header::{BASE, FIRST_CHILD, LoadedHeader, NodeHeader, RIGHT_SIBLING, form};
use super::limits::{max_cell_len, max_key_len};

/// Where a key stands beside a node's fences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Covers {
    /// Below the lower fence.
    Below,
    /// Here, if anywhere.
    Inside,
    /// At or past the upper fence: further right.
    AtOrPastUpper,
}

/// A key as a node stores it.
enum Stripped<'k> {
    /// It sorts before every key that begins with the prefix.
    Before,
    /// It begins with the prefix; this is the rest of it.
    Rest(&'k [u8]),
    /// It sorts behind every key that begins with the prefix.
    Behind,
}

/// A node's page, to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeView<'a> {
    page: SpeculativePage<'a>,
}

impl<'a> NodeView<'a> {
    /// Over a page that is believed to be a node.
    #[inline]
    pub(crate) fn new(page: SpeculativePage<'a>) -> Self {
        Self { page }
    }

    pub(super) fn page(&self) -> SpeculativePage<'a> {
        self.page
    }

    #[inline]
    pub(super) fn area(&self) -> SlottedPage<'a> {
        SlottedPage::new(self.page, BASE)
    }

    #[inline]
    pub(super) fn header(&self) -> Result<NodeHeader, OutOfBounds> {
        NodeHeader::load(self.page)
    }

    /// The node as its headers say now.
    #[inline(always)]
    pub(crate) fn load(&self) -> Result<LoadedNode<'a>, OutOfBounds> {
        // That of the slots first: where its word is in the page, the words before it are.
        let slots = self.area().load()?;
        Ok(LoadedNode { header: LoadedHeader::load(self.page)?, slots })
    }

    /// Whether the page's kind is that of a node of its level, and it is still in its tree.
    pub(crate) fn is_node(&self) -> Result<bool, OutOfBounds> {
        let header = self.header()?;
        Ok(self.page.kind()? == kind_of(header.level) && !header.obsolete)
    }

    /// Number of the tree.
    pub(crate) fn tree_id(&self) -> Result<u32, OutOfBounds> {
        Ok(self.header()?.tree)
    }

    /// Distance from the leaves.
    pub(crate) fn level(&self) -> Result<u8, OutOfBounds> {
        Ok(self.header()?.level)
    }

    /// Number of entries of a leaf, of separators of an inner node.
    #[inline]
    pub(crate) fn count(&self) -> Result<usize, OutOfBounds> {
        self.area().count()
    }

    /// Whether it has no upper fence.
    pub(crate) fn upper_is_infinite(&self) -> Result<bool, OutOfBounds> {
        Ok(self.header()?.upper_infinite)
    }

    /// Appends the lower fence to `out`; the least possible one is empty.
    pub(crate) fn lower_fence(&self, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        let header = self.header()?;
        self.page.append_to(header.lower_at(self.page.len()), header.lower_len, out)
    }

    /// Appends the upper fence to `out`, and says whether there is one.
    pub(crate) fn upper_fence(&self, out: &mut Vec<u8>) -> Result<bool, OutOfBounds> {
        let header = self.header()?;
        self.page.append_to(header.upper_at(self.page.len()), header.upper_len, out)?;
        Ok(!header.upper_infinite)
    }

    /// Where a key stands beside the fences.
    pub(crate) fn covers(&self, key: &[u8]) -> Result<Covers, OutOfBounds> {
        self.load()?.covers(key)
    }

    /// Whether a key begins with the prefix, as the cells here do.
    pub(super) fn shares_prefix(&self, key: &[u8]) -> Result<bool, OutOfBounds> {
        Ok(matches!(self.load()?.strip(key)?, Stripped::Rest(_)))
    }

    /// The first slot whose key is not below `key`, and whether it is that key.
    pub(crate) fn search(&self, key: &[u8]) -> Result<Search, OutOfBounds> {
        self.load()?.search(key)
    }

    /// The first slot whose key is not below `key`.
    #[inline]
    pub(crate) fn lower_bound(&self, key: &[u8]) -> Result<usize, OutOfBounds> {
        Ok(self.search(key)?.slot)
    }

    /// The slot of `key`, if it is here.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<usize>, OutOfBounds> {
        let search = self.search(key)?;
        Ok(search.found.then_some(search.slot))
    }

    /// The cell of a slot; its key lacks the prefix.
    #[inline]
    pub(crate) fn cell(&self, slot: usize) -> Result<Cell, OutOfBounds> {
        self.area().get(slot)
    }

    /// Appends the whole key of a slot to `out`.
    pub(crate) fn append_key(&self, slot: usize, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        let header = self.header()?;
        self.page.append_to(header.lower_at(self.page.len()), header.prefix_len, out)?;
        self.area().append_key(self.cell(slot)?, out)
    }

    /// Appends the value of a slot to `out`.
    #[inline]
    pub(crate) fn append_value(&self, slot: usize, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        self.area().append_value(self.cell(slot)?, out)
    }

    /// Size of the page.
    pub(crate) fn page_size(&self) -> Result<PageSize, OutOfBounds> {
        PageSize::new(self.page.len()).map_err(|_| OutOfBounds)
    }

    /// Replaces the contents of `out` by the value of a slot, and gives the cell's flags.
    pub(crate) fn copy_flagged(&self, slot: usize, out: &mut Vec<u8>) -> Result<u8, OutOfBounds> {
        let node = self.load()?;
        node.copy_flagged(node.slots.get(slot)?, out)
    }

    /// The flags of a slot.
    pub(crate) fn flags(&self, slot: usize) -> Result<u8, OutOfBounds> {
        Ok(self.cell(slot)?.flags)
    }

    /// The child of an inner node that covers `key`, and its index: the number of separators at or below `key`.
    pub(crate) fn child_for(&self, key: &[u8]) -> Result<(usize, SwipWord), OutOfBounds> {
        let search = self.search(key)?;
        let index = search.slot + usize::from(search.found);
        Ok((index, self.child(index)?))
    }

    /// A child of an inner node; there is one more than separators.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> Result<SwipWord, OutOfBounds> {
        Ok(SwipWord::from_raw(self.area().link(FIRST_CHILD + index)?))
    }

    /// The next node of this level; null at its end.
    pub(crate) fn right_sibling(&self) -> Result<SwipWord, OutOfBounds> {
        Ok(SwipWord::from_raw(self.area().link(RIGHT_SIBLING)?))
    }

    /// Index of the page's word that holds the swip of the right sibling, to repair its hint.
    #[cfg_attr(not(test), expect(dead_code, reason = "nobody follows siblings yet"))]
    pub(crate) fn right_sibling_word(&self) -> Result<usize, OutOfBounds> {
        self.area().link_word(RIGHT_SIBLING)
    }

    /// Whether the page is a whole and consistent node: for `verify`, and before a change of structure, where nobody is changing it. What
    /// passes has, once it has to be split, halves that fit their pages (`limits.rs`).
    pub(crate) fn check(&self) -> Result<(), SlottedError> {
        let header = self.header()?;
        self.area().check()?;
        let suffix = self.area().reserved_suffix()?.len();
        let (mut lower, mut upper, mut key) = (Vec::new(), Vec::new(), Vec::new());
        self.lower_fence(&mut lower)?;
        let finite = self.upper_fence(&mut upper)?;
        let mut sound = self.area().form()? == form(header.level == 0, self.page.len())
            && suffix == header.lower_len + header.upper_len
            && (if finite { lower < upper } else { upper.is_empty() });
        for slot in [0, self.count()?.saturating_sub(1)] {
            if slot < self.count()? {
                key.clear();
                self.append_key(slot, &mut key)?;
                let above = if header.level == 0 { lower <= key } else { lower < key };
                sound &= above && (!finite || key < upper);
            }
        }
        if sound && self.is_within_limits(&header, common_prefix(&lower, &upper))? {
            Ok(())
        } else {
            Err(SlottedError::Malformed)
        }
    }

    /// Whether no key, cell or fence is longer than any may be, and the prefix is one that is cut (`fences_share`, or more if tight).
    fn is_within_limits(&self, header: &NodeHeader, fences_share: usize) -> Result<bool, OutOfBounds> {
        let size = self.page_size()?;
        let key_max = max_key_len(size);
        let cell_max = if header.level == 0 { max_cell_len(size) } else { key_max };
        let prefix = header.prefix_len;
        let mut within = header.lower_len <= key_max
            && header.upper_len <= key_max
            && (if header.tight { prefix > fences_share } else { prefix == fences_share })
            && self.sizes()?.fit(prefix, header.tight);
        for slot in 0..self.count()? {
            let cell = self.cell(slot)?;
            let key = prefix + cell.key_len;
            within &= key <= key_max && key + cell.value_len <= cell_max;
        }
        Ok(within)
    }
}

/// A node whose headers were loaded: what they say is of one instant, and no question loads them again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadedNode<'a> {
    header: LoadedHeader,
    pub(super) slots: LoadedSlots<'a>,
}

impl<'a> LoadedNode<'a> {
    #[inline]
    fn page(&self) -> SpeculativePage<'a> {
        self.slots.page()
    }

    /// The page, to ask it anew.
    #[inline]
    pub(crate) fn view(&self) -> NodeView<'a> {
        NodeView::new(self.page())
    }

    #[inline]
    pub(super) fn header(&self) -> NodeHeader {
        self.header.taken_apart()
    }

    /// Whether the page's kind is that of a node of its level, and it is still in its tree.
    #[inline(always)]
    pub(crate) fn is_node(&self) -> Result<bool, OutOfBounds> {
        Ok(self.page().kind()? == kind_of(self.header().level) && !self.header().obsolete)
    }

    /// Number of the tree.
    #[inline]
    pub(crate) fn tree_id(&self) -> u32 {
        self.header().tree
    }

    /// Distance from the leaves.
    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.header().level
    }

    /// Whether it has no upper fence.
    #[inline]
    pub(crate) fn upper_is_infinite(&self) -> bool {
        self.header().upper_infinite
    }

    /// Whether it covers every key.
    #[inline]
    pub(crate) fn has_no_bounds(&self) -> bool {
        let NodeHeader { lower_len, upper_infinite, .. } = self.header();
        lower_len == 0 && upper_infinite
    }

    /// Where a key stands beside the fences.
    #[inline(always)]
    pub(crate) fn covers(&self, key: &[u8]) -> Result<Covers, OutOfBounds> {
        if self.compare_lower(key)? == Ordering::Greater {
            return Ok(Covers::Below);
        }
        if !self.header().upper_infinite && self.compare_upper(key)? != Ordering::Greater {
            return Ok(Covers::AtOrPastUpper);
        }
        Ok(Covers::Inside)
    }

    /// Whether the greatest key below `key` is here, if anywhere: `lower < key <= upper`.
    pub(crate) fn covers_before(&self, key: &[u8]) -> Result<bool, OutOfBounds> {
        Ok(self.compare_lower(key)? == Ordering::Less
            && (self.header().upper_infinite || self.compare_upper(key)? != Ordering::Less))
    }

    #[inline(always)]
    fn compare_lower(&self, key: &[u8]) -> Result<Ordering, OutOfBounds> {
        self.page().compare(self.header().lower_at(self.page().len()), self.header().lower_len, key)
    }

    #[inline(always)]
    fn compare_upper(&self, key: &[u8]) -> Result<Ordering, OutOfBounds> {
        self.page().compare(self.header().upper_at(self.page().len()), self.header().upper_len, key)
    }

    #[inline(always)]
    fn strip<'k>(&self, key: &'k [u8]) -> Result<Stripped<'k>, OutOfBounds> {
        let len = self.header().prefix_len;
        if len == 0 {
            return Ok(Stripped::Rest(key));
        }
        let (start, rest) = key.split_at(len.min(key.len()));
        Ok(match self.page().compare(self.header().lower_at(self.page().len()), len, start)? {
            Ordering::Greater => Stripped::Before,
            Ordering::Equal => Stripped::Rest(rest),
            Ordering::Less => Stripped::Behind,
        })
    }

    /// The first slot whose key is not below `key`, and whether it is that key.
    pub(crate) fn search(&self, key: &[u8]) -> Result<Search, OutOfBounds> {
        match self.strip(key)? {
            Stripped::Rest(rest) => self.slots.lower_bound(rest),
            Stripped::Before => Ok(Search { slot: 0, found: false }),
            Stripped::Behind => Ok(Search { slot: self.slots.count(), found: false }),
        }
    }

    /// As [`LoadedNode::search`] for a key between the fences, which begins with whatever both of them begin with.
    #[inline(always)]
    fn search_inside(&self, key: &[u8]) -> Result<Search, OutOfBounds> {
        match key.get(self.header().prefix_len..) {
            Some(rest) if !self.header().tight => self.slots.lower_bound(rest),
            _ => search_anywhere(self.page(), key),
        }
    }

    /// The slot of a leaf at which a key between the fences will be looked for, where that can be told without a look at keys. The
    /// processor is asked for the cell that stands there. What makes no sense is told by who looks.
    #[inline(always)]
    pub(crate) fn expect_inside(&self, key: &[u8]) -> Option<usize> {
        let NodeHeader { prefix_len, tight, .. } = self.header();
        let rest = key.get(prefix_len..).filter(|_| !tight)?;
        let slot = self.slots.expect(rest).ok()?;
        self.slots.prefetch_cell(slot);
        Some(slot)
    }

    /// The cell of a key between the fences, if it is here; `slot` is what [`LoadedNode::expect_inside`] gave for it.
    #[inline(always)]
    pub(crate) fn find_expected(&self, slot: Option<usize>, key: &[u8]) -> Result<Option<Cell>, OutOfBounds> {
        match (slot, key.get(self.header().prefix_len..)) {
            (Some(slot), Some(rest)) => self.slots.find_from(slot, rest),
            _ => self.find_cell(key),
        }
    }

    /// The cell of a key between the fences, if it is here.
    #[inline(always)]
    pub(crate) fn find_cell(&self, key: &[u8]) -> Result<Option<Cell>, OutOfBounds> {
        match key.get(self.header().prefix_len..) {
            Some(rest) if !self.header().tight => self.slots.find_from(self.slots.expect(rest)?, rest),
            _ => {
                let search = search_anywhere(self.page(), key)?;
                if search.found { self.slots.get(search.slot).map(Some) } else { Ok(None) }
            }
        }
    }

    /// The slot of a key between the fences, if it is here.
    #[inline(always)]
    pub(crate) fn find_inside(&self, key: &[u8]) -> Result<Option<usize>, OutOfBounds> {
        let search = self.search_inside(key)?;
        Ok(search.found.then_some(search.slot))
    }

    /// Whether this slot is that of a key between the fences.
    #[inline]
    pub(super) fn is_at(&self, slot: usize, key: &[u8]) -> Result<bool, OutOfBounds> {
        let rest = match key.get(self.header().prefix_len..) {
            Some(rest) if !self.header().tight => rest,
            _ => match self.strip(key)? {
                Stripped::Rest(rest) => rest,
                Stripped::Before | Stripped::Behind => return Ok(false),
            },
        };
        if slot >= self.slots.count() {
            return Ok(false);
        }
        let cell = self.slots.get(slot)?;
        Ok(self.page().compare(cell.offset, cell.key_len, rest)? == Ordering::Equal)
    }

    /// Replaces the contents of `out` by the value of a cell, and gives the cell's flags.
    #[inline(always)]
    pub(crate) fn copy_flagged(&self, cell: Cell, out: &mut Vec<u8>) -> Result<u8, OutOfBounds> {
        self.slots.copy_value(cell, out)?;
        Ok(cell.flags)
    }

    /// The child of an inner node that covers a key between its fences, and the child's index: the number of separators at or below the
    /// key.
    #[inline(always)]
    pub(crate) fn child_for_inside(&self, key: &[u8]) -> Result<(usize, SwipWord), OutOfBounds> {
        let search = self.search_inside(key)?;
        let index = search.slot + usize::from(search.found);
        Ok((index, self.child(index)?))
    }

    /// As [`LoadedNode::child_for_inside`], the index alone; the processor is asked for the word of that child's swip.
    #[inline(always)]
    pub(crate) fn child_index_inside(&self, key: &[u8]) -> Result<usize, OutOfBounds> {
        let search = self.search_inside(key)?;
        let index = search.slot + usize::from(search.found);
        self.page().prefetch(self.child_word(index)?);
        Ok(index)
    }

    /// The child that covers the greatest key below `key`, and its index: the number of separators below `key`.
    pub(crate) fn child_before(&self, key: &[u8]) -> Result<(usize, SwipWord), OutOfBounds> {
        let index = self.search(key)?.slot;
        Ok((index, self.child(index)?))
    }

    /// The last child of an inner node, and its index.
    pub(crate) fn last_child(&self) -> Result<(usize, SwipWord), OutOfBounds> {
        let last = self.slots.count();
        Ok((last, self.child(last)?))
    }

    /// A child of an inner node; there is one more than separators.
    #[inline(always)]
    pub(crate) fn child(&self, index: usize) -> Result<SwipWord, OutOfBounds> {
        Ok(SwipWord::from_raw(self.slots.link(FIRST_CHILD + index)?))
    }

    /// Index of the page's word that holds the swip of a child, to repair its hint.
    #[inline]
    pub(crate) fn child_word(&self, index: usize) -> Result<usize, OutOfBounds> {
        self.slots.link_word(FIRST_CHILD + index)
    }
}

/// As [`LoadedNode::search`], out of line; from the page, because a node that is handed on by its address stands in memory everywhere.
#[inline(never)]
fn search_anywhere(page: SpeculativePage<'_>, key: &[u8]) -> Result<Search, OutOfBounds> {
    NodeView::new(page).search(key)
}

/// The kind of the pages of a level.
pub(super) fn kind_of(level: u8) -> PageKind {
    if level == 0 { PageKind::LEAF } else { PageKind::INNER }
}

/// Asks the processor for what a search of a node of this level will most likely read: the headers and the heads behind them, for a
/// leaf its slots too; and the end, where the fences stand, which are most likely no longer than the key.
#[inline(always)]
pub(crate) fn prefetch_search(level: u8, page: SpeculativePage<'_>, key_len: usize) {
    if level == 0 {
        page.prefetch_first::<56>();
    } else {
        page.prefetch_first::<96>();
    }
    let last = (page.len() / 8).wrapping_sub(1);
    page.prefetch(last);
    // Of inner nodes a look-up reads no fences. More lines than these are told from the first ones by the processor itself.
    if level == 0 && key_len > SHORT {
        page.prefetch(last.wrapping_sub(8));
        page.prefetch(last.wrapping_sub(16));
    }
}

/// Two fences as long as this are in one line, or nearly so.
const SHORT: usize = 32;
