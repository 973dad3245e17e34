//! Groups: what reaches the log together and is replayed together, or not at all.
//!
//! Invariant: a group's bytes do not depend on where it comes to lie, so that its checksum is computed before the log's
//! mutex is taken; which place and which generation it was written at is guarded by the blocks around it.
//!
//! ```text
//!            0         1         2         3         4         5         6         7
//!       ┌───────────────────────────────────────┬─────────────────────────────┬─────────┐
//!    0  │     CRC32C of all that follows        │  bytes of records (24 bit)  │ records │
//!       ├───────────────────────────────────────┴─────────────────────────────┴─────────┤
//!    8  │ records, one behind the other (`records` counts up to 255, which means more)  │
//!       └───────────────────────────────────────────────────────────────────────────────┘
//! ```

use pagestone_page_format::{Lsn, OpKind, PageId, PageOp, crc32c};

use crate::block::{BLOCK, PAYLOAD};
use crate::record::{self, Record, RecordKind};

/// Bytes in front of a group's records.
pub(crate) const GROUP_HEADER: usize = 8;

/// The largest buffer of a log, in bytes; no group and no batch is larger.
pub(crate) const MAX_BUFFER: usize = 8 << 20;
/// Bytes of the largest group that any log takes.
pub(crate) const MAX_GROUP: usize = (MAX_BUFFER / BLOCK - 1) * PAYLOAD;
const _: () = assert!(MAX_GROUP < 1 << 24);

/// A group in the making: private bytes, laid out as they will stand in the log.
///
/// ```
/// use pagestone_wal::GroupBuilder;
/// let mut group = GroupBuilder::new();
/// group.push_logical(0x4001, b"began");
/// assert_eq!(group.records(), 1);
/// assert!(group.encoded_len() <= GroupBuilder::bound(1, 5));
/// ```
#[derive(Clone, Debug)]
pub struct GroupBuilder {
    bytes: Vec<u8>,
    records: usize,
    after_data: bool,
}

impl GroupBuilder {
    /// A group without records.
    pub fn new() -> Self {
        Self::with_capacity(GROUP_HEADER)
    }

    /// A group without records, with memory for so many bytes in all ([`GroupBuilder::bound`]).
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.max(GROUP_HEADER));
        buffer.resize(GROUP_HEADER, 0);
        Self { bytes: buffer, records: 0, after_data: false }
    }

    /// Bytes that a group takes at most: for [`crate::Wal::reserve`]. `payload_bytes` is what all operations together
    /// encode; an image or a patch counts four bytes more than it has.
    pub const fn bound(records: usize, payload_bytes: usize) -> usize {
        GROUP_HEADER
            .saturating_add(payload_bytes)
            .saturating_add(records.saturating_mul(record::MAX_OVERHEAD))
    }

    /// Adds the redo of an operation on a page.
    pub fn push(&mut self, page: PageId, op: &dyn PageOp) {
        self.add(RecordKind::Page, op.kind(), page, |out| op.encode(out));
    }

    /// Adds a record of an engine's own.
    pub fn push_logical(&mut self, kind: OpKind, payload: &[u8]) {
        self.add(RecordKind::Logical, kind, PageId::new(0), |out| out.extend_from_slice(payload));
    }

    /// Adds a whole page.
    pub fn push_page_image(&mut self, page: PageId, image: &[u8]) {
        self.add(RecordKind::PageImage, 0, page, |out| out.extend_from_slice(image));
    }

    /// Adds a part of a page.
    pub fn push_page_patch(&mut self, page: PageId, offset: u32, bytes: &[u8]) {
        self.add(RecordKind::PagePatch, 0, page, |out| {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(bytes);
        });
    }

    /// Says that the group refers to bytes outside the log that were written and not synced: none of it is written before the
    /// log's write barrier ([`crate::Wal::set_write_barrier`]) has been passed once more (L12).
    pub fn refer_to_data(&mut self) {
        self.after_data = true;
    }

    /// Whether it refers to bytes outside the log.
    pub(crate) fn is_after_data(&self) -> bool {
        self.after_data
    }

    /// Records so far.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes that it will take in the log, block headers aside.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the records, and that they refer to data, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(GROUP_HEADER);
        self.records = 0;
        self.after_data = false;
    }

    fn add(&mut self, kind: RecordKind, op: OpKind, page: PageId, encode: impl FnOnce(&mut Vec<u8>)) {
        record::put(kind, op, page, &mut self.bytes, encode);
        self.records += 1;
    }

    /// Fills the header in and gives the bytes for the log. The group has been found to be no larger than [`MAX_GROUP`].
    pub(crate) fn finish(&mut self) -> &[u8] {
        let word = header_word(self.bytes.len() - GROUP_HEADER, self.records);
        self.bytes[4..GROUP_HEADER].copy_from_slice(&word.to_le_bytes());
        let checksum = crc32c(&self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        &self.bytes
    }
}

impl Default for GroupBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A group as replay hands it out: whole, its checksum and every record's frame verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group<'a> {
    start: Lsn,
    end: Lsn,
    payload: &'a [u8],
    records: usize,
}

impl<'a> Group<'a> {
    /// LSN of its first byte: the `rec_lsn` of pages that it was the first to change (L3).
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// LSN behind its last byte: what pages that it changed carry (L1).
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of its records, frames included.
    pub fn encoded_len(&self) -> usize {
        self.payload.len()
    }

    /// Its records, in the order in which they were added.
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.payload }
    }

    /// Verifies a group that lies between two LSNs. `bytes` are those that [`group_len`] asked for.
    pub(crate) fn decode(bytes: &'a [u8], start: Lsn, end: Lsn) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<GROUP_HEADER>()?;
        let (stored, word) = split_header(header);
        if stored != crc32c(&bytes[4..]) || payload.len() != (word & 0x00ff_ffff) as usize {
            return None;
        }
        let mut rest = payload;
        let mut records = 0;
        while !rest.is_empty() {
            Record::take(&mut rest)?;
            records += 1;
        }
        (header_word(payload.len(), records) == word).then_some(Self { start, end, payload, records })
    }
}

/// The records of a [`Group`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        Record::take(&mut self.rest)
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// Bytes of the group whose header these are, itself included; `None` if no group can be that long.
pub(crate) fn group_len(header: &[u8; GROUP_HEADER]) -> Option<usize> {
    let len = GROUP_HEADER + (split_header(header).1 & 0x00ff_ffff) as usize;
    (len <= MAX_GROUP).then_some(len)
}

fn header_word(payload: usize, records: usize) -> u32 {
    debug_assert!(payload <= MAX_GROUP);
    payload as u32 | (records.min(255) as u32) << 24
}

fn split_header(header: &[u8; GROUP_HEADER]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *header;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_page_format::{PageResult, PageWriter};
    use proptest::prelude::*;

    struct Op<'a>(OpKind, &'a [u8]);

    impl PageOp for Op<'_> {
        fn kind(&self) -> OpKind {
            self.0
        }
        fn apply(&self, _page: &PageWriter<'_>) -> PageResult<()> {
            Ok(())
        }
        fn encode(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(self.1);
        }
    }

    fn decode(bytes: &[u8]) -> Option<Group<'_>> {
        let len = group_len(bytes.first_chunk()?)?;
        Group::decode(bytes.get(..len)?, Lsn::new(1), Lsn::new(2))
    }

    #[test]
    fn a_group_gives_back_what_was_pushed() {
        let mut group = GroupBuilder::new();
        for round in 0..2 {
            group.push(PageId::new(77), &Op(300, b"insert"));
            group.push_logical(0x8000, b"");
            group.push_page_image(PageId::new(1 << 41), &[9; 4096]);
            group.push_page_patch(PageId::new(5), 100, b"patch");
            assert!(group.encoded_len() <= GroupBuilder::bound(4, 6 + 4096 + 9));
            let bytes = group.finish().to_vec();
            let back = decode(&bytes).expect("a group");
            let records: Vec<_> = back.records().collect();
            assert_eq!((records.len(), back.len(), group.records()), (4, 4, 4), "round {round}");
            assert_eq!(
                (records[0].kind, records[0].op, records[0].payload),
                (RecordKind::Page, 300, &b"insert"[..])
            );
            assert_eq!((records[1].kind, records[1].op), (RecordKind::Logical, 0x8000));
            assert_eq!((records[2].page, records[2].payload.len()), (PageId::new(1 << 41), 4096));
            assert_eq!(records[3].patch(), Some((100, &b"patch"[..])));
            group.clear();
            assert!(group.is_empty() && group.encoded_len() == GROUP_HEADER);
        }
    }

    #[test]
    fn counts_past_a_byte_and_empty_groups_are_whole() {
        let mut group = GroupBuilder::new();
        assert_eq!(decode(group.finish()).map(|group| group.len()), Some(0));
        for _ in 0..700 {
            group.push_logical(1, b"x");
        }
        assert_eq!(decode(group.finish()).map(|group| group.len()), Some(700));
    }

    #[test]
    fn every_flipped_bit_is_found_and_zeros_are_no_group() {
        let mut group = GroupBuilder::new();
        group.push_logical(3, b"payload");
        let mut bytes = group.finish().to_vec();
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(decode(&bytes).is_none(), "bit {at}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
        assert!(decode(&[0; 64]).is_none());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..96), right in any::<bool>()) {
            if right && bytes.len() >= GROUP_HEADER {
                let word = header_word(bytes.len() - GROUP_HEADER, usize::from(bytes[3] % 4));
                bytes[4..GROUP_HEADER].copy_from_slice(&word.to_le_bytes());
                let crc = crc32c(&bytes[4..]);
                bytes[..4].copy_from_slice(&crc.to_le_bytes());
            }
            if let Some(group) = decode(&bytes) {
                prop_assert_eq!(group.records().count(), group.len());
            }
        }
    }
}
