//! One record of a group: what happened to one page, or what an engine had to say.
//!
//! Invariant: a record's bytes have one meaning and its meaning one encoding; decoding looks at no byte outside the group
//! and believes no length before it has compared it with what is there.
//!
//! ```text
//!   ┌──────┬────────┬─────────────────────┬────────────────┬─────────┐
//!   │ kind │ op     │ page id             │ payload length │ payload │
//!   │ 1    │ varint │ varint, not Logical │ varint         │         │
//!   └──────┴────────┴─────────────────────┴────────────────┴─────────┘
//! ```

use pagestone_page_format::{OpKind, PageId};

use crate::varint;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// An operation on a page, for [`pagestone_page_format::RedoTable`].
    Page = 1,
    /// An engine's own record; it concerns no page of ours.
    Logical = 2,
    /// All bytes of a page.
    PageImage = 3,
    /// Some bytes of a page: a little-endian 32-bit offset, then the bytes.
    PagePatch = 4,
}

impl RecordKind {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Page, Self::Logical, Self::PageImage, Self::PagePatch]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// Bytes that a record takes beside its payload, at most.
pub(crate) const MAX_OVERHEAD: usize =
    1 + varint::len(OpKind::MAX as u64) + varint::MAX_LEN + varint::len(u32::MAX as u64);

/// One decoded record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// The page that it concerns; page 0, which means nothing, for [`RecordKind::Logical`].
    pub page: PageId,
    /// Which operation, or which kind of an engine's own; 0 for images and patches.
    pub op: OpKind,
    /// What the operation encoded.
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The offset and the bytes of a [`RecordKind::PagePatch`].
    pub fn patch(&self) -> Option<(usize, &'a [u8])> {
        let (offset, bytes) = self.payload.split_first_chunk::<4>()?;
        (self.kind == RecordKind::PagePatch).then_some((u32::from_le_bytes(*offset) as usize, bytes))
    }

    /// Takes a record off the front. `None` if the bytes are none.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let kind = RecordKind::from_number(*kind)?;
        let op = OpKind::try_from(varint::take(&mut rest)?).ok()?;
        let page = match kind {
            RecordKind::Logical => PageId::new(0),
            _ => PageId::new(varint::take(&mut rest)?),
        };
        let len = usize::try_from(varint::take(&mut rest)?).ok()?;
        let (payload, rest) = rest.split_at_checked(len)?;
        if kind == RecordKind::PagePatch && len < 4 {
            return None;
        }
        *bytes = rest;
        Some(Self { kind, page, op, payload })
    }
}

/// Appends a record whose payload is what `encode` appends.
pub(crate) fn put(
    kind: RecordKind,
    op: OpKind,
    page: PageId,
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    out.push(kind as u8);
    varint::put(op.into(), out);
    if kind != RecordKind::Logical {
        varint::put(page.get(), out);
    }
    // The length is known only afterwards: one byte is left for it, and a longer length shifts the payload.
    let length_at = out.len();
    out.push(0);
    encode(out);
    let len = out.len() - length_at - 1;
    let mut length = [0; varint::MAX_LEN];
    let bytes = varint::len(len as u64);
    let mut rest = len;
    for byte in &mut length[..bytes] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    length[bytes - 1] &= 0x7f;
    if bytes > 1 {
        let end = out.len();
        out.resize(end + bytes - 1, 0);
        out.copy_within(length_at + 1..end, length_at + bytes);
    }
    out[length_at..length_at + bytes].copy_from_slice(&length[..bytes]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_survive_encoding_at_every_length_of_length() {
        for len in [0usize, 1, 4, 127, 128, 129, 16_383, 16_384, 70_000, 2_097_152] {
            for kind in [RecordKind::Page, RecordKind::Logical, RecordKind::PageImage] {
                let payload: Vec<u8> = (0..len).map(|at| at as u8 | 1).collect();
                let mut bytes = vec![0xee];
                put(kind, 0x1234, PageId::new(len as u64 * 977), &mut bytes, |out| {
                    out.extend_from_slice(&payload)
                });
                put(kind, 7, PageId::new(9), &mut bytes, |_| ());
                let mut rest = &bytes[1..];
                let record = Record::take(&mut rest).expect("a record");
                assert_eq!((record.kind, record.op, record.payload), (kind, 0x1234, &payload[..]));
                assert!(bytes.len() <= 1 + len + 2 * MAX_OVERHEAD);
                assert_eq!(Record::take(&mut rest).map(|record| record.payload), Some(&[][..]));
                assert!(rest.is_empty());
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_mean_one_thing(bytes in prop::collection::vec(any::<u8>(), 0..64), kind in 0u8..6) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let mut rest = &bytes[..];
            if let Some(record) = Record::take(&mut rest) {
                let mut again = Vec::new();
                put(record.kind, record.op, record.page, &mut again, |out| out.extend_from_slice(record.payload));
                prop_assert_eq!(&bytes[..bytes.len() - rest.len()], &again[..]);
                let _ = record.patch();
            }
        }
    }
}
