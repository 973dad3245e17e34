//! Every page of a store, counted in the bytes of its data file: which ones the tree reaches, and which ones the map says are in use.
//!
//! It reads the layouts that `docs/on-disk-format.md` tells of, and not with the tree's own code.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use pagestone_allocator::RegionBits;
use pagestone_page_format::slotted::SlottedPage;
use pagestone_page_format::{PageId, PageKind, PageSize, SpeculativePage};
use pagestone_store::Store;
use pagestone_swip::SwipWord;
use pagestone_testkit::SimDisk;

/// Where pages begin in the data file, and where the default tree's root is.
const PAGES_AT: usize = 8192;
const ROOT: u64 = 1;
/// The catalog, which these stores have no entry in: one leaf.
const CATALOG: u64 = 2;

/// What was found.
#[derive(Debug)]
pub struct Census {
    /// Pages of the tree.
    pub nodes: BTreeSet<u64>,
    /// Levels of the tree.
    pub height: u32,
    /// Share of each leaf that is in use, from left to right.
    pub fill: Vec<f64>,
    /// Leaves without an entry whose parents have other children.
    pub empty_beside_others: Vec<u64>,
}

impl Census {
    /// Makes a checkpoint, asks the store itself, and counts. Panics unless each page is either free, or a map page, or reached exactly once from the root
    /// through nodes whose levels fall by one, each level a chain of siblings from left to right.
    pub fn of(store: &Store, disk: &SimDisk, size: PageSize) -> Self {
        store.checkpoint().expect("a healthy disk");
        let report = store.verify().expect("a healthy disk");
        assert!(report.is_sound(), "{:?}", report.findings);
        let file = disk.contents("/store/data").expect("a data file");
        let pages: Vec<Vec<AtomicU64>> = file[PAGES_AT..]
            .chunks_exact(size.get())
            .map(|page| {
                page.as_chunks().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect()
            })
            .collect();
        let page = |id: u64| SpeculativePage::new(&pages[id as usize]);
        let mut census =
            Self { nodes: BTreeSet::new(), height: 0, fill: Vec::new(), empty_beside_others: Vec::new() };
        let mut level = vec![ROOT];
        let mut expected_level = None;
        while !level.is_empty() {
            census.height += 1;
            let mut below = Vec::new();
            for (index, id) in level.iter().enumerate() {
                assert!(census.nodes.insert(*id), "page {id} is reached twice");
                let node = page(*id);
                let header = node.header().expect("a header");
                let own_level = node.u8_at(36).expect("a level");
                assert_eq!(header.page_id, PageId::new(*id));
                assert_eq!(header.kind, if own_level == 0 { PageKind::LEAF } else { PageKind::INNER });
                assert_eq!(node.u8_at(37).expect("flags") & 1, 0, "page {id} is obsolete and in the tree");
                assert_eq!(own_level, expected_level.unwrap_or(own_level), "the level of page {id}");
                let area = SlottedPage::new(node, 48);
                let link = |link| SwipWord::from_raw(area.link(link).expect("a link"));
                let next = level.get(index + 1).copied();
                assert_eq!(
                    (!link(0).is_null()).then(|| link(0).page_id().get()),
                    next,
                    "sibling of page {id}"
                );
                if own_level > 0 {
                    let children = 1..area.count().expect("separators") + 2;
                    let children: Vec<u64> = children.map(|child| link(child).page_id().get()).collect();
                    let is_empty = |id: &&u64| SlottedPage::new(page(**id), 48).count().expect("cells") == 0;
                    if own_level == 1 && children.len() > 1 {
                        census.empty_beside_others.extend(children.iter().filter(is_empty));
                    }
                    below.extend(children);
                } else {
                    let free = area.free_space_after_compaction().expect("a leaf");
                    census.fill.push(1.0 - free as f64 / size.get() as f64);
                }
                if index + 1 == level.len() {
                    expected_level = own_level.checked_sub(1);
                }
            }
            level = below;
        }
        let bits = RegionBits::decode(page(0)).expect("a space map");
        assert_eq!(bits.regions(), Some(1), "so small a store has one region");
        let in_use: BTreeSet<u64> = (1..pages.len() as u64)
            .filter(|id| *id != CATALOG && bits.is_allocated(PageId::new(*id)) == Some(true))
            .collect();
        let leaked: Vec<_> = in_use.difference(&census.nodes).collect();
        let free: Vec<_> = census.nodes.difference(&in_use).collect();
        assert!(leaked.is_empty() && free.is_empty(), "leaked {leaked:?}, in the tree and free {free:?}");
        census
    }

    /// Share of all leaves that is in use.
    pub fn mean_fill(&self) -> f64 {
        self.fill.iter().sum::<f64>() / self.fill.len() as f64
    }
}
