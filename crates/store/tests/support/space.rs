//! Every page of a data file, read past the store: in use by exactly one tree, or free.

use std::collections::BTreeSet;

use pagestone_page_format::SpeculativePage;
use pagestone_page_format::slotted::SlottedPage;
use pagestone_store::TreeInfo;
use pagestone_sync::atomic::AtomicU64;
use pagestone_testkit::SimDisk;

const PAGE: usize = 4096;
const PAGES_AT: usize = 8192;

struct File(Vec<u8>);

impl File {
    fn page(&self, id: u64) -> &[u8] {
        let at = PAGES_AT + id as usize * PAGE;
        self.0.get(at..at + PAGE).unwrap_or_else(|| panic!("page {id} is past the end of the file"))
    }

    /// The pages of the tree that is rooted here.
    fn walk(&self, tree: u32, root: u64, used: &mut BTreeSet<u64>) {
        let page = self.page(root);
        assert!(used.insert(root), "page {root} is in use twice");
        assert_eq!(&page[..2], b"PG", "page {root} was never written");
        assert_eq!(u32::from_le_bytes(page[32..36].try_into().expect("four bytes")), tree, "page {root}");
        assert_eq!(page[37] & 1, 0, "page {root} is obsolete");
        if page[36] == 0 {
            return;
        }
        let words: Vec<AtomicU64> = page
            .chunks_exact(8)
            .map(|word| AtomicU64::new(u64::from_le_bytes(word.try_into().expect("eight bytes"))))
            .collect();
        let area = SlottedPage::new(SpeculativePage::new(&words), 48);
        for child in 0..=area.count().expect("a count") {
            let swip = area.link(1 + child).expect("a child");
            self.walk(tree, swip << 2 >> 26, used);
        }
    }
}

/// Checks the data file of a store with these named trees, which was closed: the bits of the map are the pages that its trees reach.
/// Gives how many pages are in use.
pub fn check(disk: &SimDisk, trees: &[TreeInfo]) -> usize {
    let file = File(disk.contents("/store/data").expect("a data file"));
    let mut used = BTreeSet::from([0]);
    file.walk(1, 1, &mut used);
    file.walk(0, 2, &mut used);
    for tree in trees {
        file.walk(tree.id, tree.root.get(), &mut used);
    }
    let bits: BTreeSet<u64> = (0..(PAGE as u64 - 48) * 8)
        .filter(|bit| file.page(0)[48 + *bit as usize / 8] >> (bit % 8) & 1 == 1)
        .collect();
    assert_eq!(bits, used, "in the map on the left, in a tree on the right");
    used.len()
}
