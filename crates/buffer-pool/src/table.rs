//! Page id to frame: flat buckets, optimistic reads, two to three times as many slots as frames.
//!
//! Invariant: at most one entry names a page id (P2), because an entry for a page is added, changed or removed only under
//! the latch of the page's home bucket, wherever the entry itself stands.
//!
//! ```text
//!   bucket (64 bytes):  latch | passed | entry 0 .. entry 5
//!   entry:              [63:62] state (empty, loading, resident) | [61:24] page id | [23:0] frame
//! ```
//!
//! A page whose home bucket is full stands in one of the buckets behind it; `passed` counts, in each bucket on the way,
//! the entries that went past it, so that a search stops at the first bucket that nobody passed. A reader validates the home
//! bucket alone: what other pages do meanwhile cannot change its answer. Nobody holds two buckets' latches: a slot, wherever it
//! stands, is taken by a compare-and-swap from empty, and changed by the holder of its page's home latch alone.

use std::hint::select_unpredictable;

use pagestone_hybrid_latch::HybridLatch;
use pagestone_page_format::{FrameIndex, PageId};
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::faults::planted;

const ENTRIES: usize = 6;
const FRAME_BITS: u32 = 24;
const STATE_SHIFT: u32 = 62;
const EMPTY: u64 = 0;
const LOADING: u64 = 1;
const RESIDENT: u64 = 2;

/// What the table knows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Absent,
    /// Somebody is reading it.
    Loading,
    Resident(FrameIndex),
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket {
    latch: HybridLatch,
    passed: AtomicU64,
    entries: [AtomicU64; ENTRIES],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

#[derive(Debug)]
pub(crate) struct PageTable {
    buckets: Box<[Bucket]>,
    shift: u32,
}

fn encode(state: u64, page: PageId, frame: FrameIndex) -> u64 {
    state << STATE_SHIFT | page.get() << FRAME_BITS | u64::from(frame.get())
}

fn names(entry: u64, page: PageId) -> bool {
    entry >> STATE_SHIFT != EMPTY && (entry << 2) >> (2 + FRAME_BITS) == page.get()
}

fn decode(entry: u64) -> Entry {
    match entry >> STATE_SHIFT {
        RESIDENT => Entry::Resident(FrameIndex::new((entry & ((1 << FRAME_BITS) - 1)) as u32)),
        LOADING => Entry::Loading,
        _ => Entry::Absent,
    }
}

impl PageTable {
    /// A power of two of them, so that a multiplication and a shift find one; 1.8 to 3.6 slots for each frame by that. More would take more
    /// memory than the 3 % that all but the pages may have.
    pub(crate) const fn buckets(frames: usize) -> usize {
        let most = frames / 5 * 3;
        if most < 4 { 4 } else { 1 << most.ilog2() }
    }

    /// Memory of a table for so many frames, in bytes.
    pub(crate) const fn bytes(frames: usize) -> usize {
        Self::buckets(frames) * size_of::<Bucket>()
    }

    pub(crate) fn for_frames(frames: usize) -> Self {
        let buckets = Self::buckets(frames);
        let bucket = || Bucket {
            latch: HybridLatch::new(),
            passed: AtomicU64::new(0),
            entries: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Self { buckets: (0..buckets).map(|_| bucket()).collect(), shift: 64 - buckets.trailing_zeros() }
    }

    fn home(&self, page: PageId) -> usize {
        (page.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn next(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    /// The frame where the page most likely is: what stands in its home bucket, not validated, none if it stands elsewhere. As a
    /// swip's hint it is believed by nobody who has not asked the frame (P1, P4).
    ///
    /// All entries are looked at, without a branch: which one it is is chance.
    #[inline]
    pub(crate) fn hint(&self, page: PageId) -> Option<FrameIndex> {
        let wanted = encode(RESIDENT, page, FrameIndex::new(0)) >> FRAME_BITS;
        let mut found = 0;
        for entry in &self.buckets[self.home(page)].entries {
            let entry = entry.load(Ordering::Relaxed);
            found = select_unpredictable(entry >> FRAME_BITS == wanted, entry, found);
        }
        match decode(found) {
            Entry::Resident(frame) => Some(frame),
            Entry::Absent | Entry::Loading => None,
        }
    }

    /// Looks the page up without writing anything.
    #[inline]
    pub(crate) fn get(&self, page: PageId) -> Entry {
        let home = &self.buckets[self.home(page)];
        loop {
            let latch = home.latch.optimistic_spin().expect(NO_PANIC);
            let entry = self.find(page).map_or(Entry::Absent, |(_, _, entry)| decode(entry));
            if latch.validate().is_ok() {
                return entry;
            }
        }
    }

    /// Claims the right to load an absent page into `frame`, or says what stands in the way.
    pub(crate) fn claim(&self, page: PageId, frame: FrameIndex) -> Result<(), Entry> {
        let home = self.home(page);
        let _latch = self.buckets[home].latch.lock_exclusive().expect(NO_PANIC);
        if let Some((_, _, entry)) = self.find(page)
            && !planted("a claim does not look who else loads the page")
        {
            return Err(decode(entry));
        }
        let entry = encode(LOADING, page, frame);
        // More slots than frames: a round that finds none free was overtaken by others, and is taken again.
        let mut at = home;
        while !self.put(at, entry) {
            at = self.next(at);
        }
        self.pass(home, at, |passed| {
            passed.fetch_add(1, Ordering::Relaxed);
        });
        Ok(())
    }

    /// Visits the buckets from `home` to before `bucket`: those that the entry went past.
    fn pass(&self, home: usize, bucket: usize, visit: impl Fn(&AtomicU64)) {
        let mut at = home;
        while at != bucket {
            visit(&self.buckets[at].passed);
            at = self.next(at);
        }
    }

    /// The claimed page is resident in the frame it was claimed for. Called under that frame's exclusive latch.
    pub(crate) fn publish(&self, page: PageId, frame: FrameIndex) {
        let home = self.home(page);
        let _latch = self.buckets[home].latch.lock_exclusive().expect(NO_PANIC);
        let (bucket, slot, entry) =
            self.find(page).expect("P3: the claim of a loader stands until it publishes");
        assert_eq!(entry, encode(LOADING, page, frame), "P3: one loader per page");
        self.buckets[bucket].entries[slot].store(encode(RESIDENT, page, frame), Ordering::Relaxed);
    }

    /// Forgets the page: an evictor under the frame's exclusive latch, or a loader whose read failed.
    pub(crate) fn remove(&self, page: PageId) {
        let home = self.home(page);
        let _latch = self.buckets[home].latch.lock_exclusive().expect(NO_PANIC);
        let (bucket, slot, _) = self.find(page).expect("P2: the table names every resident or loading page");
        self.buckets[bucket].entries[slot].store(0, Ordering::Relaxed);
        self.pass(home, bucket, |passed| {
            passed.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn put(&self, bucket: usize, entry: u64) -> bool {
        self.buckets[bucket].entries.iter().any(|slot| {
            slot.load(Ordering::Relaxed) == 0
                && slot.compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    #[inline]
    fn find(&self, page: PageId) -> Option<(usize, usize, u64)> {
        let home = self.home(page);
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            for (slot, entry) in bucket.entries.iter().enumerate() {
                let entry = entry.load(Ordering::Relaxed);
                if names(entry, page) {
                    return Some((at, slot, entry));
                }
            }
            if bucket.passed.load(Ordering::Relaxed) == 0 {
                return None;
            }
            at = self.next(at);
            if at == home {
                return None;
            }
        }
    }
}

const NO_PANIC: &str = "P10: nothing panics while it holds a bucket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowded_table_keeps_one_entry_per_page_and_finds_each() {
        let frames = 64;
        let table = PageTable::for_frames(frames);
        // Ids that all share one home bucket, so that most of them stand elsewhere.
        let crowd: Vec<PageId> = (0u64..)
            .map(PageId::new)
            .filter(|id| table.home(*id) == table.buckets.len() - 1)
            .take(frames)
            .collect();
        for (index, id) in crowd.iter().enumerate() {
            let frame = FrameIndex::new(index as u32);
            assert_eq!(table.get(*id), Entry::Absent);
            table.claim(*id, frame).expect("absent");
            assert_eq!(table.claim(*id, frame), Err(Entry::Loading));
            assert_eq!(table.hint(*id), None);
            table.publish(*id, frame);
            assert_eq!(table.get(*id), Entry::Resident(frame));
            assert_eq!(table.hint(*id), (index < ENTRIES).then_some(frame), "the home bucket alone");
        }
        for (index, id) in crowd.iter().enumerate().filter(|(index, _)| index % 3 != 0) {
            assert_eq!(table.get(*id), Entry::Resident(FrameIndex::new(index as u32)));
            table.remove(*id);
            assert_eq!(table.get(*id), Entry::Absent);
            assert_eq!(table.hint(*id), None);
        }
        for (index, id) in crowd.iter().enumerate() {
            let expected =
                if index % 3 == 0 { Entry::Resident(FrameIndex::new(index as u32)) } else { Entry::Absent };
            assert_eq!(table.get(*id), expected);
        }
        for id in crowd.iter().step_by(3) {
            table.remove(*id);
        }
        assert!(table.buckets.iter().all(|bucket| bucket.passed.load(Ordering::Relaxed) == 0));
        assert!(table.buckets.iter().flat_map(|b| &b.entries).all(|e| e.load(Ordering::Relaxed) == 0));
    }

    /// Entries that stand in each other's home buckets, added and removed from all sides at once.
    #[test]
    fn crowded_neighbours_do_not_wait_for_each_other() {
        let frames = 12;
        let table = PageTable::for_frames(frames);
        std::thread::scope(|scope| {
            for thread in 0..6u32 {
                let table = &table;
                scope.spawn(move || {
                    // Two pages a thread, all of few homes.
                    for round in 0..20_000u64 {
                        for part in 0..2 {
                            let id = PageId::new((round % 64) * 12 + u64::from(thread * 2 + part));
                            let frame = FrameIndex::new(thread * 2 + part);
                            table.claim(id, frame).expect("nobody else's page");
                            table.publish(id, frame);
                            assert_eq!(table.get(id), Entry::Resident(frame));
                        }
                        for part in 0..2 {
                            table.remove(PageId::new((round % 64) * 12 + u64::from(thread * 2 + part)));
                        }
                    }
                });
            }
        });
        assert!(table.buckets.iter().all(|bucket| bucket.passed.load(Ordering::Relaxed) == 0));
        assert!(table.buckets.iter().flat_map(|b| &b.entries).all(|e| e.load(Ordering::Relaxed) == 0));
    }
}
