//! A whole node into memory that nobody else sees, at once: for who writes nodes to a file by the thousand.
//!
//! Invariant: the page is byte for byte what `content.rs` writes.

use pagestone_page_format::slotted::{NewCell, SlottedError, write_area};
use pagestone_page_format::{Lsn, PAGE_HEADER_SIZE, PageHeader, PageId, PageResult};

use super::cells::CellRef;
use super::content::Content;
use super::header::{BASE, form};
use super::ops::FormatNode;
use super::view::kind_of;

impl FormatNode {
    /// Makes `page`, whatever is in it, the page `id` with this node, without a checksum. The cells' keys are whole.
    ///
    /// Error: `Malformed` if the node does not fit a page of this length, or its keys do not lie between its fences.
    pub(crate) fn write_image(&self, id: PageId, lsn: Lsn, page: &mut [u8]) -> PageResult<()> {
        let written = self.with_content(|content| content.write_image(id, lsn, page));
        written.map_err(|error| error.of_page(id))
    }
}

impl Content<'_> {
    fn write_image(&self, id: PageId, lsn: Lsn, page: &mut [u8]) -> Result<(), SlottedError> {
        let [cells] = self.parts else { return Err(SlottedError::OutOfRange) };
        let (len, leaf) = (page.len(), self.level == 0);
        let prefix_len = self.prefix_len(len)?;
        let (header, prefix) = (self.header(prefix_len)?, &self.lower[..prefix_len]);
        let upper = self.upper.unwrap_or_default();
        // Keys are sorted: what the first and the last begin with, all begin with.
        let mut ends = cells.iter().next().into_iter().chain(cells.last());
        if !cells.prefix().is_empty() || !ends.all(|cell| cell.key.starts_with(prefix)) {
            return Err(SlottedError::Malformed);
        }
        let shorter = cells.iter().map(|CellRef { bytes, key, flags, child, .. }| NewCell {
            bytes: &bytes[prefix_len.min(key.len())..],
            key_len: key.len().saturating_sub(prefix_len),
            flags,
            link: (!leaf).then_some(child.raw()),
        });
        let links = [self.right_sibling.raw(), self.first_child.raw()];
        let links = if leaf { &links[..1] } else { &links[..] };
        let suffix = self.lower.len() + upper.len();
        let swips = write_area(page, BASE, suffix, form(leaf, len), links, shorter)?;
        page[header.lower_at(len)..][..self.lower.len()].copy_from_slice(self.lower);
        page[header.upper_at(len)..].copy_from_slice(upper);
        PageHeader { swips, lsn, ..PageHeader::new(kind_of(self.level), id) }.encode(page);
        for (place, word) in
            page[PAGE_HEADER_SIZE..BASE].as_chunks_mut::<8>().0.iter_mut().zip(header.words())
        {
            *place = word.to_le_bytes();
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_page_format::{PageKind, PageOp, PageSize, PageWriter};
    use pagestone_swip::SwipWord;
    use pagestone_sync::atomic::AtomicU64;
    use proptest::prelude::*;

    use super::*;
    use crate::node::{Closed, LevelBuilder};

    /// The page that the operation makes.
    fn applied(node: &FormatNode, id: PageId, lsn: Lsn, len: usize) -> Vec<u8> {
        let words: Vec<AtomicU64> = (0..len / 8).map(|_| AtomicU64::new(u64::MAX)).collect();
        let page = PageWriter::new(&words);
        page.put_header(PageKind::PLAIN, id);
        node.apply(&page).expect("a node that fits");
        page.set_lsn(lsn).expect("a page has one");
        let mut bytes = vec![0; len];
        page.read().copy_out(&mut bytes);
        bytes
    }

    fn checked(node: &FormatNode, len: usize) {
        let (id, lsn) = (PageId::new(77), Lsn::new(0x1234_5678));
        let mut image = vec![0xee; len];
        node.write_image(id, lsn, &mut image).expect("a node that fits");
        assert!(image == applied(node, id, lsn, len));
    }

    fn swip(page: u64) -> SwipWord {
        SwipWord::new(PageId::new(page)).expect("an id")
    }

    proptest! {
        #[test]
        fn an_image_is_what_the_operation_makes(
            page_len in prop::sample::select(vec![4096usize, 8192, 16384]),
            start in "[ab]{0,12}",
            rows in prop::collection::btree_map("[a-c]{1,9}[a-z]{0,20}", prop::collection::vec(any::<u8>(), 0..150), 1..400),
        ) {
            let size = PageSize::new(page_len).expect("a size");
            let mut levels =
                [LevelBuilder::of_leaves(size, 9), LevelBuilder::of_inner(size, 9, 1, swip(1))];
            let mut nodes = Vec::new();
            for (number, (key, value)) in (2..).zip(&rows) {
                let key = format!("{start}{key}");
                let closed = [
                    levels[0].push(key.as_bytes(), value, 3, SwipWord::NULL),
                    levels[1].push(key.as_bytes(), &[], 0, swip(number)),
                ];
                nodes.extend(closed.into_iter().flatten().map(|Closed { node, .. }| node));
            }
            for level in &mut levels {
                let (closed, last) = level.finish();
                nodes.extend(closed.map(|Closed { node, .. }| node).into_iter().chain([last]));
            }
            for (node, right) in nodes.iter_mut().zip(100..) {
                node.right_sibling = swip(right);
                checked(node, page_len);
            }
        }
    }

    #[test]
    fn a_node_that_is_none_is_refused() {
        let image = |node: &FormatNode| node.write_image(PageId::new(1), Lsn::ZERO, &mut [0; 4096]);
        checked(&FormatNode::empty_leaf(1), 4096);
        let mut node =
            FormatNode { lower: b"key".to_vec(), upper: Some(b"kez".to_vec()), ..FormatNode::empty_leaf(1) };
        node.cells.push(b"key", b"value", 0, SwipWord::NULL);
        checked(&node, 4096);
        node.cells.push(b"lie", b"value", 0, SwipWord::NULL);
        assert!(image(&node).is_err(), "a key past the upper fence");
        node.cells.clear();
        (0..5).for_each(|_| node.cells.push(b"key", &[7; 1000], 0, SwipWord::NULL));
        assert!(image(&node).is_err(), "more than a page");
    }
}
