//! A resident page found: by its id, by a swip with a hint, by a swip without one. What it means beside others is told by `micro`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PAGE_HEADER_SIZE, PageId, PageStore};
use pagestone_swip::SwipWord;

const PAGES: u64 = 16_384;

fn pool(criterion: &mut Criterion) {
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(PAGES).expect("memory has room");
    let pool = BufferPool::new(store, PAGES as usize + 64);
    let mut swips = Vec::new();
    for id in (0..PAGES).map(PageId::new) {
        let page = pool.new_page(id).expect("a page");
        page.write().expect("write").payload_mut()[..8].copy_from_slice(&id.get().to_le_bytes());
        swips.push(SwipWord::new(id).expect("a swip").with_hint(pool.fault(id).expect("resident").frame()));
    }
    let mut next = 0;
    // A step that has no divisor in common with the number of pages: every page comes up, neighbours never.
    let mut visit = move || {
        next = (next + 6_151) % PAGES;
        next
    };
    let mut group = criterion.benchmark_group("resident page");
    group.bench_function("fetch", |bencher| {
        bencher.iter(|| pool.fetch(black_box(PageId::new(visit()))).expect("resident").id());
    });
    let read = |swip: SwipWord| {
        let page = pool.resolve(black_box(swip)).expect("resident");
        let number = page.page().word(PAGE_HEADER_SIZE / 8).expect("a word");
        page.validate().expect("nobody writes");
        assert_eq!(number, swip.page_id().get());
    };
    group.bench_function("word by a swip with a hint", |bencher| {
        bencher.iter(|| read(swips[visit() as usize]));
    });
    group.bench_function("word by a swip without a hint", |bencher| {
        bencher.iter(|| read(swips[visit() as usize].without_hint()));
    });
    group.finish();
}

criterion_group!(benches, pool);
criterion_main!(benches);
