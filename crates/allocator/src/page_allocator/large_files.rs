//! Files of many regions: what a call reads and writes, and that the ids stay right when the root gets levels under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore,
};

use super::PageAllocator;
use super::entry::Entry;
use super::layout::{HEAD_PAGES, Layout, Node, ROOTS};
use super::pages::{Root, encode_index, encode_map};

/// Pages in memory, and how many were read and written.
#[derive(Debug)]
struct Counted {
    pages: MemoryStore,
    read: AtomicU64,
    written: AtomicU64,
}

impl Counted {
    fn new() -> Arc<Self> {
        let pages = MemoryStore::new(DEFAULT_PAGE_SIZE);
        Arc::new(Self { pages, read: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    /// Pages read and written since the last call.
    fn took(&self) -> (u64, u64) {
        (self.read.swap(0, Relaxed), self.written.swap(0, Relaxed))
    }
}

impl PageStore for Counted {
    fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.read.fetch_add(1, Relaxed);
        self.pages.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.written.fetch_add(1, Relaxed);
        self.pages.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        self.pages.sync()
    }
    fn len(&self) -> PageResult<u64> {
        self.pages.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.pages.grow(pages)
    }
}

/// A file of 2^33 pages, all in use but the last hundred: the root, two index pages and two maps are all that is there.
fn huge(store: &Counted, layout: &Layout) -> u64 {
    let regions = (1_u64 << 33).div_ceil(layout.bits);
    let levels = 2;
    assert!(regions > layout.span(levels), "the levels are needed");
    store.grow(regions * layout.bits).expect("memory has room");
    let full = |level| Entry::new(0, 1, layout.span(level) * layout.bits);
    let last = regions - 1;
    let high_water = regions * layout.bits - 100;
    let mut bits = vec![u64::MAX; (layout.bits / 64) as usize];
    let tail = bits.len() - 2;
    bits[tail] >>= 100 - 64;
    bits[tail + 1] = 0;
    let mut below = Entry::new(0, 1, layout.bits - 100);
    let write = |mut page: Page| store.write_page(&mut page).expect("written");
    write(encode_map(store, layout.page(Node { level: 0, number: last }, 0), last, 1, &bits));
    for level in 1..=levels {
        let node = Node { level, number: last / layout.span(level) };
        let at = last / layout.span(level - 1) % layout.fanout;
        let mut entries = vec![full(level - 1); at as usize];
        entries.push(below);
        below = Entry::new(0, 1, entries.iter().map(|entry| entry.used()).sum());
        write(encode_index(store, layout.page(node, 0), node, 1, &entries));
    }
    let mut entries = vec![full(levels); (last / layout.span(levels)) as usize];
    entries.push(below);
    let in_use = high_water - layout.own_below(regions * layout.bits);
    let root = Root { generation: 1, regions, levels, high_water, in_use, entries };
    ROOTS.into_iter().for_each(|id| write(root.encode(store, id)));
    store.took();
    high_water
}

#[test]
fn past_two_to_the_32_no_call_costs_more() {
    let (store, layout) = (Counted::new(), Layout::new(DEFAULT_PAGE_SIZE));
    let high = huge(&store, &layout);
    assert!(high > 1 << 32);
    let allocator = PageAllocator::new(Arc::clone(&store)).expect("it is there");
    assert_eq!(store.took(), (4, 0), "both roots, looked at and read");
    assert_eq!((allocator.high_water(), allocator.free_count()), (high, 0));
    assert_eq!(allocator.allocate().expect("behind the last").get(), high);
    assert_eq!(store.took(), (3, 0), "two index pages and the last map");
    assert_eq!(allocator.allocate_extent(99).expect("to the end of the region").get(), high + 1);
    let far = PageId::new(high + 50);
    allocator.free(far).expect("it is ours");
    allocator.sync().expect("durable");
    assert_eq!(store.took(), (0, 5), "a map, two index pages, two roots");
    // The next id stands in a new region.
    let taken = [allocator.allocate().expect("an id"), allocator.allocate().expect("an id")];
    assert_eq!(taken[0], far, "the one that was freed before it was known");
    assert_eq!(taken[1].get(), high + 100);
    allocator.sync().expect("durable");
    assert_eq!(store.took(), (0, 6), "two maps");
    assert!(matches!(allocator.free(far), Ok(())) && allocator.free(far).is_err());
    drop(allocator);
    let again = PageAllocator::new(Arc::clone(&store)).expect("it is there");
    assert_eq!((again.high_water(), again.free_count()), (high + 101, 0));
    assert!(again.is_allocated(far).expect("its map"));
    assert!(matches!(
        again.free(PageId::new(5)),
        Err(PageError::BadMagic { .. } | PageError::Malformed { .. })
    ));
}

#[test]
fn levels_come_under_the_root_as_the_file_grows() {
    // Two entries a page: a level more at three and at five regions, eight in all.
    let layout = Layout { fanout: 2, ..Layout::new(DEFAULT_PAGE_SIZE) };
    let store = Counted::new();
    let open = || PageAllocator::with_layout(Box::new(Arc::clone(&store)), layout).expect("it is there");
    let mut allocator = open();
    let mut runs = vec![];
    for region in 1..=8 {
        let count = if region == 8 { 1000 } else { layout.bits as u32 - 100 };
        runs.push((allocator.allocate_extent(count).expect("room"), count));
        runs.push((allocator.allocate_extent(3).expect("room"), 3));
        allocator.sync().expect("durable");
        allocator = open();
        let in_use: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
        let high = allocator.high_water();
        assert_eq!(allocator.free_count(), high - layout.own_below(high) - in_use);
        for (first, count) in &runs {
            for id in [first.get(), first.get() + u64::from(*count) - 1] {
                assert!(allocator.is_allocated(PageId::new(id)).expect("its map"), "{id}");
            }
        }
    }
    assert!(allocator.high_water() > 7 * layout.bits && allocator.high_water() < layout.end());
    let error = allocator.allocate_extent(layout.bits as u32 - 2).expect_err("there is no ninth region");
    assert!(matches!(error, PageError::NoSpace { .. }), "{error}");
    // What is freed anywhere is found, the lowest first, and full regions are not read.
    let (first, count) = runs[4];
    allocator.free_extent(first, count).expect("in use");
    allocator.sync().expect("durable");
    allocator = open();
    store.took();
    let ids = std::iter::from_fn(|| Some(allocator.allocate().expect("an id").get()));
    let lowest = ids.take_while(|id| *id < first.get()).count() as u64;
    assert!(lowest < 7 * 100 + HEAD_PAGES, "{lowest} were left between");
    for (first, count) in runs.drain(..).filter(|run| *run != (first, count)) {
        allocator.free_extent(first, count).expect("in use");
    }
    allocator.sync().expect("durable");
    assert!(allocator.high_water() < 4 * layout.bits, "the tail is let go of");
}
