//! A whole node, written to a page.
//!
//! Invariant: what is written depends on the content alone, so that live path and redo write the same page.

use pagestone_page_format::slotted::{NewCell, SlottedError, SlottedWriter};
use pagestone_page_format::{OutOfBounds, PageWriter};
use pagestone_swip::SwipWord;

use super::cells::Cells;
use super::fit::{Sizes, common_prefix};
use super::header::{BASE, FIRST_CHILD, NodeHeader, RIGHT_SIBLING, form};
use super::view::{NodeView, kind_of};

/// Everything that a node is.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) tree: u32,
    pub(super) level: u8,
    pub(super) lower: &'a [u8],
    /// None: infinite.
    pub(super) upper: Option<&'a [u8]>,
    pub(super) right_sibling: SwipWord,
    /// Of an inner node.
    pub(super) first_child: SwipWord,
    /// In key order, one part after the other.
    pub(super) parts: &'a [&'a Cells],
}

impl Content<'_> {
    fn sizes(&self, page_len: usize) -> Sizes {
        Sizes {
            page_len,
            leaf: self.level == 0,
            slots: self.parts.iter().map(|cells| cells.len()).sum(),
            whole_bytes: self.parts.iter().map(|cells| cells.whole_bytes()).sum(),
            lower_len: self.lower.len(),
            upper_len: self.upper.map_or(0, <[u8]>::len),
        }
    }

    fn fences_share(&self) -> usize {
        self.upper.map_or(0, |upper| common_prefix(self.lower, upper))
    }

    /// What the fences share, if the node fits with that; else what the lower fence and all keys share.
    pub(super) fn prefix_len(&self, page_len: usize) -> Result<usize, SlottedError> {
        let sizes = self.sizes(page_len);
        let fences = self.fences_share();
        if sizes.fit(fences, false) {
            return Ok(fences);
        }
        let last = self.parts.iter().rev().find_map(|cells| Some((cells, cells.iter().next_back()?)));
        let all = last.map_or(fences, |(cells, last)| {
            let start = common_prefix(self.lower, cells.prefix());
            match start == cells.prefix().len() {
                true => start + common_prefix(&self.lower[start..], last.key),
                false => start,
            }
        });
        if all > fences && sizes.fit(all, true) { Ok(all) } else { Err(SlottedError::Malformed) }
    }

    /// Writes the node with the prefix that suits it. The page keeps its id and its LSN; all else is written anew. On an
    /// error about room nothing was changed.
    pub(super) fn write(&self, page: &PageWriter<'_>) -> Result<(), SlottedError> {
        self.write_with_prefix(page, self.prefix_len(page.read().len())?)
    }

    /// Writes the node with a prefix that was found to do.
    pub(super) fn write_with_prefix(
        &self,
        page: &PageWriter<'_>,
        prefix_len: usize,
    ) -> Result<(), SlottedError> {
        let upper = self.upper.unwrap_or_default();
        let header = self.header(prefix_len)?;
        let old = page.read().header()?;
        // The node's header and its area are all that is behind it.
        page.put_header(kind_of(self.level), old.page_id);
        page.set_lsn(old.lsn)?;
        header.store(page)?;
        let area = SlottedWriter::new(*page, BASE);
        let suffix = self.lower.len() + upper.len();
        let leaf = self.level == 0;
        let len = page.read().len();
        area.init(suffix, form(leaf, len))?;
        page.put_bytes(header.lower_at(len), self.lower)?;
        page.put_bytes(header.upper_at(len), upper)?;
        area.set_link(RIGHT_SIBLING, self.right_sibling.raw())?;
        if !leaf {
            area.set_link(FIRST_CHILD, self.first_child.raw())?;
        }
        self.write_cells(&area, &self.lower[..prefix_len])
    }

    /// The node header, with this prefix. `OutOfRange` for fences that none can name.
    pub(super) fn header(&self, prefix_len: usize) -> Result<NodeHeader, SlottedError> {
        let upper = self.upper.unwrap_or_default();
        let (Ok(_), Ok(_)) = (u16::try_from(self.lower.len()), u16::try_from(upper.len())) else {
            return Err(SlottedError::OutOfRange);
        };
        Ok(NodeHeader {
            tree: self.tree,
            level: self.level,
            obsolete: false,
            upper_infinite: self.upper.is_none(),
            tight: prefix_len > self.fences_share(),
            prefix_len,
            lower_len: self.lower.len(),
            upper_len: upper.len(),
            insert_run: 0,
            last_insert: u16::MAX,
        })
    }

    fn write_cells(&self, area: &SlottedWriter<'_>, prefix: &[u8]) -> Result<(), SlottedError> {
        area.reserve_slots(self.parts.iter().map(|cells| cells.len()).sum())?;
        // What has no cells may have had any prefix.
        for cells in self.parts.iter().filter(|cells| cells.len() > 0) {
            match prefix.strip_prefix(cells.prefix()) {
                // The cells as they stand, each without its beginning.
                Some(cut) => {
                    if !cells.iter().all(|cell| begins_with(cell.key, cut)) {
                        return Err(SlottedError::Malformed);
                    }
                    area.append(cells.iter().map(|cell| NewCell {
                        bytes: &cell.bytes[cut.len()..],
                        key_len: cell.key.len() - cut.len(),
                        flags: cell.flags,
                        link: (self.level > 0).then_some(cell.child.raw()),
                    }))?;
                }
                None => self.write_longer_cells(area, prefix, cells)?,
            }
        }
        Ok(())
    }

    /// Cells that lack more than the node's prefix: they get it back.
    fn write_longer_cells(
        &self,
        area: &SlottedWriter<'_>,
        prefix: &[u8],
        cells: &Cells,
    ) -> Result<(), SlottedError> {
        let regained = cells.prefix().strip_prefix(prefix).ok_or(SlottedError::Malformed)?;
        let mut bytes = Vec::new();
        for cell in cells.iter() {
            bytes.clear();
            bytes.extend_from_slice(regained);
            bytes.extend_from_slice(cell.bytes);
            let link = (self.level > 0).then_some(cell.child.raw());
            let key_len = regained.len() + cell.key.len();
            area.append([NewCell { bytes: &bytes, key_len, flags: cell.flags, link }])?;
        }
        Ok(())
    }
}

/// As `starts_with`, without a call of `memcmp` for the short beginning that it mostly is.
#[inline]
fn begins_with(bytes: &[u8], start: &[u8]) -> bool {
    match start {
        [] => true,
        [one] => bytes.first() == Some(one),
        [one, two] => bytes.first_chunk() == Some(&[*one, *two]),
        [one, two, three] => bytes.first_chunk() == Some(&[*one, *two, *three]),
        _ => bytes.starts_with(start),
    }
}

/// Writes a node anew with another prefix.
#[cold]
pub(super) fn rewrite(page: &PageWriter<'_>, prefix_len: usize) -> Result<(), SlottedError> {
    let node = NodeView::new(page.read());
    let header = node.header()?;
    let cells = Cells::of(node, 0..node.count()?)?;
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    node.lower_fence(&mut lower)?;
    let finite = node.upper_fence(&mut upper)?;
    let content = Content {
        tree: header.tree,
        level: header.level,
        lower: &lower,
        upper: finite.then_some(&upper[..]),
        right_sibling: node.right_sibling()?,
        first_child: first_child(node)?,
        parts: &[&cells],
    };
    if prefix_len > lower.len() {
        return Err(SlottedError::Malformed);
    }
    content.write_with_prefix(page, prefix_len)?;
    // Only the bytes moved: a run of inserts goes on.
    let NodeHeader { insert_run, last_insert, .. } = header;
    NodeHeader { insert_run, last_insert, ..NodeHeader::load(page.read())? }.store(page)?;
    Ok(())
}

/// The leftmost child of an inner node; null for a leaf.
pub(super) fn first_child(node: NodeView<'_>) -> Result<SwipWord, OutOfBounds> {
    if node.level()? == 0 { Ok(SwipWord::NULL) } else { node.child(0) }
}
