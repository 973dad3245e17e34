//! The operations that change a map page.
//!
//! Invariant: each is physical redo of a few bits, never an image of the page, and gives the same bytes live and in redo.

use pagestone_page_format::{OpKind, PageError, PageId, PageKind, PageOp, PageResult, PageWriter, RedoRange};

use super::turn::{Bit, flip};
use super::{BITS_AT, MapHeader, REGION_AT, REGIONS_AT, bits_of, id_of, malformed, map_page, put};

const FORMAT_MAP: OpKind = 0x0100;
const SET_REGIONS: OpKind = 0x0101;
const SET_BITS: OpKind = 0x0102;
const CLEAR_BITS: OpKind = 0x0103;

/// Makes the page the map of a region whose ids are all free but the first, which is the page itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormatMap {
    /// The region.
    pub region: u64,
}

impl PageOp for FormatMap {
    fn kind(&self) -> OpKind {
        FORMAT_MAP
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let unformatted = id_of(page.read());
        let id = map_page(self.region, bits_of(page.read(), unformatted)?)
            .ok_or_else(|| malformed(unformatted, "a region that no file can have"))?;
        page.format(PageKind::SPACE_MAP, id);
        put(page, id, REGION_AT, self.region)?;
        put(page, id, REGIONS_AT, u64::from(self.region == 0))?;
        put(page, id, BITS_AT, 1)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.region.to_le_bytes());
    }
}

/// Says on page 0 how many regions are formatted: one more than before, or fewer, but never none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetRegions {
    /// The number of regions from now on.
    pub count: u64,
}

impl PageOp for SetRegions {
    fn kind(&self) -> OpKind {
        SET_REGIONS
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let map = MapHeader::read(page.read())?;
        let Some(regions) = map.regions else {
            return Err(malformed(map.first, "only page 0 counts regions"));
        };
        let possible = self.count >= 1 && self.count != regions && self.count - 1 <= regions;
        if !possible || map_page(self.count - 1, map.bits).is_none() {
            return Err(malformed(map.first, "a number of regions that cannot follow"));
        }
        put(page, map.first, REGIONS_AT, self.count)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
    }
}

/// Marks ids of one region as in use. [`PageError::AllocationState`] if one of them is: then nothing is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetBits {
    /// The first id.
    pub first: PageId,
    /// How many ids in a row.
    pub count: u32,
}

impl SetBits {
    pub(crate) const KIND: OpKind = SET_BITS;
}

impl PageOp for SetBits {
    fn kind(&self) -> OpKind {
        SET_BITS
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        flip(page, self.first, self.count, Bit::Set)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_run(self.first, self.count, out);
    }
}

/// Marks ids of one region as free. [`PageError::AllocationState`] if one of them is: then nothing is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClearBits {
    /// The first id.
    pub first: PageId,
    /// How many ids in a row.
    pub count: u32,
}

impl ClearBits {
    pub(crate) const KIND: OpKind = CLEAR_BITS;
}

impl PageOp for ClearBits {
    fn kind(&self) -> OpKind {
        CLEAR_BITS
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        flip(page, self.first, self.count, Bit::Clear)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_run(self.first, self.count, out);
    }
}

/// Redo of these operations: kinds `0x0100` to `0x01ff`.
pub fn redo_range() -> RedoRange {
    RedoRange { kinds: 0x0100..=0x01ff, apply: redo, formats: |kind| kind == FORMAT_MAP }
}

fn redo(kind: OpKind, payload: &[u8], page: &PageWriter<'_>) -> PageResult<()> {
    let wrong_length = || malformed(id_of(page.read()), "a space map record of the wrong length");
    let number = || payload.try_into().map(u64::from_le_bytes).map_err(|_| wrong_length());
    let run = || decode_run(payload).ok_or_else(wrong_length);
    match kind {
        FORMAT_MAP => FormatMap { region: number()? }.apply(page),
        SET_REGIONS => SetRegions { count: number()? }.apply(page),
        SET_BITS => run().and_then(|(first, count)| SetBits { first, count }.apply(page)),
        CLEAR_BITS => run().and_then(|(first, count)| ClearBits { first, count }.apply(page)),
        _ => Err(PageError::Mismatch {
            expected: "an operation on the space map".into(),
            found: format!("kind {kind:#06x}"),
        }),
    }
}

fn encode_run(first: PageId, count: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&first.get().to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
}

/// What [`SetBits`] and [`ClearBits`] encode; `None` if these bytes are of another length.
pub(crate) fn decode_run(payload: &[u8]) -> Option<(PageId, u32)> {
    let (first, count) = payload.split_first_chunk()?;
    Some((PageId::new(u64::from_le_bytes(*first)), u32::from_le_bytes(count.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{map_page_of, region_bits, region_of};
    use pagestone_page_format::{PageSize, RedoTable};
    use pagestone_sync::atomic::{AtomicU64, Ordering};
    use proptest::prelude::*;

    const SIZE: PageSize = pagestone_page_format::DEFAULT_PAGE_SIZE;
    const N: u64 = region_bits(SIZE);

    fn words() -> Vec<AtomicU64> {
        (0..SIZE.words()).map(|_| AtomicU64::new(0xdead_beef)).collect()
    }

    fn values(page: &[AtomicU64]) -> Vec<u64> {
        page.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    fn formatted(region: u64) -> Vec<AtomicU64> {
        let page = words();
        FormatMap { region }.apply(&PageWriter::new(&page)).expect("a region that a file can have");
        page
    }

    fn set(page: &[AtomicU64], first: u64, count: u32) -> PageResult<()> {
        SetBits { first: PageId::new(first), count }.apply(&PageWriter::new(page))
    }

    fn clear(page: &[AtomicU64], first: u64, count: u32) -> PageResult<()> {
        ClearBits { first: PageId::new(first), count }.apply(&PageWriter::new(page))
    }

    #[test]
    fn layout_is_the_one_that_is_drawn() {
        let page = formatted(3);
        set(&page, 3 * N + 64, 1).expect("free");
        let values = values(&page);
        assert_eq!(values[0].to_le_bytes(), *b"PG\x01\x01\0\0\0\0");
        assert_eq!(values[1], 3 * N);
        assert_eq!(values[4], 3);
        assert_eq!(values[5], 0);
        assert_eq!(values[6], 1);
        assert_eq!(values[7], 1);
        assert!(values[8..].iter().all(|word| *word == 0));
        assert_eq!(map_page_of(PageId::new(3 * N + 64), SIZE), PageId::new(3 * N));
        assert_eq!(region_of(PageId::new(4 * N - 1), SIZE), 3);
    }

    #[test]
    fn second_owner_is_refused_and_nothing_changes() {
        let page = formatted(0);
        set(&page, 60, 10).expect("free");
        let before = values(&page);
        for (first, count, id) in [(60, 1, 60), (1, 60, 60), (69, 2, 69), (50, 300, 60)] {
            let error = set(&page, first, count).expect_err("one of them is in use");
            assert!(
                matches!(error, PageError::AllocationState { page_id, state: "allocated" } if page_id.get() == id)
            );
        }
        for (first, count, id) in [(59, 1, 59), (60, 11, 70), (200, 5, 200)] {
            let error = clear(&page, first, count).expect_err("one of them is free");
            assert!(
                matches!(error, PageError::AllocationState { page_id, state: "free" } if page_id.get() == id)
            );
        }
        assert_eq!(values(&page), before);
        clear(&page, 60, 10).expect("in use");
        assert_eq!(values(&page), values(&formatted(0)));
    }

    #[test]
    fn ids_of_other_regions_and_the_map_page_itself_are_refused() {
        let page = formatted(2);
        let before = values(&page);
        for (first, count) in [
            (2 * N, 1),
            (2 * N - 1, 2),
            (3 * N - 1, 2),
            (2 * N + 1, 0),
            (0, 1),
            (u64::MAX, 1),
            (2 * N + 1, u32::MAX),
        ] {
            assert!(matches!(set(&page, first, count), Err(PageError::Malformed { .. })), "{first}+{count}");
            assert!(
                matches!(clear(&page, first, count), Err(PageError::Malformed { .. })),
                "{first}+{count}"
            );
        }
        assert_eq!(values(&page), before);
        set(&page, 2 * N + 1, N as u32 - 1).expect("all but the map page");
    }

    #[test]
    fn regions_are_counted_on_page_0_one_by_one() {
        let count = |page: &[AtomicU64], count| SetRegions { count }.apply(&PageWriter::new(page));
        let page = formatted(0);
        for (regions, allowed) in
            [(1, false), (3, false), (0, false), (2, true), (3, true), (u64::MAX, false), (1, true)]
        {
            assert_eq!(count(&page, regions).is_ok(), allowed, "{regions}");
        }
        assert!(count(&formatted(1), 2).is_err());
        assert!(count(&words(), 2).is_err());
    }

    #[test]
    fn region_past_the_last_id_is_refused() {
        let page = words();
        let last = PageId::MAX.get() / N;
        FormatMap { region: last }.apply(&PageWriter::new(&page)).expect("the last region");
        for region in [last + 1, u64::MAX / N + 1, u64::MAX] {
            assert!(FormatMap { region }.apply(&PageWriter::new(&page)).is_err());
        }
    }

    fn ops() -> impl Strategy<Value = Vec<(u8, u64, u32)>> {
        proptest::collection::vec((0u8..4, 0u64..400, 0u32..80), 1..60)
    }

    fn op((which, number, count): (u8, u64, u32)) -> Box<dyn PageOp> {
        match which {
            0 => Box::new(SetRegions { count: number % 4 }),
            1 => Box::new(ClearBits { first: PageId::new(number), count }),
            _ => Box::new(SetBits { first: PageId::new(number), count }),
        }
    }

    proptest! {
        #[test]
        fn redo_gives_the_bytes_of_the_live_path(ops in ops()) {
            let (live, redone) = (words(), words());
            let table = RedoTable::new(vec![redo_range()]);
            let format: Box<dyn PageOp> = Box::new(FormatMap { region: 0 });
            for op in std::iter::once(format).chain(ops.into_iter().map(op)) {
                let before = values(&live);
                let mut record = Vec::new();
                op.encode(&mut record);
                let applied = op.apply(&PageWriter::new(&live));
                let again = table.apply(op.kind(), &record, &PageWriter::new(&redone));
                prop_assert_eq!(applied.is_ok(), again.is_ok());
                prop_assert_eq!(values(&live), values(&redone));
                if applied.is_err() {
                    prop_assert_eq!(values(&live), before);
                }
            }
        }

        #[test]
        fn no_record_and_no_page_makes_redo_panic(
            kind in 0x0100u16..0x0108,
            payload in proptest::collection::vec(any::<u8>(), 0..20),
            small in proptest::collection::vec(prop_oneof![0u64..4, any::<u64>()], 0..600),
            map in any::<bool>(),
        ) {
            let page: Vec<AtomicU64> = small.into_iter().map(AtomicU64::new).collect();
            if map && page.len() > 6 {
                page[0].store(0x0101_4750, Ordering::Relaxed);
                page[1].store(0, Ordering::Relaxed);
                page[4].store(0, Ordering::Relaxed);
            }
            let before = values(&page);
            if (redo_range().apply)(kind, &payload, &PageWriter::new(&page)).is_err() && kind != FORMAT_MAP {
                prop_assert_eq!(values(&page), before);
            }
        }
    }
}
