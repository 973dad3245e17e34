//! One entry of a leaf.

use pagestone_page_format::slotted::SlottedError;
use pagestone_page_format::{OpKind, PageOp, PageResult, PageWriter};

use super::codec::{Reader, put_bytes, put_flagged};
use super::{
    INSERT_CELL, REMOVE_CELL, REMOVE_CELLS, UPDATE_CELL, change, count_insert, count_remove, expect,
};
use crate::node::content::rewrite;

/// Puts an entry into a leaf that does not have its key and can hold it.
#[derive(Clone, Copy)]
pub(crate) struct InsertCell<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) flags: u8,
}

/// Gives an entry of a leaf another value and other flags.
#[derive(Clone, Copy)]
pub(crate) struct UpdateCell<'a> {
    /// Where whoever changes this very node has just found the key; redo does not know, and looks.
    pub(crate) at: Option<usize>,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) flags: u8,
}

/// Takes an entry out of a leaf.
#[derive(Clone, Copy)]
pub(crate) struct RemoveCell<'a> {
    pub(crate) key: &'a [u8],
}

/// Takes the entries of a leaf out whose keys are not below `from` and, if there is an end, below `to`; there may be none.
#[derive(Clone, Copy)]
pub(crate) struct RemoveCells<'a> {
    pub(crate) from: &'a [u8],
    pub(crate) to: Option<&'a [u8]>,
}

impl<'a> RemoveCells<'a> {
    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let from = reader.bytes()?;
        let to = match reader.byte()? {
            0 => Some(reader.rest()),
            TO_THE_END => {
                reader.end()?;
                None
            }
            _ => return None,
        };
        Some(Self { from, to })
    }
}

const TO_THE_END: u8 = 1;

impl<'a> InsertCell<'a> {
    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let (key, value, flags) = decode_entry(payload)?;
        Some(Self { key, value, flags })
    }
}

impl<'a> UpdateCell<'a> {
    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let (key, value, flags) = decode_entry(payload)?;
        Some(Self { at: None, key, value, flags })
    }
}

impl<'a> RemoveCell<'a> {
    pub(super) fn decode(key: &'a [u8]) -> Option<Self> {
        Some(Self { key })
    }
}

/// Length of the key, flags if any, key; the rest is the value.
fn encode_entry(key: &[u8], value: &[u8], flags: u8, out: &mut Vec<u8>) {
    put_flagged(out, key.len(), flags);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

fn decode_entry(payload: &[u8]) -> Option<(&[u8], &[u8], u8)> {
    let mut reader = Reader::new(payload);
    let (key_len, flags) = reader.flagged()?;
    Some((reader.take(key_len)?, reader.rest(), flags))
}

const FULL: SlottedError = SlottedError::Full { needed: 0, free: 0 };

impl PageOp for InsertCell<'_> {
    fn kind(&self) -> OpKind {
        INSERT_CELL
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, area| {
            expect(node, true, self.key)?;
            let prefix = node.prefix_to_hold(self.key, self.value.len())?.ok_or(FULL)?;
            if prefix != node.header()?.prefix_len {
                rewrite(page, prefix)?;
            }
            let search = node.search(self.key)?;
            if search.found {
                return Err(SlottedError::Malformed);
            }
            let rest = self.key.get(prefix..).ok_or(SlottedError::Malformed)?;
            area.insert(search.slot, rest, self.value, self.flags, None)?;
            count_insert(page, search.slot)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_entry(self.key, self.value, self.flags, out);
    }
}

impl PageOp for UpdateCell<'_> {
    fn kind(&self) -> OpKind {
        UPDATE_CELL
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, area| {
            let loaded = expect(node, true, self.key)?;
            let slot = match self.at {
                Some(slot) if loaded.is_at(slot, self.key)? => slot,
                _ => loaded.find_inside(self.key)?.ok_or(SlottedError::Malformed)?,
            };
            let prefix = node.prefix_to_update(slot, self.value.len())?.ok_or(FULL)?;
            if prefix != node.header()?.prefix_len {
                rewrite(page, prefix)?;
            }
            area.update_value(slot, self.value, self.flags)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_entry(self.key, self.value, self.flags, out);
    }
}

impl PageOp for RemoveCell<'_> {
    fn kind(&self) -> OpKind {
        REMOVE_CELL
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, area| {
            expect(node, true, self.key)?;
            let slot = node.find(self.key)?.ok_or(SlottedError::Malformed)?;
            area.remove(slot)?;
            count_remove(page, slot)
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key);
    }
}

impl PageOp for RemoveCells<'_> {
    fn kind(&self) -> OpKind {
        REMOVE_CELLS
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        change(page, |node, area| {
            expect(node, true, self.from)?;
            let first = node.lower_bound(self.from)?;
            let end = match self.to {
                Some(to) => node.lower_bound(to)?,
                None => node.count()?,
            };
            for slot in (first..end).rev() {
                area.remove(slot)?;
                count_remove(page, slot)?;
            }
            Ok(())
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.from);
        out.push(if self.to.is_none() { TO_THE_END } else { 0 });
        out.extend_from_slice(self.to.unwrap_or_default());
    }
}
