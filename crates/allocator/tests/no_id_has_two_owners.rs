//! Prevents: an id handed out twice, to two threads or over a reopening, and with it two trees in one page.
//!
//! Real map pages in memory, changed by the real operations under one lock per page, as mini-transactions do.

use std::collections::{BTreeMap, BTreeSet};

use pagestone_allocator::{
    FormatMap, LoggedAllocator, MapSource, RegionBits, Release, Reservation, SetRegions, map_page_of,
    redo_range, region_bits,
};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, PageId, PageOp, PageResult, PageWriter, RedoTable, SpeculativePage,
};
use pagestone_sync::Mutex;
use pagestone_sync::atomic::{AtomicU64, Ordering};

const N: u64 = region_bits(DEFAULT_PAGE_SIZE);

type Words = Vec<AtomicU64>;

/// Map pages, each change to them in one log, and a file length.
#[derive(Default)]
struct File {
    pages: Mutex<BTreeMap<PageId, Words>>,
    log: Mutex<Vec<(PageId, u16, Vec<u8>)>>,
    len: AtomicU64,
}

impl File {
    fn change(&self, pages: &mut BTreeMap<PageId, Words>, page: PageId, op: &dyn PageOp) {
        let words = pages.entry(page).or_insert_with(|| new_words().collect());
        op.apply(&PageWriter::new(words)).expect("the allocator asks for nothing that a map page refuses");
        let mut record = Vec::new();
        op.encode(&mut record);
        self.log.lock().push((page, op.kind(), record));
    }

    /// One mini-transaction.
    fn group(&self, reserved: Option<Reservation<'_>>, released: Option<Release<'_>>) {
        let mut pages = self.pages.lock();
        for (page, op) in reserved.iter().flat_map(|ids| ids.set_bits().collect::<Vec<_>>()) {
            self.change(&mut pages, page, &op);
        }
        for (page, op) in released.iter().flat_map(|ids| ids.clear_bits().collect::<Vec<_>>()) {
            self.change(&mut pages, page, &op);
        }
        drop(pages);
        if let Some(reserved) = reserved {
            reserved.commit();
        }
        if let Some(released) = released {
            released.commit(Lsn::new(1));
        }
    }
}

fn new_words() -> impl Iterator<Item = AtomicU64> {
    (0..DEFAULT_PAGE_SIZE.words()).map(|_| AtomicU64::new(0))
}

impl MapSource for File {
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
        let pages = self.pages.lock();
        pages
            .get(&PageId::new(region * N))
            .map(|words| RegionBits::decode(SpeculativePage::new(words)))
            .transpose()
    }

    fn format_region(&self, region: u64) -> PageResult<()> {
        let mut pages = self.pages.lock();
        if region > 0 {
            self.change(&mut pages, PageId::new(0), &SetRegions { count: region + 1 });
        }
        self.change(&mut pages, PageId::new(region * N), &FormatMap { region });
        Ok(())
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.len.fetch_max(pages, Ordering::Relaxed);
        Ok(())
    }

    fn file_pages(&self) -> PageResult<u64> {
        Ok(self.len.load(Ordering::Relaxed))
    }
}

/// A small generator, so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn eight_threads_never_share_an_id_and_redo_rebuilds_the_maps() {
    let file = File::default();
    let owned = Mutex::new(BTreeSet::new());
    for round in 0..3 {
        // A new process: nothing is known but what the map pages say.
        let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (file, allocator, owned) = (&file, &allocator, &owned);
                scope.spawn(move || work(file, allocator, owned, Random(round * 8 + thread + 1)));
            }
        });
    }

    let pages = file.pages.into_inner();
    let owned = owned.into_inner();
    assert!(pages.len() > 2, "several regions were used");
    for (page, words) in &pages {
        let bits = RegionBits::decode(SpeculativePage::new(words)).expect("a map page");
        for id in (page.get()..page.get() + N).map(PageId::new) {
            let expected = id == *page || owned.contains(&id);
            assert_eq!(bits.is_allocated(id), Some(expected), "page {id}");
        }
    }

    let table = RedoTable::new(vec![redo_range()]);
    let mut redone: BTreeMap<PageId, Words> = BTreeMap::new();
    for (page, kind, record) in file.log.into_inner() {
        let words = redone.entry(page).or_insert_with(|| new_words().collect());
        table.apply(kind, &record, &PageWriter::new(words)).expect("what was applied can be redone");
    }
    let values = |pages: &BTreeMap<PageId, Words>| -> Vec<(PageId, Vec<u64>)> {
        pages
            .iter()
            .map(|(id, words)| (*id, words.iter().map(|word| word.load(Ordering::Relaxed)).collect()))
            .collect()
    };
    assert!(values(&pages) == values(&redone), "redo gives the same bytes");
}

fn work(file: &File, allocator: &LoggedAllocator, owned: &Mutex<BTreeSet<PageId>>, mut random: Random) {
    let mut mine = Vec::new();
    for turn in 0..400 {
        // The first turn takes many, so that there are several regions.
        let wanted = if turn == 0 { 6000 } else { 1 + random.below(60) as usize };
        let mut ids = match random.below(4) {
            0 => allocator.reserve_run(file, wanted as u32),
            _ => allocator.reserve(file, wanted),
        }
        .expect("the file can grow");
        let taken = if turn == 0 { wanted as u64 } else { random.below(wanted as u64 + 1) };
        for _ in 0..taken {
            let id = ids.take().expect("no more are taken than were reserved");
            assert_ne!(id, map_page_of(id, DEFAULT_PAGE_SIZE), "a map page is nobody's");
            assert!(owned.lock().insert(id), "page {id} has two owners");
            mine.push(id);
        }
        let mut release = allocator.release();
        for _ in 0..random.below(30).min(mine.len() as u64) {
            let id = mine.swap_remove(random.below(mine.len() as u64) as usize);
            // Given up before the commit, because another thread may get it right after.
            assert!(owned.lock().remove(&id));
            release.add(id, 1).expect("it is in use");
        }
        match random.below(8) {
            0 => {
                // Two groups, the first of which leaves the release pending.
                file.group(Some(ids), None);
                file.group(None, Some(release));
            }
            _ => file.group(Some(ids), Some(release)),
        }
    }
}
