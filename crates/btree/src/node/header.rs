//! The node header taken apart.

use pagestone_page_format::slotted::{SLOTTED_HEADER_SIZE, SlottedForm};
use pagestone_page_format::{OutOfBounds, PAGE_HEADER_SIZE, PageWriter, SpeculativePage};

const FIRST_WORD: usize = PAGE_HEADER_SIZE / 8;
/// Where the slotted area begins.
pub(super) const BASE: usize = PAGE_HEADER_SIZE + 16;
const _: () = assert!(BASE.is_multiple_of(8) && BASE + SLOTTED_HEADER_SIZE == 72);

/// Link of the right sibling.
pub(super) const RIGHT_SIBLING: usize = 0;
/// Link of child 0 of an inner node; child `i` is `i` links further.
pub(super) const FIRST_CHILD: usize = 1;
/// Bytes of a page from which on its nodes have hints: smaller ones have too few heads for hints to be worth their line.
const HINTS_FROM: usize = 16 << 10;

/// The form of a node's area: the right sibling is a link, and of an inner node the first child and one child for each separator.
pub(super) const fn form(leaf: bool, page_len: usize) -> SlottedForm {
    SlottedForm {
        fixed_links: if leaf { 1 } else { 2 },
        links_per_slot: !leaf,
        hints: page_len >= HINTS_FROM,
    }
}

/// The page was merged into its left sibling and is no longer in the tree.
const OBSOLETE: u8 = 1;
/// There is no upper fence.
const UPPER_INFINITE: u8 = 2;
/// The prefix is longer than what the fences share.
const TIGHT: u8 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeHeader {
    pub(super) tree: u32,
    pub(super) level: u8,
    pub(super) obsolete: bool,
    pub(super) upper_infinite: bool,
    pub(super) tight: bool,
    pub(super) prefix_len: usize,
    pub(super) lower_len: usize,
    pub(super) upper_len: usize,
    /// Inserts in a row of which each came directly behind the one before it, or before it: then negative.
    pub(super) insert_run: i16,
    /// Slot of the last insert; one less than 0 if there was none.
    pub(super) last_insert: u16,
}

/// A node header as it stands in the page, in few words, so that it is cheap to hand on: what contradicts itself was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LoadedHeader {
    first: u64,
    second: u64,
}

impl LoadedHeader {
    /// Loads it. What contradicts itself is refused, so the fences and the prefix lie inside the page.
    #[inline]
    pub(super) fn load(page: SpeculativePage<'_>) -> Result<Self, OutOfBounds> {
        let loaded = Self { first: page.word(FIRST_WORD)?, second: page.word(FIRST_WORD + 1)? };
        let header = loaded.taken_apart();
        let fences = header.lower_len + header.upper_len;
        if fences + BASE > page.len() || header.prefix_len > header.lower_len {
            return Err(OutOfBounds);
        }
        Ok(loaded)
    }

    #[inline]
    pub(super) fn taken_apart(self) -> NodeHeader {
        let Self { first, second } = self;
        let flags = (first >> 40) as u8;
        NodeHeader {
            tree: first as u32,
            level: (first >> 32) as u8,
            obsolete: flags & OBSOLETE != 0,
            upper_infinite: flags & UPPER_INFINITE != 0,
            tight: flags & TIGHT != 0,
            prefix_len: (first >> 48) as u16 as usize,
            lower_len: second as u16 as usize,
            upper_len: (second >> 16) as u16 as usize,
            insert_run: (second >> 32) as i16,
            last_insert: (second >> 48) as u16,
        }
    }
}

impl NodeHeader {
    /// Loads it, as [`LoadedHeader::load`].
    #[inline]
    pub(super) fn load(page: SpeculativePage<'_>) -> Result<Self, OutOfBounds> {
        Ok(LoadedHeader::load(page)?.taken_apart())
    }

    pub(super) fn store(&self, page: &PageWriter<'_>) -> Result<(), OutOfBounds> {
        let [first, second] = self.words();
        page.put_word(FIRST_WORD, first)?;
        page.put_word(FIRST_WORD + 1, second)
    }

    /// As it stands in the page, from [`PAGE_HEADER_SIZE`] on.
    pub(super) fn words(&self) -> [u64; 2] {
        let flag = |set: bool, flag: u8| if set { u64::from(flag) } else { 0 };
        let flags = flag(self.obsolete, OBSOLETE)
            | flag(self.upper_infinite, UPPER_INFINITE)
            | flag(self.tight, TIGHT);
        let first =
            u64::from(self.tree) | u64::from(self.level) << 32 | flags << 40 | (self.prefix_len as u64) << 48;
        let second = self.lower_len as u64
            | (self.upper_len as u64) << 16
            | u64::from(self.insert_run as u16) << 32
            | u64::from(self.last_insert) << 48;
        [first, second]
    }

    /// Slot behind the last insert.
    pub(super) fn behind_last_insert(&self) -> usize {
        self.last_insert.wrapping_add(1).into()
    }

    /// After an insert at `slot`.
    pub(super) fn inserted(self, slot: usize) -> Self {
        let insert_run = match self.behind_last_insert() {
            next if slot == next => self.insert_run.max(0).saturating_add(1),
            next if slot + 1 == next => self.insert_run.min(0).saturating_sub(1),
            _ => 0,
        };
        Self { insert_run, last_insert: slot as u16, ..self }
    }

    /// After the cell of `slot` was taken out.
    pub(super) fn removed(self, slot: usize) -> Self {
        let before = slot < self.behind_last_insert();
        Self { last_insert: self.last_insert.wrapping_sub(before.into()), ..self }
    }

    /// Byte offset of the lower fence.
    #[inline]
    pub(super) fn lower_at(&self, page_len: usize) -> usize {
        page_len - self.upper_len - self.lower_len
    }

    /// Byte offset of the upper fence.
    #[inline]
    pub(super) fn upper_at(&self, page_len: usize) -> usize {
        page_len - self.upper_len
    }
}
