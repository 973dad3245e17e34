//! Where the allocator's own pages stand.
//!
//! Invariant: whether an id is the allocator's own is a matter of its number alone, so no page says so and no id changes hands; and each
//! of its pages has two slots, so that what counts is never written over.
//!
//! ```text
//!   id in its region   0       1 … 8   9, 10      11, 12     13      14, 15     16 …
//!   region 0           root A          index 2    index 1    root B  its map
//!   other regions                      index 2    index 1            its map
//!                                      every F²   every F            each       F: entries of an index page
//! ```
//!
//! An index page of level 1 names the slots of F maps, one of level 2 those of F index pages of level 1; it stands in the first region that it
//! is about. The root names F of the highest level that there is. So with pages of 4 KiB the file has 16 million pages with maps alone,
//! and 8 thousand million with one level between.

use std::ops::Range;

use pagestone_page_format::{PageId, PageSize};

use super::entry::USED_MAX;
use crate::region_bits;

/// Where the copies of the root stand.
pub(super) const ROOTS: [PageId; 2] = [PageId::new(0), PageId::new(13)];
/// Ids of a region up to and with its map slots: the file has room for so many of each region that has a map.
pub(super) const HEAD_PAGES: u64 = 16;
/// Levels of index pages at most.
pub(super) const LEVELS: u32 = 2;
/// Words in front of the entries of a root or an index page, behind the page's header.
pub(super) const FRONT_WORDS: usize = 8;

/// The page of a map, at level 0, or an index page above it, without its slot: number `n` is about `F^level` regions from `n * F^level` on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Node {
    pub(super) level: u32,
    pub(super) number: u64,
}

/// What follows from the page size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) size: PageSize,
    /// Ids of a region.
    pub(super) bits: u64,
    /// Entries of an index page, and of a root.
    pub(super) fanout: u64,
}

impl Layout {
    pub(super) fn new(size: PageSize) -> Self {
        Self { size, bits: region_bits(size), fanout: (size.payload_len() / 8 - FRONT_WORDS) as u64 }
    }

    /// Regions that one entry at this level is about.
    pub(super) fn span(&self, level: u32) -> u64 {
        self.fanout.pow(level)
    }

    /// Ids that can be named: below this one. No entry is about more ids than it can count.
    pub(super) fn end(&self) -> u64 {
        let ids = |level| self.bits.saturating_mul(self.span(level));
        let levels = (0..=LEVELS).rev().find(|level| ids(*level) <= USED_MAX).unwrap_or(0);
        ids(levels + 1).min(PageId::MAX.get() + 1)
    }

    /// The entry of its parent that is about this node: the parent, and which.
    pub(super) fn parent(&self, node: Node) -> (Node, usize) {
        let parent = Node { level: node.level + 1, number: node.number / self.fanout };
        (parent, (node.number % self.fanout) as usize)
    }

    /// The page of a node's slot.
    pub(super) fn page(&self, node: Node, slot: usize) -> PageId {
        let first = node.number * self.span(node.level) * self.bits;
        let slots = Self::slots(node.level).start;
        PageId::new(first + slots + slot as u64)
    }

    /// The ids, counted from the start of a region, of a node that stands in it.
    fn slots(level: u32) -> Range<u64> {
        match level {
            0 => 14..16,
            level => 13 - 2 * u64::from(level)..15 - 2 * u64::from(level),
        }
    }

    /// The runs of a region's own ids, counted from its start, highest first.
    fn own_of(&self, region: u64) -> impl Iterator<Item = Range<u64>> {
        let (span, first) = (self.fanout, region == 0);
        let nodes =
            (0..=LEVELS).filter(move |level| region.is_multiple_of(span.pow(*level))).map(Self::slots);
        let roots = ROOTS.into_iter().rev().filter(move |_| first).map(|root| root.get()..root.get() + 1);
        nodes.chain(roots)
    }

    /// Whether the allocator keeps this id for itself.
    pub(super) fn is_own(&self, id: u64) -> bool {
        let at = id % self.bits;
        at < HEAD_PAGES && self.own_of(id / self.bits).any(|own| own.contains(&at))
    }

    /// The bits of a region's own ids, which are all in its first word.
    pub(super) fn own_bits(&self, region: u64) -> u64 {
        self.own_of(region).flatten().fold(0, |bits, at| bits | 1 << at)
    }

    /// The highest of the allocator's own among the `count` ids from `start` on.
    pub(super) fn last_own(&self, start: u64, count: u64) -> Option<u64> {
        let last = start + count - 1;
        let heads = [last, last.saturating_sub(last % self.bits + 1)]; // its region, and the one in front of that
        heads.into_iter().find_map(|id| {
            let first = id - id % self.bits;
            (first.max(start)..(first + HEAD_PAGES).min(id + 1)).rev().find(|id| self.is_own(*id))
        })
    }

    /// How many ids below this one are the allocator's own.
    pub(super) fn own_below(&self, id: u64) -> u64 {
        let (regions, rest) = (id / self.bits, id % self.bits);
        let of_nodes: u64 = (0..=LEVELS).map(|level| 2 * regions.div_ceil(self.span(level))).sum();
        let of_roots = if regions > 0 { ROOTS.len() as u64 } else { 0 };
        let mask = (1 << rest.min(HEAD_PAGES)) - 1;
        of_nodes + of_roots + u64::from((self.own_bits(regions) & mask).count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_page_format::DEFAULT_PAGE_SIZE;
    use std::collections::BTreeSet;

    #[test]
    fn slots_are_own_ids_and_each_is_of_one_node() {
        let layout = Layout::new(DEFAULT_PAGE_SIZE);
        let far = layout.fanout * layout.fanout * 3;
        let mut own = BTreeSet::from([0, 13]);
        for region in (0..3).chain(layout.fanout - 1..layout.fanout + 2).chain(far - 1..far + 2) {
            for level in (0..=LEVELS).filter(|level| region % layout.span(*level) == 0) {
                let node = Node { level, number: region / layout.span(level) };
                let slots = [0, 1].map(|slot| layout.page(node, slot).get());
                assert!(slots.iter().all(|id| own.insert(*id)), "{node:?} has a page to itself");
                assert!(slots.iter().all(|id| id / layout.bits == region && id % layout.bits < HEAD_PAGES));
            }
            let first = region * layout.bits;
            for id in first..first + 40 {
                assert_eq!(layout.is_own(id), own.contains(&id), "{id}");
                assert_eq!(layout.own_bits(region) >> (id - first) & 1 == 1, own.contains(&id));
                assert_eq!(
                    layout.own_below(id + 1) - layout.own_below(id),
                    u64::from(layout.is_own(id)),
                    "{id} is counted once"
                );
            }
            assert_eq!(layout.own_below(first + layout.bits), layout.own_below(first + 16));
        }
        assert_eq!(layout.own_below(17), own.range(..17).count() as u64);
        assert!(layout.end() > 1 << 38);
    }

    #[test]
    fn no_entry_is_about_more_ids_than_it_counts() {
        for log2 in 12..=20 {
            let layout = Layout::new(PageSize::new(1 << log2).expect("a size"));
            let regions = layout.end().div_ceil(layout.bits);
            let levels = (0..=LEVELS).find(|level| regions.div_ceil(layout.span(*level)) <= layout.fanout);
            let levels = levels.expect("a root has room for all");
            assert!(layout.span(levels) * layout.bits <= USED_MAX && layout.end() > 1 << 41, "2^{log2}");
        }
    }

    #[test]
    fn the_last_of_its_own_in_a_run_is_found() {
        let layout = Layout::new(DEFAULT_PAGE_SIZE);
        for start in (0..40).chain(layout.bits - 20..layout.bits + 40) {
            for count in (1..40).chain(layout.bits - 20..layout.bits) {
                let slow = (start..start + count).rev().find(|id| layout.is_own(*id));
                assert_eq!(layout.last_own(start, count), slow, "{start}+{count}");
            }
        }
    }
}
