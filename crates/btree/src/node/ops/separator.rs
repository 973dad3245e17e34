//! One separator of an inner node, with the child right of it.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, PageId, PageOp, PageResult, PageWriter};
use pagestone_swip::SwipWord;

use super::codec::{Reader, put_page};
use super::{INSERT_SEPARATOR, REMOVE_SEPARATOR, change, count_insert, count_remove, expect};
use crate::node::content::rewrite;

/// Puts a separator into an inner node that has room for it, and right of it the new child.
#[derive(Clone, Copy)]
pub(crate) struct InsertSeparator<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) child: PageId,
}

/// Takes a separator out, with the child right of it.
#[derive(Clone, Copy)]
pub(crate) struct RemoveSeparator<'a> {
    pub(crate) key: &'a [u8],
}

impl<'a> InsertSeparator<'a> {
    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let child = reader.page()?;
        Some(Self { key: reader.rest(), child })
    }
}

impl<'a> RemoveSeparator<'a> {
    pub(super) fn decode(key: &'a [u8]) -> Option<Self> {
        Some(Self { key })
    }
}

impl PageOp for InsertSeparator<'_> {
    fn kind(&self) -> OpKind {
        INSERT_SEPARATOR
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let child = SwipWord::new(self.child)?;
        change(page, |node, area| {
            expect(node, false, self.key)?;
            let prefix =
                node.prefix_to_hold(self.key, 0)?.ok_or(SlottedError::Full { needed: 0, free: 0 })?;
            if prefix != node.header()?.prefix_len {
                rewrite(page, prefix)?;
            }
            let search = node.search(self.key)?;
            if search.found {
                return Err(SlottedError::Malformed);
            }
            let rest = self.key.get(prefix..).ok_or(SlottedError::Malformed)?;
            area.insert(search.slot, rest, &[], 0, Some(child.raw()))?;
            count_insert(page, search.slot)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_page(out, self.child);
        out.extend_from_slice(self.key);
    }
}

impl PageOp for RemoveSeparator<'_> {
    fn kind(&self) -> OpKind {
        REMOVE_SEPARATOR
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, area| {
            expect(node, false, self.key)?;
            let slot = node.find(self.key)?.ok_or(SlottedError::Malformed)?;
            area.remove(slot)?;
            count_remove(page, slot)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key);
    }
}
