//! How operations stand in the log: lengths as varints, keys and values as they are, pages as their number plus one.
//!
//! Invariant: decoding takes any bytes, allocates no more than a multiple of them, and gives nothing unless all were used.

use pagestone_page_format::PageId;
use pagestone_swip::SwipWord;

use crate::node::cells::Cells;
use crate::node::fit::common_prefix;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A number, and flags only if there are any.
pub(super) fn put_flagged(out: &mut Vec<u8>, number: usize, flags: u8) {
    put_varint(out, (number as u64) << 1 | u64::from(flags != 0));
    if flags != 0 {
        out.push(flags);
    }
}

/// The page alone: hints are of one run.
pub(super) fn put_swip(out: &mut Vec<u8>, swip: SwipWord) {
    put_varint(out, if swip.is_null() { 0 } else { swip.page_id().get() + 1 });
}

pub(super) fn put_page(out: &mut Vec<u8>, page: PageId) {
    put_varint(out, page.get() + 1);
}

pub(super) fn put_cells(out: &mut Vec<u8>, cells: &Cells, leaf: bool) {
    let first = cells.iter().next().map_or(&[][..], |first| first.key);
    let more = cells.iter().map(|cell| common_prefix(first, cell.key)).min().unwrap_or(0);
    put_varint(out, (cells.prefix().len() + more) as u64);
    out.extend_from_slice(cells.prefix());
    out.extend_from_slice(&first[..more]);
    put_varint(out, cells.len() as u64);
    for cell in cells.iter() {
        put_bytes(out, &cell.key[more..]);
        if leaf {
            put_flagged(out, cell.value.len(), cell.flags);
            out.extend_from_slice(cell.value);
        } else {
            put_swip(out, cell.child);
        }
    }
}

/// What is left of a record.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn len(&mut self) -> Option<usize> {
        self.varint()?.try_into().ok()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    pub(super) fn flagged(&mut self) -> Option<(usize, u8)> {
        let word = self.varint()?;
        let flags = if word & 1 == 1 { self.byte()? } else { 0 };
        Some(((word >> 1).try_into().ok()?, flags))
    }

    pub(super) fn swip(&mut self) -> Option<SwipWord> {
        match self.varint()?.checked_sub(1) {
            None => Some(SwipWord::NULL),
            Some(number) => SwipWord::new(PageId::new(number)).ok(),
        }
    }

    pub(super) fn page(&mut self) -> Option<PageId> {
        let swip = self.swip()?;
        (!swip.is_null()).then(|| swip.page_id())
    }

    pub(super) fn cells(&mut self, leaf: bool) -> Option<Cells> {
        let mut cells = Cells::new(self.bytes()?.to_vec());
        for _ in 0..self.len()? {
            let key = self.bytes()?;
            if leaf {
                let (len, flags) = self.flagged()?;
                cells.push(key, self.take(len)?, flags, SwipWord::NULL);
            } else {
                cells.push(key, &[], 0, self.swip()?);
            }
        }
        Some(cells)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Nothing if bytes are left over.
    pub(super) fn end(self) -> Option<()> {
        self.bytes.is_empty().then_some(())
    }
}
