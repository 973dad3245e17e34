//! Where the maps stand: index pages, as the last commit left them, read as they are needed.
//!
//! Invariant: what is in memory is what the durable root names; a commit that is under way is beside it (`Pending`) until it is durable.
//! So whatever is read meanwhile is read from slots that count, and no commit writes those.
//!
//! ```text
//!   root ──► entry of node ──► index page ──► entry of map ──► map page
//!            slot, commit,     by way of as many levels
//!            ids in use        as the root says
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use pagestone_page_format::{Page, PageError, PageId, PageResult, PageStore};

use super::entry::Entry;
use super::layout::{Layout, Node};
use super::pages::{Root, decode_index, decode_map, encode_index, encode_map};
use super::region::Regions;
use crate::space_map::malformed;

#[derive(Debug)]
pub(super) struct Directory {
    layout: Layout,
    root: Root,
    nodes: BTreeMap<Node, Vec<Entry>>,
    /// Regions below it are known, or were full when they were looked at; what is freed in them since made them known.
    looked: u64,
}

/// What changed in a region: its bits as of the commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) region: u64,
    pub(super) bits: &'a [u64],
    pub(super) used: u64,
}

/// The state of the whole at a commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) regions: u64,
    pub(super) high_water: u64,
    pub(super) in_use: u64,
}

/// What a commit will make of the directory.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) root: Root,
    nodes: BTreeMap<Node, Vec<Entry>>,
    /// Maps and index pages, for their slots that do not count.
    pub(super) pages: Vec<Page>,
}

impl Directory {
    pub(super) fn new(layout: Layout, root: Root) -> Self {
        Self { layout, root, nodes: BTreeMap::new(), looked: 0 }
    }

    /// As the last commit left it.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// The map of a region that is counted.
    pub(super) fn read_map(&mut self, store: &dyn PageStore, region: u64) -> PageResult<Vec<u64>> {
        let node = Node { level: 0, number: region };
        let entry = self.entry(store, node)?;
        let page = self.read(store, node, entry)?;
        let bits = decode_map(&page, region, entry, &self.layout)?;
        let first = region * self.layout.bits;
        let past = |(word, bits): (usize, &u64)| {
            let bits = if word == 0 { bits & !self.layout.own_bits(region) } else { *bits };
            bits != 0
                && first + word as u64 * 64 + 64 - u64::from(bits.leading_zeros()) > self.root.high_water
        };
        if bits.iter().enumerate().any(past) {
            return Err(malformed(page.id(), "an id in use past the highest"));
        }
        Ok(bits)
    }

    /// The lowest region with free ids that is not known.
    pub(super) fn next_to_look_at(
        &mut self,
        store: &dyn PageStore,
        known: &Regions,
    ) -> PageResult<Option<u64>> {
        let end = self.root.high_water.div_ceil(self.layout.bits).min(self.root.regions);
        while self.looked < end {
            match self.full_regions(store, self.looked)? {
                0 if known.get(self.looked).is_none() => return Ok(Some(self.looked)),
                full => self.looked += full.max(1),
            }
        }
        Ok(None)
    }

    /// How many regions from this one on are full, as far as one entry says.
    fn full_regions(&mut self, store: &dyn PageStore, region: u64) -> PageResult<u64> {
        for level in (0..=self.root.levels).rev() {
            let span = self.layout.span(level);
            let node = Node { level, number: region / span };
            if region.is_multiple_of(span) && self.entry(store, node)?.used() == span * self.layout.bits {
                return Ok(span);
            }
        }
        Ok(0)
    }

    /// The entry of a node, as its parent or the root has it; of a level that there is not yet nothing was written.
    fn entry(&mut self, store: &dyn PageStore, node: Node) -> PageResult<Entry> {
        match node.level.cmp(&self.root.levels) {
            Ordering::Less => {
                let (parent, at) = self.layout.parent(node);
                Ok(self.index(store, parent)?[at])
            }
            Ordering::Equal => Ok(self.root.entries.get(node.number as usize).copied().unwrap_or_default()),
            Ordering::Greater => Ok(Entry::default()),
        }
    }

    /// The entries of an index page; none, if nothing below it was ever written.
    fn index(&mut self, store: &dyn PageStore, node: Node) -> PageResult<&[Entry]> {
        if !self.nodes.contains_key(&node) {
            let entry = self.entry(store, node)?;
            let entries = match entry.is_absent() {
                true => vec![Entry::default(); self.layout.fanout as usize],
                false => decode_index(&self.read(store, node, entry)?, node, entry)?,
            };
            self.nodes.insert(node, entries);
        }
        Ok(&self.nodes[&node])
    }

    fn read(&self, store: &dyn PageStore, node: Node, entry: Entry) -> PageResult<Page> {
        let id = self.layout.page(node, entry.slot());
        if entry.is_absent() {
            return Err(malformed(id, "a region that is counted and has no map"));
        }
        let mut page = store.allocate_page(id);
        store.read_into(id, &mut page)?;
        Ok(page)
    }

    /// What a commit of these changes writes; nothing of it counts yet.
    pub(super) fn prepare(
        &mut self,
        store: &dyn PageStore,
        changes: &[Change<'_>],
        totals: Totals,
    ) -> PageResult<Pending> {
        let Totals { regions, high_water, in_use } = totals;
        let generation = self.root.generation + 1;
        let root = Root { generation, regions, high_water, in_use, ..self.root.clone() };
        let mut pending = Pending { root, nodes: BTreeMap::new(), pages: Vec::new() };
        pending.rise(&self.layout);
        // 1. The maps.
        for Change { region, bits, used } in changes {
            let node = Node { level: 0, number: *region };
            let slot = self.renew(store, &mut pending, node, *used)?;
            pending.pages.push(encode_map(store, slot, *region, generation, bits));
        }
        // 2. Level by level, what names something that was renewed.
        for level in 1..=pending.root.levels {
            let at = |level| Node { level, number: 0 };
            let changed: Vec<Node> =
                pending.nodes.range(at(level)..at(level + 1)).map(|(node, _)| *node).collect();
            for node in changed {
                let used = pending.nodes[&node].iter().map(|entry| entry.used()).sum();
                let slot = self.renew(store, &mut pending, node, used)?;
                pending.pages.push(encode_index(store, slot, node, generation, &pending.nodes[&node]));
            }
        }
        Ok(pending)
    }

    /// Names the other slot of a node from now on: gives its page.
    fn renew(
        &mut self,
        store: &dyn PageStore,
        pending: &mut Pending,
        node: Node,
        used: u64,
    ) -> PageResult<PageId> {
        let (generation, number) = (pending.root.generation, node.number as usize);
        let entry = if node.level == pending.root.levels {
            let entries = &mut pending.root.entries;
            entries.resize(entries.len().max(number + 1), Entry::default());
            &mut entries[number]
        } else {
            let (parent, at) = self.layout.parent(node);
            let entries = match pending.nodes.entry(parent) {
                Slot::Occupied(changed) => changed.into_mut(),
                Slot::Vacant(unchanged) => unchanged.insert(self.index(store, parent)?.to_vec()),
            };
            &mut entries[at]
        };
        let slot = entry.other_slot();
        *entry = Entry::new(slot, generation, used);
        Ok(self.layout.page(node, slot))
    }

    /// The commit is durable.
    pub(super) fn install(&mut self, pending: Pending) {
        self.root = pending.root;
        self.nodes.extend(pending.nodes);
    }
}

impl Pending {
    /// A level more, where the root has no room for its regions: what it named, an index page names from now on.
    fn rise(&mut self, layout: &Layout) {
        let root = &mut self.root;
        while root.regions.div_ceil(layout.span(root.levels)) > layout.fanout {
            root.levels += 1;
            let mut entries = std::mem::take(&mut root.entries);
            entries.resize(layout.fanout as usize, Entry::default());
            self.nodes.insert(Node { level: root.levels, number: 0 }, entries);
        }
    }
}

/// That the file has the pages that the root speaks of.
pub(super) fn check_length(root: &Root, layout: &Layout, pages: u64) -> PageResult<()> {
    let heads = root.regions.checked_sub(1).map_or(0, |last| last * layout.bits + super::layout::HEAD_PAGES);
    let end = root.high_water.max(heads);
    match end <= pages {
        true => Ok(()),
        false => Err(PageError::Malformed {
            page_id: PageId::new(end - 1),
            reason: "in use, and past the end of the file",
        }),
    }
}
